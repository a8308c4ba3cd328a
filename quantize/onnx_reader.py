"""Reads a float32 ONNX into a :class:`FloatGraph`, or says which node it cannot take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import Window
from policyport.core.task import StateVector
from policyport.quantize.affine import Affine
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import (
    AveragePool,
    Concat,
    Convolution,
    Function,
    Linear,
    MaxPool,
    Pad,
    Pointwise,
    Product,
    Resize,
    Softmax,
    Sum,
    TransposedConvolution,
    clip,
)
from policyport.quantize.observation_parts import split_joined
from policyport.quantize.onnx_builder import Builder, Value
from policyport.quantize.onnx_file import PASSED_OVER, open_onnx, per_channel
from policyport.quantize.onnx_functions import FUNCTIONS, read_function
from policyport.quantize.onnx_moves import (
    read_gather,
    read_reshape,
    read_slice,
    read_split,
    read_transpose,
    reshaped,
)
from policyport.quantize.onnx_recurrent import read_gru, read_lstm
from policyport.quantize.onnx_windows import joined_pads, read_margin, read_size, read_window

Reals = NDArray[np.float64]


def read_onnx(path: Path, state: Sequence[StateVector] = (), model: Any | None = None) -> FloatGraph:
    """A float32 ONNX file as a graph.

    Operators by constants before everything else are the host's part; batch normalization and other
    operators by a constant for each channel go into the weights before or behind them; functions and
    margins into the operator they belong to. A recurrent network has the state behind the observation, and the state
    of the step after behind the output.

    :param state: of a recurrent network, as its task has it
    :param model: the ``onnx.ModelProto`` of a file in another format, where it is made already
    :raises ArtifactError: the file is missing, torn or no ONNX
    :raises UnsupportedModelError: the model is quantized already; or an operator, an attribute or a
        topology that is not supported: the node is named, and what is supported
    """
    file = open_onnx(path, state, model)
    build = Builder(file)
    for node in file.nodes:
        _take(build, node)
    return split_joined(build.finish())


def _take(build: Builder, node: Any) -> None:
    """Append one node of the file."""
    if node.op_type == "Shape" and node.input[0] in build.values:
        start, end = build.file.attribute(node, "start", 0), build.file.attribute(node, "end")
        build.file.constants[node.output[0]] = np.array(build.values[node.input[0]].file_shape[start:end], np.int64)
        return
    if build.file.fold(node):
        return
    reader = READERS.get(node.op_type)
    if reader is None:
        raise build.file.refuse(
            node, "operator that the integer semantics do not cover", expected=SUPPORTED, got=node.op_type
        )
    read = reader(build, node)
    values = read if isinstance(read, tuple) else (read,)
    build.values.update((name, value) for name, value in zip(node.output, values, strict=False) if name)


def _gemm(build: Builder, node: Any) -> Value:
    """Gemm and MatMul."""
    value, weights = build.observed(node), build.file.constant(node, 1)
    if weights is None or weights.ndim != 2 or len(value.shape) != 1 or build.file.attribute(node, "transA", 0):
        raise build.file.refuse(
            node,
            "a product that is no fully connected layer",
            expected="[n, features] times a constant matrix, without transA",
            got=f"{value.file_shape} times {None if weights is None else weights.shape}",
            cure="put a Flatten before it",
        )
    matrix = weights.astype(np.float64) * build.file.attribute(node, "alpha", 1.0)
    matrix = matrix if build.file.attribute(node, "transB", 0) else matrix.T
    if matrix.shape[1] != value.shape[0]:
        got = matrix.shape[1]
        raise build.file.refuse(node, "weights of another size", expected=f"{value.shape[0]} inputs", got=got)
    bias = _bias(build, node, len(matrix)) * build.file.attribute(node, "beta", 1.0)
    name = node.output[0]
    if value.part is not None:
        return build.dense(name, build.value(node), matrix, bias)
    layer = Linear(name=name, inputs=(value.name,), linear_name=name, weights=matrix, bias=bias)
    return build.layer(node, value, layer)


def _bias(build: Builder, node: Any, outputs: int) -> Reals:
    given = build.file.constant(node, 2)
    if given is None:
        return np.zeros(outputs)
    vector = per_channel(given, (outputs,), False)
    if vector is None:
        raise build.file.refuse(node, "a bias of another shape", expected=f"({outputs},)", got=given.shape)
    return vector


def _convolution(build: Builder, node: Any) -> Value:
    """Conv and ConvTranspose; a margin of zeros before a Conv becomes its padding."""
    value = build.image(node)
    weights, groups = build.file.constant(node, 1), int(build.file.attribute(node, "group", 1))
    assert weights is not None
    window = read_window(build.file, node, weights.shape[2:], value.shape[1:])
    taps = weights.astype(np.float64)
    transposed = node.op_type == "ConvTranspose"
    if transposed:
        inputs, share = taps.shape[:2]
        taps = taps.reshape(groups, inputs // groups, share, *taps.shape[2:]).transpose(0, 2, 1, 3, 4)
        taps = taps.reshape(groups * share, inputs // groups, *weights.shape[2:])
    if taps.shape[1] * groups != value.shape[0]:
        raise build.file.refuse(
            node, "weights of another size", expected=f"{value.shape[0]} channels", got=taps.shape[1] * groups
        )
    margin = build.nodes.get(value.name)
    source = value.name
    if isinstance(margin, Pad) and value.alone and not transposed:
        del build.nodes[value.name]
        source = margin.inputs[0]
        window = joined_pads(window, margin.pads)
    if value.affine is not None and ((np.any(value.affine.shift) and any(window.pads)) or transposed):
        value = build.settled(value, f"{node.output[0]}_operand0")
        source = value.name
    name = node.output[0]
    common: dict[str, Any] = {
        "name": name,
        "inputs": (source,),
        "linear_name": name,
        "weights": taps,
        "bias": _bias(build, node, len(taps)),
        "window": window,
        "groups": groups,
    }
    if not transposed:
        return build.layer(node, value, Convolution(**common))
    down, across = (int(x) for x in build.file.attribute(node, "output_padding", [0, 0]))
    if build.file.attribute(node, "output_shape") is not None:
        raise build.file.refuse(node, "a result of a given size", expected="pads and output_padding")
    return build.layer(node, value, TransposedConvolution(**common, output_padding=(down, across)))


def _normalization(build: Builder, node: Any) -> Value:
    """BatchNormalization as it is when nothing trains."""
    value = build.whole(node)
    scale, shift, mean, variance = (
        np.asarray(build.file.constant(node, i), np.float64).reshape(-1) for i in range(1, 5)
    )
    slope = scale / np.sqrt(variance + build.file.attribute(node, "epsilon", 1e-5))
    return build.affine(node, value, Affine(slope, shift - mean * slope))


def _scaler(build: Builder, node: Any) -> Value:
    """Scaler of ai.onnx.ml, as scikit-learn's pipelines have it: ``(x - offset) * scale``."""
    value = build.whole(node)
    offset, scale = (
        np.broadcast_to(np.asarray(build.file.attribute(node, name), np.float64), value.shape[:1])
        for name in ("offset", "scale")
    )
    return build.affine(node, value, Affine(scale, -offset * scale))


def _arithmetic(build: Builder, node: Any) -> Value:
    """Add, Sub, Mul and Div: by a constant, or of two tensors."""
    constant = [i for i, name in enumerate(node.input) if name in build.file.constants]
    if constant:
        return _by_constant(build, node, constant[0])
    if node.op_type == "Mul":
        return _product(build, node)
    if node.op_type == "Div":
        raise build.file.refuse(node, "division of one tensor by another")
    return _sum(build, node, (1, -1) if node.op_type == "Sub" else (1,) * len(node.input))


def _by_constant(build: Builder, node: Any, index: int) -> Value:
    value = build.observed(node, 1 - index)
    given = build.file.constants[node.input[index]]
    vector = per_channel(given, value.shape, value.last)
    if vector is None:
        got = given.shape
        raise build.file.refuse(node, "a constant that is not one for each channel", expected=value.shape, got=got)
    if node.op_type == "Div" and (index == 0 or np.any(vector == 0)):
        raise build.file.refuse(node, "division of a constant, or by zero")
    if value.name == build.file.input_name and node.op_type == "Mul" and np.any(vector == 0):
        raise build.file.refuse(node, "a feature is multiplied by zero", cure="leave that feature out")
    return build.affine(node, value, Affine.of(node.op_type, vector, reverse=index == 0))


def _sum(build: Builder, node: Any, signs: tuple[int, ...]) -> Value:
    """The sum of tensors of one shape."""
    values = [build.plain(node, i) for i in range(len(signs))]
    if len({(value.shape, value.last) for value in values}) > 1:
        got = ", ".join(str(value.file_shape) for value in values)
        raise build.file.refuse(node, "a sum of tensors of different shape", got=got)
    total = Sum(name=node.output[0], inputs=tuple(value.name for value in values), signs=signs)
    return build.put(total, values[0].last)


def _product(build: Builder, node: Any) -> Value:
    """The product of two tensors; of one with its own sigmoid, a function."""
    pair = [build.whole(node, i) for i in range(2)]
    for x, gate in (pair, pair[::-1]):
        fused = _gated(build, node, x, gate)
        if fused is not None:
            return fused
    a, b = sorted((build.plain(node, i) for i in range(2)), key=lambda value: -prod(value.shape))
    if a.last != b.last or b.shape not in (a.shape, (a.shape[0], 1, 1)):
        got = f"{a.file_shape} and {b.file_shape}"
        raise build.file.refuse(node, "a product of tensors of different shape", got=got)
    return build.put(Product(name=node.output[0], inputs=(a.name, b.name)), a.last)


def _gated(build: Builder, node: Any, x: Value, gate: Value) -> Value | None:
    """``x * Sigmoid(x)`` as Silu, ``x * HardSigmoid(x)`` as HardSwish; a scale of the gate stays to be done."""
    made = build.nodes.get(gate.name)
    if not isinstance(made, Pointwise) or made.inputs != (x.name,) or not gate.alone or x.affine is not None:
        return None
    name = {"Sigmoid": "Silu", "HardSigmoid": "HardSwish"}.get(made.function.name)
    if name is None or (gate.affine is not None and np.any(gate.affine.shift)):
        return None
    del build.nodes[gate.name]
    alone = build.file.reader_counts[x.name] == 2
    return replace(build.function(node, replace(x, alone=alone), Function(name)), affine=gate.affine)


def _pointwise(build: Builder, node: Any) -> Value:
    """A function of one value; a clip of the observation is the host's."""
    value, function = build.observed(node), read_function(build.file, node)
    if node.op_type == "Clip" and value.name == build.file.input_name and value.alone and value.affine is None:
        build.head.clip(function.low, function.high)
        return value
    value = build.apart(value, f"{node.output[0]}_part")
    if value.affine is not None and value.affine.is_shift_by_three and function == clip(0.0, 6.0):
        gate = Pointwise(name=node.output[0], inputs=(value.name,), function=Function("HardSigmoid"))
        size = value.shape[0]
        return replace(build.put(gate, value.last), affine=Affine(np.full(size, 6.0), np.zeros(size)))
    return build.function(node, value, function)


def _pool(build: Builder, node: Any) -> Value:
    """MaxPool and AveragePool."""
    value = build.settled(build.image(node), f"{node.output[0]}_operand0")
    window = read_window(build.file, node, tuple(build.file.attribute(node, "kernel_shape")), value.shape[1:])
    name, inputs = node.output[0], (value.name,)
    if node.op_type == "MaxPool":
        return build.put(MaxPool(name=name, inputs=inputs, window=window))
    counts = bool(build.file.attribute(node, "count_include_pad", 0))
    if counts and build.file.attribute(node, "ceil_mode", 0) and any(window.pads):
        raise build.file.refuse(node, "ceil_mode with count_include_pad", expected="one of them")
    return build.put(AveragePool(name=name, inputs=inputs, window=window, count_padding=counts))


def _global_average(build: Builder, node: Any) -> Value:
    """GlobalAveragePool, and ReduceMean over height and width."""
    value = build.plain(node)
    axes = [1, 2] if value.last else [2, 3]
    keeps = True
    if node.op_type == "ReduceMean":
        given = build.file.constant(node, 1) if build.file.opset >= 18 else build.file.attribute(node, "axes")
        keeps = bool(build.file.attribute(node, "keepdims", 1))
        if len(value.shape) != 3 or given is None or sorted(int(a) % 4 for a in given) != axes:
            raise build.file.refuse(node, "a mean over other axes", expected=f"height and width: {axes}", got=given)
    if len(value.shape) != 3:
        raise build.file.refuse(node, "the input must be an image", got=value.file_shape)
    name = node.output[0] if keeps else f"{node.output[0]}_pooled"
    window = Window((value.shape[1], value.shape[2]))
    pooled = build.put(AveragePool(name=name, inputs=(value.name,), window=window), value.last)
    return pooled if keeps else reshaped(build, node, pooled, (value.shape[0],))


def _put_together(build: Builder, node: Any) -> Value | None:
    """The tensor whose parts are all laid side by side in their order; None where they are others."""
    parts = [build.value(node, i) for i in range(len(node.input)) if node.input[i] in build.values]
    ranges = [value.part for value in parts]
    names = {value.name for value in parts}
    if len(parts) != len(node.input) or len(names) != 1:
        return None
    size = build.shapes[parts[0].name][0]
    joints = [0, *(part[1] for part in ranges if part is not None)]
    if [part and part[0] for part in ranges] != joints[:-1] or joints[-1] != size:
        return None
    return replace(parts[0], shape=(size,), part=None)


def _concat(build: Builder, node: Any) -> Value:
    """Tensors side by side along channels or features."""
    together = _put_together(build, node)
    if together is not None:
        return together
    values = [build.plain(node, i) for i in range(len(node.input))]
    first = values[0]
    axis = int(build.file.attribute(node, "axis")) % (len(first.shape) + 1)
    along_channels = axis == (len(first.shape) if first.last else 1)
    if not along_channels or any(v.shape[1:] != first.shape[1:] or v.last != first.last for v in values):
        raise build.file.refuse(node, "tensors laid together along another axis", expected="channels", got=axis)
    return build.put(Concat(name=node.output[0], inputs=tuple(v.name for v in values)), first.last)


def _pad(build: Builder, node: Any) -> Value:
    """A margin of zeros."""
    value = build.plain(node)
    if len(value.shape) != 3:
        raise build.file.refuse(node, "a margin around something other than an image", got=value.file_shape)
    margin = read_margin(build.file, node, value.last)
    return build.put(Pad(name=node.output[0], inputs=(value.name,), pads=margin), value.last)


def _resize(build: Builder, node: Any) -> Value:
    """Resize and Upsample to the nearest pixel."""
    value = build.settled(build.image(node), f"{node.output[0]}_operand0")
    height, width = read_size(build.file, node, (value.shape[1], value.shape[2]))
    return build.put(Resize(name=node.output[0], inputs=(value.name,), height=height, width=width))


def _softmax(build: Builder, node: Any) -> Value:
    """Softmax over the features."""
    value = build.plain(node)
    axis = int(build.file.attribute(node, "axis", 1 if build.file.opset < 13 else -1))
    if len(value.shape) != 1 or axis not in (1, -1):
        raise build.file.refuse(node, "a softmax over something other than features", got=value.file_shape)
    return build.put(Softmax(name=node.output[0], inputs=(value.name,)))


READERS: dict[str, Callable[[Builder, Any], Value | tuple[Value, ...]]] = {
    **dict.fromkeys(("Gemm", "MatMul"), _gemm),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), _arithmetic),
    **dict.fromkeys(FUNCTIONS, _pointwise),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _global_average),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), read_reshape),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "BatchNormalization": _normalization,
    "Concat": _concat,
    "GRU": read_gru,
    "Gather": read_gather,
    "LSTM": read_lstm,
    "Split": read_split,
    "Transpose": read_transpose,
    "Pad": _pad,
    "Scaler": _scaler,
    "Slice": read_slice,
    "Softmax": _softmax,
}
"""Which of these functions takes an operator."""

SUPPORTED = ", ".join(sorted((*READERS, *PASSED_OVER)))
