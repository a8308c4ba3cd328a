"""How each ONNX operator is lowered: from the values that it reads to the value that it yields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from policyport.core.semantics import LEAKY_SLOPE, Reals, leaky_relu
from policyport.deploy.layers import Argmax, Slice, Tensor
from policyport.deploy.lower_builder import Quantization, View, Weights, plain_view
from policyport.deploy.lower_images import average_pool, max_pool, pad, reduce_mean, resize
from policyport.deploy.lower_pending import (
    Chain,
    Clamped,
    Convolution,
    Dense,
    Distribution,
    Function,
    Moved,
    Pending,
    Product,
    Sum,
    Value,
    channel_weights,
    channelwise,
)
from policyport.deploy.lower_state import State, clip_bounds, moved_index, node_window
from policyport.deploy.onnx_graph import QuantizedConstant, attribute

PASSED = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that change the shape or the order of axes alone."""

FUNCTION_ATTRIBUTES = {
    "HardSigmoid": {"alpha": (0.2, 1 / 6), "beta": (0.5, 0.5)},
    "Elu": {"alpha": (1.0, 1.0)},
}
"""ONNX's default of each attribute, and the value with which a function is the one of the integer semantics."""

GATED = {"Sigmoid": "Silu", "HardSigmoid": "HardSwish"}
"""What ``x * f(x)`` is called."""


def _fully_connected(state: State, node: Any) -> Pending:
    """Gemm, or MatMul with a constant."""
    turned = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
    view, given = state.quantized(node, 0), state.weights(node, 1, 0 if turned else 1)
    if not turned:
        given = given.transposed((1, 0)) if given.values.ndim == 2 else given
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        raise state.graph.unsupported("a Gemm with transA, alpha or beta", node)
    inputs = given.values.shape[1] if given.values.ndim == 2 else -1
    if len(view.shape) != 1 or inputs != view.shape[0] or (given.scale.size > 1 and given.axis != 0):
        raise state.graph.unsupported(
            "weights of a shape not supported",
            node,
            expected=f"{view.shape[-1]} inputs, one scale or one per output",
            got=f"{inputs} inputs, {given.scale.size} scales along axis {given.axis}",
        )
    weights = _weights(state, node, given, given.values, view.tensor)
    return Dense(view, weights, state.graph.where(node))


def _weights(state: State, node: Any, given: QuantizedConstant, values: Any, source: Tensor) -> Weights:
    """Weights, one scale per output, and the bias that a third input gives."""
    outputs = len(values)
    scale = np.broadcast_to(np.tile(given.scale, outputs // given.scale.size), outputs).astype(np.float64)
    bias = np.zeros(outputs)
    if len(node.input) > 2 and node.input[2]:
        bias = _bias(state, node, source.scale * scale)
    return Weights(values, given.bits, scale, bias)


def _bias(state: State, node: Any, scale: Reals) -> Reals:
    """A bias as real values; integers at the accumulator's scale, as near as float32 says, keep their value."""
    given = np.asarray(state.graph.array(node, 2), np.float64).reshape(-1)
    if given.size not in (1, scale.size):
        raise state.graph.unsupported(
            "a bias of another size than the outputs", node, expected=f"1 or {scale.size} values", got=given.size
        )
    bias = state.graph.constants.get(node.input[2])
    if (
        isinstance(bias, QuantizedConstant)
        and bias.scale.size in (1, scale.size)
        and np.allclose(bias.scale, scale, rtol=1e-5, atol=0.0)
    ):
        return np.asarray(np.broadcast_to(bias.values.reshape(-1), scale.shape) * scale)
    return np.broadcast_to(given, scale.shape).copy()


def _convolution(state: State, node: Any) -> Value:
    """Conv and ConvTranspose over images, or over lines, which are images of one row."""
    transposed, groups = node.op_type == "ConvTranspose", int(attribute(node, "group", 1))
    axis = 1 if transposed else 0
    given, view = state.weights(node, 1, axis), state.quantized(node, 0)
    lines = given.values.ndim == 3
    if lines:
        view = replace(view, index=view.index[:, None, :])
        given = replace(given, values=given.values[:, :, None, :])
    if given.values.ndim != 4 or len(view.shape) != 3 or (given.scale.size > 1 and given.axis != axis):
        raise state.graph.unsupported(
            "a convolution of this kind",
            node,
            expected=f"an image, one scale or one per output along axis {axis}",
            got=f"weights of {given.values.shape}, {given.scale.size} scales along axis {given.axis}",
        )
    kernel = (int(given.values.shape[2]), int(given.values.shape[3]))
    window = node_window(state.graph, node, kernel, (view.shape[1], view.shape[2]))
    values = _outputs_first(given.values, groups) if transposed else given.values.transpose(0, 2, 3, 1)
    if values.shape[3] * groups != view.shape[0] or len(values) % groups:
        raise state.graph.unsupported(
            "weights that do not fit the image's channels", node, expected=view.shape[0], got=values.shape[3] * groups
        )
    weights = _weights(state, node, given, values, view.tensor)
    padding = _output_padding(state, node) if transposed else None
    pending = Convolution(view, weights, state.graph.where(node), window, groups, padding)
    return Moved(pending, lambda v, _: replace(v, index=v.index[:, 0]), "") if lines else pending


def _outputs_first(values: Any, groups: int) -> Any:
    """[channels, outputs / groups, ...] of a ConvTranspose as [outputs, ..., channels / groups]."""
    channels, share, height, width = values.shape
    split = values.reshape(groups, channels // groups, share, height, width)
    return split.transpose(0, 2, 3, 4, 1).reshape(groups * share, height, width, channels // groups)


def _output_padding(state: State, node: Any) -> tuple[int, int]:
    if attribute(node, "output_shape", None) is not None:
        raise state.graph.unsupported("a ConvTranspose with output_shape", node, expected="output_padding")
    given = attribute(node, "output_padding", [0, 0])
    return (0, int(given[0])) if len(given) == 1 else (int(given[0]), int(given[1]))


def _batch_normalization(state: State, node: Any) -> Value:
    gamma, beta, mean, variance = (np.asarray(state.graph.array(node, i), np.float64) for i in range(1, 5))
    gain = gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))
    return _affine(state, node, state.value(node, 0), gain, beta - mean * gain)


def _affine(state: State, node: Any, value: Value, gain: Reals, offset: Reals) -> Value:
    """``gain * x + offset``, each one value or one per channel: folded into weights where it can be."""
    if isinstance(value, (Dense, Convolution)):
        ones = np.ones(len(value.weights.values))
        return replace(value, weights=value.weights.scaled(ones * gain, ones * offset))
    if not np.any(offset) and gain.size == 1:
        factor = float(gain.reshape(-1)[0])
        if isinstance(value, Sum):
            return replace(value, factors=tuple(factor * f for f in value.factors))
        if isinstance(value, View):
            return Sum((value,), (factor,), state.graph.where(node))
    view = state.as_view(value, node)
    ones, where = np.ones(view.shape[0]), state.graph.where(node)
    image = replace(view, index=view.index if len(view.shape) == 3 else view.index.reshape(-1, 1, 1))
    pending = channelwise(image, channel_weights(ones * gain, ones * offset), where)
    if len(view.shape) == 3:
        return pending
    return Moved(pending, lambda v, _: replace(v, index=v.index.reshape(view.shape)), "")


def _arithmetic(state: State, node: Any) -> Value:
    """Add, Sub, Mul, Div: of two activations, or of one and a constant."""
    constants = [i for i in (0, 1) if state.constant(node, i)]
    if constants:
        return _by_constant(state, node, constants[0])
    a, b = state.value(node, 0), state.value(node, 1)
    where = state.graph.where(node)
    if node.op_type == "Mul":
        for one, other in ((a, b), (b, a)):
            if isinstance(one, View) and isinstance(other, Function) and other.view is one and other.function in GATED:
                return Function(one, GATED[other.function], where)
        return Product(state.as_view(a, node), state.as_view(b, node), where)
    if node.op_type == "Div":
        raise state.graph.unsupported("a quotient of two activations", node)
    sums = [v if isinstance(v, Sum) else Sum((state.as_view(v, node),), (1.0,), where) for v in (a, b)]
    factors = sums[1].factors if node.op_type == "Add" else tuple(-f for f in sums[1].factors)
    if len(sums[0].views) + len(sums[1].views) > 2:
        raise state.graph.unsupported("a sum of more than two activations", node, expected="two, quantized in between")
    return Sum(sums[0].views + sums[1].views, sums[0].factors + factors, where)


def _by_constant(state: State, node: Any, index: int) -> Value:
    value = state.value(node, 1 - index)
    constant = _per_channel(state, node, index, value)
    zero, one = np.zeros(1), np.ones(1)
    if node.op_type == "Div" and index == 0:
        raise state.graph.unsupported("a constant over an activation", node)
    gain, offset = {
        "Add": (one, constant),
        "Sub": (one, -constant) if index == 1 else (-one, constant),
        "Mul": (constant, zero),
        "Div": (1 / constant if node.op_type == "Div" else one, zero),
    }[node.op_type]
    return _affine(state, node, value, gain, offset)


def _per_channel(state: State, node: Any, index: int, value: Value) -> Reals:
    """A constant operand as one value, or as one per channel.

    :raises UnsupportedModelError: it changes along another axis
    """
    constant = np.asarray(state.graph.array(node, index), np.float64)
    if constant.size == 1:
        return constant.reshape(1)
    image = isinstance(value, Convolution) or (isinstance(value, View) and len(value.shape) == 3)
    shape = constant.shape
    wanted = 3 if image else 1
    leading = shape[: max(len(shape) - wanted, 0)]
    inner = shape[len(leading) :]
    if any(n != 1 for n in leading) or (image and (len(inner) < 3 or inner[1:] != (1, 1))):
        raise state.graph.unsupported(
            "a constant that differs along other axes than the channels",
            node,
            expected="one value per channel",
            got=shape,
        )
    return constant.reshape(-1)


def _function(state: State, node: Any) -> Value:
    """A pointwise function; ReLU of what is not quantized yet is its clamp."""
    value, name = state.value(node, 0), node.op_type
    if name == "Relu" and not isinstance(value, View):
        return Clamped(value, (0.0, math.inf))
    for key, (default, wanted) in FUNCTION_ATTRIBUTES.get(name, {}).items():
        got = float(attribute(node, key, default))
        if not math.isclose(got, wanted, rel_tol=1e-4):
            raise state.graph.unsupported(f"{name} with another {key}", node, expected=wanted, got=got)
    return Function(state.as_view(value, node), name, state.graph.where(node))


def _leaky(state: State, node: Any) -> Value:
    """LeakyRelu, and PRelu of one slope."""
    slopes = np.array([attribute(node, "alpha", LEAKY_SLOPE)], np.float64)
    if node.op_type == "PRelu":
        slopes = np.unique(np.asarray(state.graph.array(node, 1), np.float64))
    if slopes.size != 1:
        raise state.graph.unsupported(
            "a PRelu with a slope for each channel", node, expected="one slope", got=f"{slopes.size} slopes"
        )
    return Function(state.as_view(state.value(node, 0), node), leaky_relu(float(slopes[0])), state.graph.where(node))


def _clip(state: State, node: Any) -> Value:
    """Bounds in real values, or behind a QuantizeLinear in integers."""
    value, bounds = state.value(node, 0), clip_bounds(state.graph, node)
    if not isinstance(value, View):
        return Clamped(value, bounds)
    low = state.graph.array(node, 1)
    where = state.graph.where(node)
    if low is not None and low.dtype.kind in "iu":
        shift = 128 if low.dtype.kind == "u" else 0
        tensor = value.tensor
        low_real, high_real = ((n - shift - tensor.zero_point) * tensor.scale for n in bounds)
        return state.builder.rescaled(value, value.quantization(node.output[0]), (low_real, high_real), where=where)
    return Clamped(Sum((value,), (1.0,), where), bounds)


def _softmax(state: State, node: Any) -> Value:
    view = state.view(node, 0)
    axis = int(attribute(node, "axis", -1)) % (len(view.shape) + 1) - 1
    last = view.tensor.shape[-1]
    moved = np.moveaxis(view.index, axis, -1).reshape(-1, view.shape[axis])
    rows = moved.min(axis=1, keepdims=True)
    if view.shape[axis] != last or not np.array_equal(
        np.sort(moved, axis=1) - rows, np.tile(np.arange(last), (len(rows), 1))
    ):
        raise state.graph.unsupported(
            "a Softmax over an axis that is not the device's last", node, expected="the channels", got=axis + 1
        )
    return Distribution(view, state.graph.where(node))


def _argmax(state: State, node: Any) -> Value:
    view = state.view(node, 0)
    source = state.builder.flat(view, state.graph.where(node))
    axis = int(attribute(node, "axis", 0)) % (len(view.shape) + 1)
    if math.prod(view.shape) != view.shape[axis - 1] or axis == 0 or attribute(node, "select_last_index", 0):
        raise state.graph.unsupported("an ArgMax of this kind", node, expected="of one vector, the first of equals")
    if source.size > 2**15:
        raise state.graph.unsupported("an ArgMax of too many values", node, expected="at most 32768", got=source.size)
    name = state.builder.named(Quantization(node.output[0], 1.0, 0, 16)).name
    target = Tensor(name, (1,), 16, 1.0, 0, 0, source.size - 1)
    return plain_view(state.builder.add(Argmax(name, (source,), target)))


def _passed(state: State, node: Any) -> Value:
    value = state.value(node, 0)

    def move(view: View, _: str) -> View:
        return replace(view, index=moved_index(state.graph, node, view.index))

    return move(value, "") if isinstance(value, View) else Moved(value, move, "")


def _concat(state: State, node: Any) -> Value:
    values = tuple(state.value(node, i) for i in range(len(node.input)))
    first = next((v for v in values if isinstance(v, View)), None)
    axis = int(attribute(node, "axis", 1))
    if first is not None:
        axis %= len(first.shape) + 1
    if axis < 1:
        raise state.graph.unsupported("a Concat along the batch axis", node, got=axis)
    chain = Chain(values, tuple(node.input), axis - 1, state.graph.where(node))
    same = first is not None and all(isinstance(v, View) and v.tensor.quantized_as(first.tensor) for v in values)
    if same and first is not None:
        return chain.emit(state.builder, first.quantization(node.output[0]), (-math.inf, math.inf))
    return chain


def _slice(state: State, node: Any) -> Value:
    """A part of a vector."""
    view = state.view(node, 0)
    bounds = [state.graph.array(node, i) for i in (1, 2, 3, 4)]
    start, stop, axis, step = (None if x is None else int(np.reshape(x, -1)[0]) for x in bounds)
    if len(view.shape) != 1 or axis not in (1, -1) or step not in (None, 1) or start is None or stop is None:
        raise state.graph.unsupported("a Slice of this kind", node, expected="a vector's features, step 1", got=bounds)
    source = state.builder.flat(view, state.graph.where(node))
    first, end, _ = slice(start, stop).indices(source.size)
    quantization = state.builder.named(view.quantization(node.output[0]))
    target = replace(source, name=quantization.name, shape=(end - first,))
    return plain_view(state.builder.add(Slice(target.name, (source,), target, first)))


HANDLERS: dict[str, Callable[[State, Any], Value]] = {
    **dict.fromkeys(PASSED, _passed),
    **dict.fromkeys(("Gemm", "MatMul"), _fully_connected),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), max_pool),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), average_pool),
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Softplus"), _function),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "BatchNormalization": _batch_normalization,
    "ReduceMean": reduce_mean,
    "Clip": _clip,
    "Softmax": _softmax,
    "ArgMax": _argmax,
    "Concat": _concat,
    "Pad": pad,
    "Slice": _slice,
}
"""By operator name."""
