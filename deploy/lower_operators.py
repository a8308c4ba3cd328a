"""How each ONNX operator is lowered: from the values that it reads to the value that it yields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from policyport.core.operators import Window, resize_nearest
from policyport.core.semantics import LEAKY_SLOPE, Reals, leaky_relu
from policyport.deploy.layers import Argmax, Pad, Resize, Slice, Tensor
from policyport.deploy.lower_builder import Quantization, View, Weights, plain_view
from policyport.deploy.lower_pending import (
    Chain,
    Clamped,
    Convolution,
    Dense,
    Distribution,
    Function,
    Mean,
    Moved,
    Pending,
    Product,
    Sum,
    Value,
    channel_weights,
    channelwise,
)
from policyport.deploy.lower_state import State, axes_of, clip_bounds, moved_index, node_window
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


def _layer_move(state: State, node: Any, move: Callable[[View, str], View]) -> Value:
    """A layer that moves elements: at once where its operand is quantized, else once it is."""
    value = state.value(node, 0)
    return move(value, node.output[0]) if isinstance(value, View) else Moved(value, move, node.input[0])


def _max_pool(state: State, node: Any) -> Value:
    def move(view: View, name: str) -> View:
        image, back = _as_image(view)
        window = _pool_window(state, node, image)
        return back(state.builder.max_pool(image, window, name, state.graph.where(node)))

    return _layer_move(state, node, move)


def _average_pool(state: State, node: Any) -> Value:
    view, back = _as_image(state.view(node, 0))
    window = _pool_window(state, node, view)
    pending = Mean(view, window, bool(attribute(node, "count_include_pad", 0)), state.graph.where(node))
    return Moved(pending, lambda v, _: back(v), "")


def _as_image(view: View) -> tuple[View, Callable[[View], View]]:
    """Lines as an image of one row, and the way back."""
    if len(view.shape) != 2:
        return view, lambda v: v
    return replace(view, index=view.index[:, None, :]), lambda v: replace(v, index=v.index[:, 0])


def _pool_window(state: State, node: Any, view: View) -> Window:
    """The window of a pool; ``ceil_mode`` is padding below and to the right."""
    if len(view.shape) != 3:
        raise state.graph.unsupported("a pool of what is no image", node, got=view.shape)
    size = (view.shape[1], view.shape[2])
    if node.op_type.startswith("Global"):
        return Window(size)
    given = [int(n) for n in attribute(node, "kernel_shape", [])]
    kernel = (1, given[0]) if len(given) == 1 else (given[0], given[1])
    window = node_window(state.graph, node, kernel, size)
    if not attribute(node, "ceil_mode", 0):
        return window
    if attribute(node, "count_include_pad", 0):
        raise state.graph.unsupported("an AveragePool with both ceil_mode and count_include_pad", node)
    top, left, bottom, right = window.pads
    over = [
        -(n + before + behind - extent) % stride
        for n, before, behind, extent, stride in zip(
            size, (top, left), (bottom, right), window.extent, window.stride, strict=True
        )
    ]
    return replace(window, pads=(top, left, bottom + over[0], right + over[1]))


def _reduce_mean(state: State, node: Any) -> Value:
    """The mean over height and width."""
    view = state.view(node, 0)
    axes = sorted(axes_of(state.graph, node, len(view.shape) + 1))
    if len(view.shape) != 3 or axes != [2, 3]:
        raise state.graph.unsupported(
            "a ReduceMean over other axes than height and width", node, expected=[2, 3], got=axes
        )
    pending = Mean(view, Window((view.shape[1], view.shape[2])), False, state.graph.where(node))
    keep = attribute(node, "keepdims", 1)
    return pending if keep else Moved(pending, lambda v, _: replace(v, index=v.index[:, 0, 0]), "")


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


def _pad(state: State, node: Any) -> Value:
    pads = state.graph.array(node, 1)
    value = state.graph.array(node, 2)
    real = 0.0 if value is None else float(np.reshape(value, -1)[0])
    given = [int(n) for n in (attribute(node, "pads", []) if pads is None else pads.reshape(-1))]
    mode = attribute(node, "mode", b"constant").decode()
    named = state.graph.array(node, 3)
    if (
        len(given) != 8
        or given[:2] + given[4:6] != [0] * 4
        or min(given) < 0
        or mode != "constant"
        or named is not None
    ):
        raise state.graph.unsupported(
            "a Pad of this kind", node, expected="a constant border around height and width", got=f"{mode} {given}"
        )
    border = (given[2], given[3], given[6], given[7])

    def move(view: View, name: str) -> View:
        source = state.builder.channels_last(view, state.graph.where(node))
        quantization = state.builder.named(view.quantization(name))
        filled = quantization.tensor((1,), (real, real)).low
        height, width, channels = source.shape
        shape = (height + border[0] + border[2], width + border[1] + border[3], channels)
        target = replace(
            source, name=quantization.name, shape=shape, low=min(source.low, filled), high=max(source.high, filled)
        )
        return plain_view(state.builder.add(Pad(target.name, (source,), target, border, filled)))

    return _layer_move(state, node, move)


def _resize(state: State, node: Any) -> Value:
    if attribute(node, "mode", b"nearest").decode() != "nearest":
        raise state.graph.unsupported("a Resize that interpolates", node, expected="mode nearest")

    def move(view: View, name: str) -> View:
        source = state.builder.channels_last(view, state.graph.where(node))
        height, width = _resized(state, node, source.shape[:2])
        quantization = state.builder.named(view.quantization(name))
        target = replace(source, name=quantization.name, shape=(height, width, source.shape[2]))
        return plain_view(state.builder.add(Resize(target.name, (source,), target)))

    return _layer_move(state, node, move)


def _resized(state: State, node: Any, size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the result.

    :raises UnsupportedModelError: rounding of coordinates that differs from ``floor(y * rows / height)``
    """
    last = len(node.input) - 1
    given = state.graph.array(node, last)
    if given is not None and list(attribute(node, "axes", [])) == [2, 3]:
        given = np.concatenate([np.ones(2, given.dtype), given])
    if given is None or given.size != 4:
        raise state.graph.unsupported("a Resize without sizes or scales for four axes", node)
    scaled = node.op_type == "Upsample" or last != 3
    wanted = [int(n * s) if scaled else int(s) for n, s in zip((1, 1, *size), given.tolist(), strict=True)][2:]
    for rows, height in zip(size, wanted, strict=True):
        image = np.arange(rows).reshape(1, rows, 1, 1)
        if not np.array_equal(resize_nearest(image, height, 1).reshape(-1), _onnx_rows(node, rows, height)):
            raise state.graph.unsupported(
                "a Resize that picks other pixels than the nearest to the upper left",
                node,
                expected="coordinate_transformation_mode asymmetric, nearest_mode floor",
            )
    return wanted[0], wanted[1]


def _onnx_rows(node: Any, rows: int, height: int) -> Any:
    """The row that each row of the result shows, as ONNX's Resize defines it."""
    if node.op_type == "Upsample":
        return np.arange(height) * rows // height
    y = np.arange(height)
    where = {
        "asymmetric": y * rows / height,
        "half_pixel": (y + 0.5) * rows / height - 0.5,
        "pytorch_half_pixel": (y + 0.5) * rows / height - 0.5 if height > 1 else y * 0.0,
    }.get(attribute(node, "coordinate_transformation_mode", b"half_pixel").decode())
    rounding: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
    mode = attribute(node, "nearest_mode", b"round_prefer_floor").decode()
    return None if where is None else np.clip(rounding[mode](where), 0, rows - 1).astype(np.int64)


HANDLERS: dict[str, Callable[[State, Any], Value]] = {
    **dict.fromkeys(PASSED, _passed),
    **dict.fromkeys(("Gemm", "MatMul"), _fully_connected),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), _max_pool),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), _average_pool),
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Softplus"), _function),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "BatchNormalization": _batch_normalization,
    "ReduceMean": _reduce_mean,
    "Clip": _clip,
    "Softmax": _softmax,
    "ArgMax": _argmax,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
}
"""By operator name."""
