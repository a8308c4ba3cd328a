"""A program's integers as QDQ ONNX: any runtime opens it, and the lowering reads the same integers back.

Images have channels first in the file. Each activation is a QuantizeLinear and a DequantizeLinear; its
integers are called ``<name>_quantized``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import activation_range, leaky_slope
from policyport.deploy.layers import (
    Add,
    Affine,
    Argmax,
    Concat,
    Conv2d,
    FullyConnected,
    Layer,
    Lookup,
    Multiply,
    Pad,
    Pool,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    TransposedConv2d,
)
from policyport.deploy.program import Program

OPSET = 21
"""The first opset whose QuantizeLinear and DequantizeLinear take int16 and int4."""

IR_VERSION = 10
"""The ONNX file format that came with opset 21."""

CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]

ATTRIBUTES: dict[str, dict[str, Any]] = {"HardSigmoid": {"alpha": 1 / 6, "beta": 0.5}}
"""Of functions whose ONNX default is another."""


def onnx_bytes(program: Program) -> bytes:
    """The program as the content of a QDQ ``.onnx`` file with a batch axis of any size.

    :raises UnsupportedModelError: scales that ONNX has no place for
    """
    import onnx

    writer = _Writer()
    shape = program.host_input.shape or (program.input.size,)
    writer.known[program.input.name] = writer.pair(writer.host(program), program.input)
    if program.host_input.order == "HWC":
        name = writer.known[program.input.name]
        writer.known[program.input.name] = writer.node("Transpose", [name], perm=CHANNELS_FIRST)
    for layer in program.layers:
        writer.known[layer.output.name] = _WRITERS[type(layer)](writer, layer)
    output = writer.known[program.output.name]
    if len(program.output.shape) == 3 and program.output_order == "HWC":
        output = writer.node("Transpose", [output], perm=CHANNELS_LAST)
    graph = onnx.helper.make_graph(
        writer.nodes,
        program.name,
        [onnx.helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, ["N", *shape])],
        [onnx.helper.make_empty_tensor_value_info(output)],
        writer.initializers,
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, producer_name="policyport", opset_imports=opset, ir_version=IR_VERSION)
    return bytes(onnx.shape_inference.infer_shapes(model, strict_mode=True).SerializeToString())


class _Writer:
    """Nodes and initializers in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.known: dict[str, str] = {}
        """The dequantized value of each activation, by its name."""

    def constant(self, value: NDArray[Any]) -> str:
        """An initializer; its name."""
        import onnx

        name = f"constant_{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node; its output's name."""
        import onnx

        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=f"{output}/{operator}", **attributes))
        return output

    def pair(self, real: str, tensor: Tensor) -> str:
        """QuantizeLinear and DequantizeLinear of an activation."""
        scale = self.constant(np.array(tensor.scale, np.float32))
        zero_point = self.constant(np.array(tensor.zero_point, f"int{tensor.bits}"))
        quantized = self.node("QuantizeLinear", [real, scale, zero_point], f"{tensor.name}_quantized")
        return self.node("DequantizeLinear", [quantized, scale, zero_point], f"{tensor.name}_dequantized")

    def clamped(self, real: str, tensor: Tensor) -> str:
        """The activation of a value: its clamp, then its pair."""
        low, high = activation_range(tensor.bits)
        if (tensor.low, tensor.high) == (tensor.zero_point, high) and tensor.low != low:
            real = self.node("Relu", [real])
        elif (tensor.low, tensor.high) != (low, high):
            bounds = [(q - tensor.zero_point) * tensor.scale for q in (tensor.low, tensor.high)]
            real = self.node("Clip", [real, *(self.constant(np.array(bound, np.float32)) for bound in bounds)])
        return self.pair(real, tensor)

    def host(self, program: Program) -> str:
        """The host's part before the first QuantizeLinear."""
        here, host = "observation", program.host_input
        if np.any(host.offset != 0):
            here = self.node("Sub", [here, self.constant(np.asarray(host.offset, np.float32))])
        if np.any(host.gain != 1):
            here = self.node("Mul", [here, self.constant(np.asarray(host.gain, np.float32))])
        if np.isfinite([host.low, host.high]).any():
            bounds = [self.constant(np.array(bound, np.float32)) for bound in (host.low, host.high)]
            here = self.node("Clip", [here, *bounds])
        return here

    def operands(self, layer: Layer) -> list[str]:
        """The dequantized operands of a layer."""
        return [self.known[tensor.name] for tensor in layer.inputs]

    def device_order(self, name: str, tensor: Tensor) -> str:
        """A value with its elements in the device's order."""
        return self.node("Transpose", [name], perm=CHANNELS_LAST) if len(tensor.shape) == 3 else name

    def reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        """A value in another shape."""
        return self.node("Reshape", [name, self.constant(np.array([-1, *shape], np.int64))])


def _affine(writer: _Writer, layer: Affine, values: Any, axis: int) -> list[str]:
    """Operands of an operator with weights: input, weights, bias."""
    scale = layer.weight_scale.astype(np.float32)
    zero = layer.input.zero_point * layer.weights.reshape(len(layer.weights), -1).sum(axis=1)
    per_output = scale if axis == 0 else scale[: values.shape[1]]
    quantized = [_weights(writer, values, layer.weight_bits), writer.constant(per_output)]
    if layer.weight_bits == 8:  # onnxruntime makes a QGemm only of weights that have zero points
        quantized.append(writer.constant(np.zeros(len(per_output), np.int8)))
    weights = writer.node("DequantizeLinear", quantized, axis=axis)
    bias_scale = (layer.input.scale * layer.weight_scale).astype(np.float32)
    integers = writer.constant((layer.bias + zero).astype(np.int32))
    bias = writer.node("DequantizeLinear", [integers, writer.constant(bias_scale)], axis=0)
    return [*writer.operands(layer), weights, bias]


def _weights(writer: _Writer, values: Any, bits: int) -> str:
    """Integers of 8 bits, or of 4 where fewer are enough: ONNX has no type of 3."""
    import onnx

    if bits == 8:
        return writer.constant(values.astype(np.int8))
    name = f"constant_{len(writer.initializers)}"
    tensor = onnx.helper.make_tensor(name, onnx.TensorProto.INT4, values.shape, values.reshape(-1).tolist())
    writer.initializers.append(tensor)
    return name


def _finished(writer: _Writer, layer: Affine, real: str) -> str:
    """Clamp, pair, and the function that a fused table holds."""
    before = writer.clamped(real, layer.before_table)
    return _function(writer, layer.function, before, layer.output) if layer.function else before


def _function(writer: _Writer, function: str, source: str, target: Tensor) -> str:
    if function == "Silu":
        real = writer.node("Mul", [source, writer.node("Sigmoid", [source])])
    elif (slope := leaky_slope(function)) is not None:
        real = writer.node("LeakyRelu", [source], alpha=slope)
    else:
        real = writer.node(function, [source], **ATTRIBUTES.get(function, {}))
    return writer.clamped(real, target)


def _fully_connected(writer: _Writer, layer: FullyConnected) -> str:
    shape, values = layer.input.shape, layer.weights
    if len(shape) == 3:
        values = values.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(len(values), -1)
    source, weights, bias = _affine(writer, layer, values, 0)
    source = writer.node("Flatten", [source]) if len(shape) == 3 else source
    real = writer.node("Gemm", [source, weights, bias], transB=1)
    if len(layer.output.shape) == 3:
        real = writer.node("Transpose", [writer.reshaped(real, layer.output.shape)], perm=CHANNELS_FIRST)
    return _finished(writer, layer, real)


def _window(layer: Conv2d | Pool) -> dict[str, Any]:
    window = layer.window
    attributes = {"strides": list(window.stride), "pads": list(window.pads)}
    if max(window.dilation) == 1:  # the default; onnxruntime's quantized pooling does not take the attribute
        return attributes
    return {**attributes, "dilations": list(window.dilation)}


def _convolution(writer: _Writer, layer: Conv2d) -> str:
    operands = _affine(writer, layer, layer.weights.transpose(0, 3, 1, 2), 0)
    return _finished(writer, layer, writer.node("Conv", operands, group=layer.groups, **_window(layer)))


def _transposed(writer: _Writer, layer: TransposedConv2d) -> str:
    outputs, height, width, depth = layer.weights.shape
    groups = layer.groups
    if np.ptp(layer.weight_scale.reshape(groups, -1), axis=0).any():
        raise UnsupportedModelError(
            "a transposed convolution whose groups have scales of their own, which ONNX has no place for",
            where=layer.name,
            expected="the same scales in each group",
        )
    split = layer.weights.reshape(groups, outputs // groups, height, width, depth).transpose(0, 4, 1, 2, 3)
    operands = _affine(writer, layer, split.reshape(groups * depth, outputs // groups, height, width), 1)
    padding = list(layer.output_padding)
    real = writer.node("ConvTranspose", operands, group=groups, output_padding=padding, **_window(layer))
    return _finished(writer, layer, real)


def _pool(writer: _Writer, layer: Pool) -> str:
    attributes: dict[str, Any] = {"kernel_shape": list(layer.window.kernel), **_window(layer)}
    operator = "MaxPool"
    if layer.kind == "average":
        operator, attributes["count_include_pad"] = "AveragePool", int(layer.count_padding)
    return writer.clamped(writer.node(operator, writer.operands(layer), **attributes), layer.output)


def _add(writer: _Writer, layer: Add) -> str:
    by, terms = layer.by, []
    for name, multiplier, tensor in zip(writer.operands(layer), by.multipliers, layer.inputs, strict=True):
        factor = multiplier / 2.0**by.shift * layer.output.scale / tensor.scale
        near = float(np.sign(factor)) if abs(abs(factor) - 1) < 0.01 else factor
        terms.append((name, near))
    scaled = [
        name if abs(factor) == 1 else writer.node("Mul", [name, writer.constant(np.array(abs(factor), np.float32))])
        for name, factor in terms
    ]
    if len(scaled) == 1:
        return writer.clamped(scaled[0], layer.output)
    return writer.clamped(writer.node("Sub" if terms[1][1] < 0 else "Add", scaled), layer.output)


def _concat(writer: _Writer, layer: Concat) -> str:
    axis = (2, 3, 1)[layer.axis] if len(layer.output.shape) == 3 else 1
    return writer.pair(writer.node("Concat", writer.operands(layer), axis=axis), layer.output)


def _pad(writer: _Writer, layer: Pad) -> str:
    top, left, bottom, right = layer.pads
    pads = writer.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    real = (layer.value - layer.input.zero_point) * layer.input.scale
    operands = [*writer.operands(layer), pads, writer.constant(np.array(real, np.float32))]
    return writer.pair(writer.node("Pad", operands), layer.output)


def _resize(writer: _Writer, layer: Resize) -> str:
    size = writer.constant(np.array(layer.output.shape[:2], np.int64))
    real = writer.node(
        "Resize",
        [*writer.operands(layer), "", "", size],
        axes=[2, 3],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    return writer.pair(real, layer.output)


def _slice(writer: _Writer, layer: Slice) -> str:
    ends = (layer.start, layer.start + layer.output.size, 1)
    bounds = [writer.constant(np.array([end], np.int64)) for end in ends]
    return writer.pair(writer.node("Slice", [*writer.operands(layer), *bounds]), layer.output)


def _moved(writer: _Writer, layer: Transpose | Reshape) -> str:
    """In the device's order, as the device moves it, and back to channels first."""
    here = writer.device_order(writer.operands(layer)[0], layer.input)
    if isinstance(layer, Transpose):
        here = writer.node(
            "Transpose", [writer.reshaped(here, layer.shape)], perm=[0, *(axis + 1 for axis in layer.order)]
        )
    here = writer.reshaped(here, layer.output.shape)
    if len(layer.output.shape) == 3:
        here = writer.node("Transpose", [here], perm=CHANNELS_FIRST)
    return writer.pair(here, layer.output)


def _argmax(writer: _Writer, layer: Argmax) -> str:
    """The index itself, which nothing quantizes."""
    here = writer.device_order(writer.operands(layer)[0], layer.input)
    flat = writer.reshaped(here, (layer.input.size,))
    return writer.node("ArgMax", [flat], f"{layer.output.name}_quantized", axis=1, keepdims=1)


_WRITERS: dict[type[Layer], Callable[[_Writer, Any], str]] = {
    FullyConnected: _fully_connected,
    Conv2d: _convolution,
    TransposedConv2d: _transposed,
    Pool: _pool,
    Add: _add,
    Multiply: lambda writer, layer: writer.clamped(writer.node("Mul", writer.operands(layer)), layer.output),
    Lookup: lambda writer, layer: _function(writer, layer.function, writer.operands(layer)[0], layer.output),
    Softmax: lambda writer, layer: writer.pair(writer.node("Softmax", writer.operands(layer), axis=1), layer.output),
    Argmax: _argmax,
    Concat: _concat,
    Pad: _pad,
    Resize: _resize,
    Slice: _slice,
    Transpose: _moved,
    Reshape: _moved,
}
