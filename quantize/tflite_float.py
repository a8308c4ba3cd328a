"""A float32 TFLite file as ONNX: what the quantize stage reads, and keeps beside the quantized network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.tflite_file import FileTensor, Operator, TFLiteFile, read_tflite

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)

ACTIVATIONS = {0: "", 1: "Relu", 2: "Clip", 3: "Clip"}
"""Of each ActivationFunctionType; of Clip the bounds are in :data:`BOUNDS`."""

BOUNDS = {2: (-1.0, 1.0), 3: (0.0, 6.0)}

OPSET = 18


def onnx_of_tflite(path: Path) -> Any:
    """The file as an ``onnx.ModelProto``, images with channels last as the file has them; the batch is left open.

    :raises ArtifactError: missing, torn, or no TFLite
    :raises UnsupportedModelError: tensors that are not float32, or an operator that is not read; it is named
    """
    import onnx
    from onnx import helper

    writer = _Writer(read_tflite(path))
    ends = []
    for numbers, what in ((writer.file.inputs, "input"), (writer.file.outputs, "output")):
        if len(numbers) != 1:
            raise UnsupportedModelError(f"the network must have one {what}", where=path, expected=1, got=len(numbers))
        tensor = writer.file.tensors[numbers[0]]
        if tensor.type != "float32":
            raise UnsupportedModelError(
                "the model is quantized already",
                where=f"{path}, tensor {tensor.name!r}",
                expected="a float32 model",
                got=tensor.type,
                cure=f"give it to the next stage: policyport deploy {path}",
            )
        shape = ["N", *tensor.shape[1:]]
        ends.append(helper.make_tensor_value_info(writer.name(numbers[0]), onnx.TensorProto.FLOAT, shape))
    for operator in writer.file.operators:
        writer.take(operator)
    graph = helper.make_graph(writer.nodes, path.stem, ends[:1], ends[1:], writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 10
    return model


class _Writer:
    """The nodes and constants of the ONNX graph, operator by operator."""

    def __init__(self, file: TFLiteFile) -> None:
        self.file = file
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def name(self, number: int) -> str:
        """A name of a tensor's own: TFLite's need not differ."""
        return f"t{number}_{self.file.tensors[number].name}"

    def take(self, operator: Operator) -> None:
        """Write one operator."""
        write = WRITERS.get(operator.name)
        if write is None:
            raise self.refuse(operator, "operator that the quantize stage does not read", ", ".join(sorted(WRITERS)))
        write(self, operator)

    def refuse(self, operator: Operator, what: str, expected: str) -> UnsupportedModelError:
        """An error that names the operator."""
        where = f"{self.file.path.name}, tensor {self.file.tensors[operator.outputs[0]].name!r}"
        return UnsupportedModelError(what, where=where, expected=expected, got=operator.name)

    def constant(self, operator: Operator, index: int) -> NDArray[Any] | None:
        """A constant operand; None where it is left out."""
        number = operator.inputs[index] if index < len(operator.inputs) else -1
        if number < 0:
            return None
        data = self.file.tensors[number].data
        if data is None:
            raise self.refuse(operator, "an operand that is not constant", "constant weights")
        return data

    def keep(self, values: NDArray[Any], hint: str) -> str:
        """A constant of the graph; its name."""
        from onnx import numpy_helper

        name = f"{hint}_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """A node; the name of its output."""
        from onnx import helper

        output = output or f"n{len(self.nodes)}_{kind.lower()}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def operand(self, operator: Operator, index: int = 0) -> str:
        """The name of an operand, kept as a constant where it is one."""
        number = operator.inputs[index]
        data = self.file.tensors[number].data
        return self.name(number) if data is None else self.keep(data, "value")

    def shape(self, operator: Operator, index: int = 0) -> tuple[int, ...]:
        return self.file.tensors[operator.inputs[index]].shape

    def finish(self, operator: Operator, value: str, activation: int) -> None:
        """The operator's output: a value behind its activation."""
        if activation not in ACTIVATIONS:
            raise self.refuse(operator, f"fused activation number {activation}", "none, ReLU, ReLU6, ReLU to 1")
        target, kind = self.name(operator.outputs[0]), ACTIVATIONS[activation]
        bounds = [self.keep(np.array(bound, np.float32), "bound") for bound in BOUNDS.get(activation, ())]
        self.node(kind or "Identity", [value, *bounds], target)


def _fully_connected(writer: _Writer, operator: Operator) -> None:
    weights = _weights(writer, operator)
    value = writer.operand(operator)
    if len(writer.shape(operator)) != 2:
        value = writer.node("Flatten", [value])
    inputs = [value, writer.keep(weights, "weights"), *_bias(writer, operator)]
    writer.finish(operator, writer.node("Gemm", inputs, transB=1), operator.options.integer(0, bits=8))


def _convolution(writer: _Writer, operator: Operator) -> None:
    """CONV_2D and DEPTHWISE_CONV_2D."""
    options, weights = operator.options, _weights(writer, operator)
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    late = 1 if depthwise else 0  # the multiplier's slot comes before
    channels = writer.shape(operator)[-1]
    inputs = [
        writer.node("Transpose", [writer.operand(operator)], perm=TO_FIRST),
        writer.keep(weights.transpose((3, 0, 1, 2) if depthwise else TO_FIRST), "weights"),
        *_bias(writer, operator),
    ]
    value = writer.node(
        "Conv",
        inputs,
        kernel_shape=weights.shape[1:3],
        strides=[options.integer(2, 1), options.integer(1, 1)],
        dilations=[options.integer(5 + late, 1), options.integer(4 + late, 1)],
        group=channels if depthwise else channels // weights.shape[3],
        auto_pad=_padding(options.integer(0, bits=8)),
    )
    writer.finish(operator, writer.node("Transpose", [value], perm=TO_LAST), options.integer(3 + late, bits=8))


def _pool(writer: _Writer, operator: Operator) -> None:
    """AVERAGE_POOL_2D, which leaves padding out of its means, and MAX_POOL_2D."""
    options, average = operator.options, operator.name == "AVERAGE_POOL_2D"
    counted: dict[str, Any] = {"count_include_pad": 0} if average else {}
    value = writer.node(
        "AveragePool" if average else "MaxPool",
        [writer.node("Transpose", [writer.operand(operator)], perm=TO_FIRST)],
        kernel_shape=[options.integer(4), options.integer(3)],
        strides=[options.integer(2, 1), options.integer(1, 1)],
        auto_pad=_padding(options.integer(0, bits=8)),
        **counted,
    )
    writer.finish(operator, writer.node("Transpose", [value], perm=TO_LAST), options.integer(5, bits=8))


def _mean(writer: _Writer, operator: Operator) -> None:
    """MEAN over the image."""
    axes = writer.constant(operator, 1)
    if axes is None or sorted(np.ravel(axes) % 4) != [1, 2] or len(writer.shape(operator)) != 4:
        raise writer.refuse(operator, "a mean that is not over the image", "axes 1 and 2 of [n, h, w, channels]")
    value = writer.node("Transpose", [writer.operand(operator)], perm=TO_FIRST)
    value = writer.node("GlobalAveragePool", [value])
    kept = len(writer.file.tensors[operator.outputs[0]].shape) == 4
    writer.finish(
        operator, writer.node("Transpose", [value], perm=TO_LAST) if kept else writer.node("Flatten", [value]), 0
    )


def _reshape(writer: _Writer, operator: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS."""
    shape = np.array([0, *writer.file.tensors[operator.outputs[0]].shape[1:]], np.int64)
    writer.finish(operator, writer.node("Reshape", [writer.operand(operator), writer.keep(shape, "shape")]), 0)


def _pad(writer: _Writer, operator: Operator) -> None:
    margins = writer.constant(operator, 1)
    assert margins is not None
    pads = writer.keep(margins.T.reshape(-1).astype(np.int64), "pads")
    writer.finish(operator, writer.node("Pad", [writer.operand(operator), pads]), 0)


def _concatenation(writer: _Writer, operator: Operator) -> None:
    operands = [writer.operand(operator, index) for index in range(len(operator.inputs))]
    value = writer.node("Concat", operands, axis=operator.options.integer(0))
    writer.finish(operator, value, operator.options.integer(1, bits=8))


def _binary(kind: str) -> Callable[[_Writer, Operator], None]:
    def write(writer: _Writer, operator: Operator) -> None:
        value = writer.node(kind, [writer.operand(operator, 0), writer.operand(operator, 1)])
        writer.finish(operator, value, operator.options.integer(0, bits=8))

    return write


def _unary(kind: str, **attributes: Any) -> Callable[[_Writer, Operator], None]:
    def write(writer: _Writer, operator: Operator) -> None:
        writer.finish(operator, writer.node(kind, [writer.operand(operator)], **attributes), 0)

    return write


def _relu6(writer: _Writer, operator: Operator) -> None:
    writer.finish(operator, writer.operand(operator), 3)


def _weights(writer: _Writer, operator: Operator) -> NDArray[Any]:
    """Weights as float32; int8 ones of a file that is quantized in its weights alone stand for theirs."""
    weights, tensor = writer.constant(operator, 1), writer.file.tensors[operator.inputs[1]]
    if weights is None or (tensor.type != "float32" and not tensor.scale.size):
        raise writer.refuse(operator, f"weights of type {tensor.type}", "float32, or int8 with their scales")
    return weights if tensor.type == "float32" else _reals(weights, tensor)


def _reals(weights: NDArray[Any], tensor: FileTensor) -> NDArray[np.float32]:
    shape = [1] * weights.ndim
    shape[tensor.axis] = -1
    scale, zero_point = tensor.scale.reshape(shape), tensor.zero_point.reshape(shape)
    return np.asarray(scale * (weights - zero_point), np.float32)


def _bias(writer: _Writer, operator: Operator) -> list[str]:
    bias = writer.constant(operator, 2)
    return [] if bias is None else [writer.keep(bias, "bias")]


def _padding(kind: int) -> str:
    return "SAME_UPPER" if kind == 0 else "VALID"


WRITERS: dict[str, Callable[[_Writer, Operator], None]] = {
    "ADD": _binary("Add"),
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": _unary("HardSwish"),
    "LOGISTIC": _unary("Sigmoid"),
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "MUL": _binary("Mul"),
    "PAD": _pad,
    "RELU": _unary("Relu"),
    "RELU6": _relu6,
    "RESHAPE": _reshape,
    "SOFTMAX": _unary("Softmax", axis=-1),
    "SQUEEZE": _reshape,
    "SUB": _binary("Sub"),
    "TANH": _unary("Tanh"),
}
