"""A program's integers as a TFLite file.

The file's input and output are the integer tensors: what the host does to an observation stays outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from policyport.core import semantics
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
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
from policyport.deploy.tflite_writer import Fields, TFLiteWriter

FUNCTIONS = {
    "Tanh": "TANH",
    "Sigmoid": "LOGISTIC",
    "Relu": "RELU",
    "HardSwish": "HARD_SWISH",
    "Elu": "ELU",
}
"""TFLite's operator for each function that it has, but for LeakyRelu, whose slope is an option."""

DEMANDED = {
    ("Tanh", 8): (1 / 128, 0),
    ("Tanh", 16): (1 / 32768, 0),
    ("Sigmoid", 8): (1 / 256, -128),
    ("Sigmoid", 16): (1 / 32768, 0),
}
"""Scale and zero point of a function's result that TFLite's kernels take, by function and bits."""

FUSED_NONE, FUSED_RELU, FUSED_RELU6 = 0, 1, 3
"""ActivationFunctionType"""

SAME, VALID = 0, 1
"""Padding"""

Known = dict[str, int]
"""Number of each activation in the file, by name."""


def tflite_bytes(program: Program) -> bytes:
    """The program as the content of a ``.tflite`` file.

    :raises UnsupportedModelError: a layer, a clamp or a padding that TFLite has no operator for
    """
    writer = TFLiteWriter()
    known = {program.input.name: writer.activation(program.input)}
    for layer in program.layers:
        known[layer.output.name] = _WRITERS[type(layer)](writer, layer, known)
    return writer.finish([known[program.input.name]], [known[program.output.name]], program.name)


def _refused(what: str, layer: Layer, **details: object) -> UnsupportedModelError:
    return UnsupportedModelError(what, where=layer.name, **details)  # type: ignore[arg-type]


def _check_widths(layer: Layer, tensor: Tensor) -> None:
    """Refuse operands of another width than the result: TFLite has no such operators."""
    for operand in layer.inputs:
        if operand.bits != tensor.bits:
            raise _refused(
                "TFLite has no operator between activations of two widths",
                layer,
                expected=f"int{operand.bits}",
                got=f"int{tensor.bits}",
            )


def _affine(writer: TFLiteWriter, layer: Affine, weights: Any, axis: int) -> tuple[int, int, int]:
    """Numbers of the weights, the bias, and the activation before a fused table."""
    _check_widths(layer, layer.before_table)
    zero = layer.input.zero_point * layer.weights.reshape(len(layer.weights), -1).sum(axis=1)
    bias_type = np.int32 if layer.input.bits == 8 else np.int64
    none = np.zeros_like(layer.bias)
    scale = layer.weight_scale
    return (
        writer.constant(f"{layer.name}.weight", weights.astype(np.int8), scale, none, axis),
        writer.constant(f"{layer.name}.bias", (layer.bias + zero).astype(bias_type), scale * layer.input.scale, none),
        writer.activation(_clamp(layer.before_table).tensor),
    )


def _function(writer: TFLiteWriter, layer: Affine | Lookup, source: int) -> int:
    """The function behind a layer, or a lookup of its own; the number of what it yields."""
    if isinstance(layer, Affine):
        source = _limited(writer, source, layer.before_table, _clamp(layer.before_table))
    if not layer.function:
        return source
    slope = leaky_slope(layer.function)
    name = "LEAKY_RELU" if slope is not None else FUNCTIONS.get(layer.function)
    if name is None:
        raise _refused("a function that TFLite has no operator for", layer, got=layer.function)
    target, clamp = layer.output, _clamp(layer.output, fuses=False)
    wanted = DEMANDED.get((layer.function, target.bits))
    if wanted is not None and wanted != (target.scale, target.zero_point):
        raise _refused(
            f"a {name} whose result has another scale than TFLite's",
            layer,
            expected=f"scale {wanted[0]:g}, zero point {wanted[1]}",
            got=f"scale {target.scale:g}, zero point {target.zero_point}",
            cure="give the result 8 or 16 bits",
        )
    number = writer.activation(clamp.tensor)
    options: Fields | None = None if slope is None else {0: ("float32", slope)}
    writer.operator(name, [source], [number], options)
    return _limited(writer, number, target, clamp)


def _fully_connected(writer: TFLiteWriter, layer: FullyConnected, known: Known) -> int:
    weights, bias, target = _affine(writer, layer, layer.weights, 0)
    fused: Fields = {0: ("int8", _clamp(layer.before_table).fused)}
    writer.operator("FULLY_CONNECTED", [known[layer.input.name], weights, bias], [target], fused)
    return _function(writer, layer, target)


def _convolution(writer: TFLiteWriter, layer: Conv2d, known: Known) -> int:
    channels = layer.input.shape[2]
    depthwise = layer.groups == channels > 1
    if layer.groups > 1 and not depthwise:
        raise _refused("a grouped convolution, which TFLite's int8 kernels do not compute", layer, got=layer.groups)
    source, padding = _padded(writer, layer, layer.window, known)
    values = layer.weights[..., 0].transpose(1, 2, 0)[None] if depthwise else layer.weights
    weights, bias, target = _affine(writer, layer, values, 3 if depthwise else 0)
    (down, across), dilation = layer.window.stride, layer.window.dilation
    fused = _clamp(layer.before_table).fused
    options: dict[int, tuple[str, Any]] = {0: ("int8", padding), 1: ("int32", across), 2: ("int32", down)}
    if depthwise:
        options[3] = ("int32", len(layer.weights) // channels)
    first = len(options)
    options |= {first: ("int8", fused), first + 1: ("dilation", dilation[1]), first + 2: ("dilation", dilation[0])}
    writer.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [source, weights, bias], [target], options)
    return _function(writer, layer, target)


def _padded(writer: TFLiteWriter, layer: Layer, window: Window, known: Known) -> tuple[int, int]:
    """The operand of a window that pads, and TFLite's kind of padding; a border of its own where there is none."""
    source = layer.input
    if not any(window.pads):
        return known[source.name], VALID
    if window.pads == same_pads(window, source.shape):
        return known[source.name], SAME
    top, left, bottom, right = window.pads
    height, width, channels = source.shape
    padded = writer.activation(source, (1, height + top + bottom, width + left + right, channels))
    pads = writer.numbers(f"{layer.name}.pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    writer.operator("PAD", [known[source.name], pads], [padded])
    return padded, VALID


def same_pads(window: Window, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """What TFLite's SAME pads: as much as the result needs to have the image's size over the stride, rounded up."""
    size = zip(shape[:2], window.stride, window.extent, strict=True)
    over = [max((-(-n // step) - 1) * step + extent - n, 0) for n, step, extent in size]
    return over[0] // 2, over[1] // 2, over[0] - over[0] // 2, over[1] - over[1] // 2


def _transposed(writer: TFLiteWriter, layer: TransposedConv2d, known: Known) -> int:
    window, target_size = layer.window, layer.output.shape[:2]
    size = zip(layer.input.shape[:2], window.stride, window.kernel, target_size, strict=True)
    over = [max((n - 1) * step + kernel - wanted, 0) for n, step, kernel, wanted in size]
    fused = _clamp(layer.before_table).fused
    before, centred = window.pads[:2], (over[0] // 2, over[1] // 2)
    if layer.groups > 1 or window.dilation != (1, 1) or before != centred or fused != FUSED_NONE:
        raise _refused(
            "a transposed convolution that TFLite has no operator for",
            layer,
            expected=f"one group, no dilation, no clamp, pads of {centred} above and to the left",
            got=f"{layer.groups} groups, dilation {window.dilation}, clamp {fused}, {before}",
        )
    weights, bias, target = _affine(writer, layer, layer.weights, 0)
    shape = writer.numbers(f"{layer.name}.shape", (1, *layer.output.shape))
    padding = SAME if any(over) else VALID
    options: Fields = {0: ("int8", padding), 1: ("int32", window.stride[1]), 2: ("int32", window.stride[0])}
    writer.operator("TRANSPOSE_CONV", [shape, weights, known[layer.input.name], bias], [target], options)
    return _function(writer, layer, target)


def _pool(writer: TFLiteWriter, layer: Pool, known: Known) -> int:
    source, target, window = layer.input, layer.output, layer.window
    if layer.kind == "average" and window.kernel == source.shape[:2] and not any(window.pads):
        clamp = _clamp(target, fuses=False)
        number = writer.activation(clamp.tensor)
        axes = writer.numbers(f"{layer.name}.axes", [1, 2])
        writer.operator("MEAN", [known[source.name], axes], [number], {0: ("bool", True)})
        return _limited(writer, number, target, clamp)
    same = same_pads(window, source.shape)
    if window.pads not in ((0, 0, 0, 0), same) or layer.count_padding or window.dilation != (1, 1):
        raise _refused("a pool whose padding TFLite has no kind of", layer, expected=f"none or {same}", got=window.pads)
    kept, within = source.quantized_as(target), target.low <= source.low and source.high <= target.high
    clamp = _Clamp(target, FUSED_NONE) if within else _clamp(target)
    pooled = clamp.tensor if kept else replace(source, name=f"{target.name}/pooled", shape=target.shape)
    number = writer.activation(pooled)
    options: Fields = {
        0: ("int8", SAME if any(window.pads) else VALID),
        1: ("int32", window.stride[1]),
        2: ("int32", window.stride[0]),
        3: ("int32", window.kernel[1]),
        4: ("int32", window.kernel[0]),
        5: ("int8", clamp.fused if kept else FUSED_NONE),
    }
    name = "MAX_POOL_2D" if layer.kind == "max" else "AVERAGE_POOL_2D"
    writer.operator(name, [known[source.name]], [number], options)
    return _limited(writer, number, target, clamp) if kept else _quantized(writer, number, target)


def _quantized(writer: TFLiteWriter, source: int, target: Tensor) -> int:
    clamp = _clamp(target, fuses=False)
    number = writer.activation(clamp.tensor)
    writer.operator("QUANTIZE", [source], [number])
    return _limited(writer, number, target, clamp)


def _add(writer: TFLiteWriter, layer: Add, known: Known) -> int:
    target, by = layer.output, layer.by
    factors = [m / 2.0**by.shift * target.scale / t.scale for m, t in zip(by.multipliers, layer.inputs, strict=True)]
    if any(abs(abs(factor) - 1) > 0.01 for factor in factors) or factors[0] < 0:
        raise _refused("a sum of multiples, which TFLite has no operator for", layer, got=factors)
    operands = [known[tensor.name] for tensor in layer.inputs]
    if len(operands) == 1:
        if _clamp(target).fused == FUSED_RELU:
            number = writer.activation(target)
            writer.operator("RELU", operands, [number])
            return number
        if layer.input.bits < target.bits:
            _check_widths(layer, target)
        return _quantized(writer, operands[0], target)
    return _two(writer, layer, "ADD" if factors[1] > 0 else "SUB", operands)


def _multiply(writer: TFLiteWriter, layer: Multiply, known: Known) -> int:
    return _two(writer, layer, "MUL", [known[tensor.name] for tensor in layer.inputs])


def _two(writer: TFLiteWriter, layer: Add | Multiply, name: str, operands: list[int]) -> int:
    """An operator of two activations, with its clamp."""
    target, clamp = layer.output, _clamp(layer.output)
    _check_widths(layer, target)
    number = writer.activation(clamp.tensor)
    writer.operator(name, operands, [number], {0: ("int8", clamp.fused)})
    return _limited(writer, number, target, clamp)


def _simple(name: str, options: Fields | None = None) -> Callable[[TFLiteWriter, Any, Known], int]:
    """The writer of an operator without constants."""

    def write(writer: TFLiteWriter, layer: Layer, known: Known) -> int:
        number = writer.activation(layer.output)
        writer.operator(name, [known[layer.input.name]], [number], options)
        return number

    return write


def _argmax(writer: TFLiteWriter, layer: Argmax, known: Known) -> int:
    if layer.input.bits != 8:
        raise _refused("a choice among 16-bit values, which TFLite has no operator for", layer)
    axis = writer.numbers(f"{layer.name}.axis", len(layer.input.shape))
    number = writer.activation(layer.output, (1,), "int32")
    writer.operator("ARG_MAX", [known[layer.input.name], axis], [number], {0: ("int8", 2)})
    return number


def _concat(writer: TFLiteWriter, layer: Concat, known: Known) -> int:
    number = writer.activation(layer.output)
    operands = [known[tensor.name] for tensor in layer.inputs]
    writer.operator("CONCATENATION", operands, [number], {0: ("int32", layer.axis + 1)})
    return number


def _pad(writer: TFLiteWriter, layer: Pad, known: Known) -> int:
    top, left, bottom, right = layer.pads
    number, target = writer.activation(layer.output), layer.output
    pads = writer.numbers(f"{layer.name}.pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    filled = np.array(layer.value, f"int{target.bits}")
    scale, zero = np.array([target.scale]), np.array([target.zero_point])
    value = writer.constant(f"{layer.name}.value", filled.reshape(1), scale, zero)
    writer.operator("PADV2", [known[layer.input.name], pads, value], [number])
    return number


def _resize(writer: TFLiteWriter, layer: Resize, known: Known) -> int:
    size = writer.numbers(f"{layer.name}.size", layer.output.shape[:2])
    number = writer.activation(layer.output)
    writer.operator("RESIZE_NEAREST_NEIGHBOR", [known[layer.input.name], size], [number])
    return number


def _slice(writer: TFLiteWriter, layer: Slice, known: Known) -> int:
    begin = writer.numbers(f"{layer.name}.begin", [0, layer.start])
    size = writer.numbers(f"{layer.name}.size", [1, layer.output.size])
    number = writer.activation(layer.output)
    writer.operator("SLICE", [known[layer.input.name], begin, size], [number])
    return number


def _transpose(writer: TFLiteWriter, layer: Transpose, known: Known) -> int:
    """Read in the layer's shape, turned, named by the output's shape."""
    turned = tuple(layer.shape[axis] for axis in layer.order)
    source = _reshaped(writer, known[layer.input.name], layer.input, layer.shape)
    order = writer.numbers(f"{layer.name}.order", [0, *(axis + 1 for axis in layer.order)])
    number = writer.activation(layer.output, (1, *turned))
    writer.operator("TRANSPOSE", [source, order], [number])
    return number if turned == layer.output.shape else _reshaped(writer, number, layer.output, layer.output.shape)


def _reshape(writer: TFLiteWriter, layer: Reshape, known: Known) -> int:
    return _reshaped(writer, known[layer.input.name], layer.output, layer.output.shape)


def _reshaped(writer: TFLiteWriter, source: int, tensor: Tensor, shape: tuple[int, ...]) -> int:
    number = writer.activation(tensor, (1, *shape))
    writer.operator("RESHAPE", [source, writer.numbers(f"{tensor.name}.shape", (1, *shape))], [number])
    return number


@dataclass(frozen=True)
class _Clamp:
    """How an operator's clamp is written: fused, or by operators behind it."""

    tensor: Tensor
    """What the operator itself yields, of another name where more follow."""

    fused: int
    limits: tuple[tuple[str, int], ...] = ()
    """Operators behind, each with its bound."""


def _clamp(tensor: Tensor, *, fuses: bool = True) -> _Clamp:
    """The clamp of a tensor.

    :param fuses: whether what yields it takes a fused activation
    """
    low, high = activation_range(tensor.bits)
    six = int(semantics.quantize(np.array([6], np.float32), tensor.scale, tensor.zero_point, tensor.bits)[0])
    open_ = (tensor.low, tensor.high) == (low, high)
    if fuses and not open_ and tensor.low == tensor.zero_point and tensor.high in (high, six):
        return _Clamp(tensor, FUSED_RELU if tensor.high == high else FUSED_RELU6)
    limits = [("MAXIMUM", tensor.low)] * (tensor.low > low) + [("MINIMUM", tensor.high)] * (tensor.high < high)
    return _Clamp(replace(tensor, name=f"{tensor.name}/unlimited") if limits else tensor, FUSED_NONE, tuple(limits))


def _limited(writer: TFLiteWriter, number: int, tensor: Tensor, clamp: _Clamp) -> int:
    """What an operator yielded behind the rest of its clamp: its number in the file."""
    scale, zero = np.array([tensor.scale]), np.array([tensor.zero_point])
    for place, (name, bound) in enumerate(clamp.limits, start=1):
        last = place == len(clamp.limits)
        limit = np.full((1,) * (1 + len(tensor.shape)), bound, f"int{tensor.bits}")
        given = writer.constant(f"{tensor.name}.{name.lower()}", limit, scale, zero)
        target = writer.activation(tensor if last else replace(tensor, name=f"{tensor.name}/limited"))
        writer.operator(name, [number, given], [target])
        number = target
    return number


_WRITERS: dict[type[Layer], Callable[[TFLiteWriter, Any, Known], int]] = {
    FullyConnected: _fully_connected,
    Conv2d: _convolution,
    TransposedConv2d: _transposed,
    Pool: _pool,
    Add: _add,
    Multiply: _multiply,
    Lookup: lambda writer, layer, known: _function(writer, layer, known[layer.input.name]),
    Softmax: _simple("SOFTMAX", {0: ("float32", 1.0)}),
    Argmax: _argmax,
    Concat: _concat,
    Pad: _pad,
    Resize: _resize,
    Slice: _slice,
    Transpose: _transpose,
    Reshape: _reshape,
}
