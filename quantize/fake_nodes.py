"""Operators of the integer network in torch, between integers held as float64 [n, *shape].

Each yields the exact integers and, for training, the gradient of the real values that they stand for: to its inputs,
to the weights, and to the scales of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from policyport.core.operators import WeightedSum, Window
from policyport.core.semantics import INT32_MAX, Integers, activation_range, weight_range
from policyport.quantize.activation import Activation
from policyport.quantize.fake_rounding import (
    EXACT,
    Smooth,
    clamped,
    looked_up,
    requantized,
    rounded,
    softmax_shares,
    straight,
)
from policyport.quantize.integer_nodes import (
    QuantizedAverage,
    QuantizedConcat,
    QuantizedLayer,
    QuantizedLookup,
    QuantizedMove,
    QuantizedNode,
    QuantizedProduct,
    QuantizedSoftmax,
    QuantizedSum,
)
from policyport.quantize.nodes import (
    Convolution,
    Function,
    MaxPool,
    Pad,
    Reshape,
    Resize,
    TransposedConvolution,
)
from torch.nn import functional

Tensor = Any  # torch carries no types that a strict checker is shown here

Steps = Mapping[str, Tensor]
"""The scale of every tensor by name, 0-dimensional, float64 holding a float32 value."""

Source = Callable[[], tuple[Tensor, Tensor]]
"""Gives weights [outputs, taps...] and bias [outputs] before rounding, float64."""

CELL = 0.25
"""How far from its integer, in steps, a float weight starts at most.

Rounding it gives that integer; and none starts at the edge of two, where the least gradient would undo what a solver
found."""


def fake_operator(node: QuantizedNode, steps: Steps, *q: Tensor) -> Tensor:
    """The integers of an operator without weights."""
    match node:
        case QuantizedSum():
            return _sum(node, steps, *q)
        case QuantizedProduct():
            return _product(node, steps, *q)
        case QuantizedConcat():
            return _concat(node, steps, *q)
        case QuantizedAverage():
            return _average(node, steps, q[0])
        case QuantizedLookup():
            return _table(node.node.function, node.table, node.inputs[0], node.output, steps, q[0])
        case QuantizedSoftmax():
            shares = softmax_shares(q[0], _tensor(node.table, q[0]))
            return straight(lambda: 256 * torch.softmax(steps[node.inputs[0].name] * q[0], dim=-1), shares)
    assert isinstance(node, QuantizedMove)
    return _move(node, q[0])


class FakeLayer(torch.nn.Module):  # type: ignore[misc]
    """A layer with weights: its own parameters, or those that a source gives."""

    def __init__(self, layer: QuantizedLayer, source: Source | None = None) -> None:
        super().__init__()
        self._source = source
        self._known: tuple[Any, ...] = ()
        if source is None:
            self.weights, self.bias = map(torch.nn.Parameter, starting_floats(layer))

    def forward(self, layer: QuantizedLayer, steps: Steps, weight_steps: Tensor, q: Tensor) -> dict[str, Tensor]:
        """Integers to integers, by tensor name: behind the requantization, then behind a table.

        :param layer: with the scales as they are now
        :param weight_steps: [outputs]
        """
        target, by = layer.before, layer.scaling
        weights, bias = self._integers(layer, steps, weight_steps)
        accumulator = _accumulate(layer, q - layer.input.zero_point, weights, bias)
        each = (-1, *[1] * (accumulator.ndim - 2))
        exact = requantized(accumulator, _tensor(by.multiplier, q).reshape(each), by.shift)

        def smooth() -> Tensor:
            return accumulator * (steps[layer.input.name] * weight_steps / steps[target.name]).reshape(each)

        found = {target.name: _bounded(smooth, exact, target, layer.node.function, steps)}
        if layer.table is not None:
            given = layer.node.function, layer.table, target, layer.output, steps
            found[layer.name] = _table(*given, found[target.name])
        return found

    def quantized(self, layer: QuantizedLayer, steps: Steps, weight_steps: Tensor) -> QuantizedLayer:
        """The layer with the integers that its weights round to now.

        :raises UnsupportedModelError: an accumulator could overflow
        """
        with torch.no_grad():
            floats, _ = self._floats()
            whole = self._integers(layer, steps, weight_steps)
            weights, bias = (x.to(torch.int64).cpu().numpy() for x in whole)
        node = replace(layer.node, weights=floats.detach().cpu().numpy().astype(np.float32))
        made = replace(layer, weights=weights, bias=bias, node=node)
        _ = made.requantize  # proves that no accumulator overflows
        return made

    def _floats(self) -> tuple[Tensor, Tensor]:
        return (self.weights, self.bias) if self._source is None else self._source()

    def _integers(self, layer: QuantizedLayer, steps: Steps, weight_steps: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and bias; those of before where nothing is learned of them and nothing has changed."""
        floats, bias = self._floats()
        if torch.is_grad_enabled():
            return self._rounded(layer, steps, weight_steps, floats, bias)
        known = self._known
        if not known or known[0] is not layer or not torch.equal(known[1], floats) or not torch.equal(known[2], bias):
            whole = self._rounded(layer, steps, weight_steps, floats, bias)
            self._known = layer, floats.clone(), bias.clone(), whole
        weights, bias = self._known[3]
        return weights, bias

    def _rounded(
        self, layer: QuantizedLayer, steps: Steps, weight_steps: Tensor, floats: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weights and bias; a bias that an accumulator has no room for is cut."""
        each = weight_steps.reshape(-1, *[1] * (floats.ndim - 1))
        weights = rounded(floats / each, 0, *weight_range(layer.weight_bits))
        whole = rounded(bias / (steps[layer.input.name] * weight_steps), 0, -INT32_MAX, INT32_MAX)
        with torch.no_grad():
            flat, source = weights.flatten(1), layer.input
            reach = max(abs(source.low), abs(source.high))
            room = (INT32_MAX >> layer.scaling.shift) - flat.abs().sum(1) * reach
            room, folded = room.clamp(min=0), source.zero_point * flat.sum(1)
            within = torch.clamp(whole - folded, -room, room) + folded
        return weights, straight(lambda: whole, within, lambda: within == whole)


def starting_floats(layer: QuantizedLayer) -> tuple[Tensor, Tensor]:
    """Weights and bias that round to the layer's integers, the weights as near to the float ones as that allows."""
    scale = layer.weight_scale.astype(np.float64).reshape(-1, *[1] * (layer.weights.ndim - 1))
    cell = (layer.weights - CELL) * scale, (layer.weights + CELL) * scale
    floats = np.clip(layer.node.weights.astype(np.float64), *cell)
    return torch.from_numpy(floats), torch.from_numpy(layer.bias * layer.bias_scale)


def _accumulate(layer: QuantizedLayer, centred: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """The accumulators for integers less their zero point, so that padding is zero."""
    node = layer.node
    if isinstance(node, Convolution):
        padded = functional.pad(centred, _margins(node.window))
        geometry = {"stride": node.window.stride, "dilation": node.window.dilation, "groups": node.groups}
        return functional.conv2d(padded, weights, bias, **geometry)
    if isinstance(node, TransposedConvolution):
        return _transposed(centred, weights, node) + bias.reshape(-1, 1, 1)
    return centred @ weights.T + bias


def _transposed(centred: Tensor, weights: Tensor, node: TransposedConvolution) -> Tensor:
    outputs, share, *kernel = weights.shape
    stored = weights.reshape(node.groups, outputs // node.groups, share, *kernel).transpose(1, 2)
    stored = stored.reshape(node.groups * share, outputs // node.groups, *kernel)
    stride, dilation = node.window.stride, node.window.dilation
    whole = functional.conv_transpose2d(centred, stored, stride=stride, dilation=dilation, groups=node.groups)
    top, left, bottom, right = node.window.pads
    down, across = node.output_padding
    return functional.pad(whole, (-left, across - right, -top, down - bottom))


def _bounded(smooth: Smooth, exact: Tensor, target: Activation, function: Function, steps: Steps) -> Tensor:
    """``clamp(exact + zero_point)`` with the gradient of ``smooth`` behind the function where it is a clamp.

    :param smooth: in steps of the target, before rounding
    :param exact: the same rounded, int64
    """
    q, (low, high) = exact + target.zero_point, activation_range(target.bits)

    def behind() -> Tensor:
        if not function.clamps:
            return smooth()
        # A bound of the function is a real value: in steps it moves with them, unlike the bound of the width.
        ends = [end / steps[target.name] if isfinite(end) else None for end in (function.low, function.high)]
        return torch.clamp(smooth(), *ends)

    return straight(behind, torch.clamp(q, target.low, target.high), lambda: (q >= low) & (q <= high))


def _table(
    function: Function, table: Integers, before: Activation, after: Activation, steps: Steps, q: Tensor
) -> Tensor:
    """A function by its table, with the exact function's gradient."""

    def smooth() -> Tensor:
        return EXACT[function.name](steps[before.name] * (q - before.zero_point)) / steps[after.name]

    return straight(smooth, looked_up(q, _tensor(table, q)))


def _sum(node: QuantizedSum, steps: Steps, *q: Tensor) -> Tensor:
    by, output = node.by, node.output
    total: Tensor = sum(m * x.detach() for m, x in zip(by.multipliers, q, strict=True)) + by.constant
    exact = (total.to(torch.int64) >> by.shift) - output.zero_point

    def smooth() -> Tensor:
        parts = zip(node.node.signs, node.inputs, q, strict=True)
        real: Tensor = sum(sign * steps[source.name] * (x - source.zero_point) for sign, source, x in parts)
        return real / steps[node.name]

    return _bounded(smooth, exact, output, node.node.function, steps)


def _product(node: QuantizedProduct, steps: Steps, *q: Tensor) -> Tensor:
    (a, b), output = node.inputs, node.output
    product = (q[0] - a.zero_point) * (q[1] - b.zero_point)
    exact = requantized(product, _tensor(node.by.multiplier, product), node.by.shift) + output.zero_point
    scales = steps[a.name], steps[b.name], steps[node.name]
    return clamped(lambda: product * (scales[0] * scales[1] / scales[2]), exact, output.low, output.high)


def _concat(node: QuantizedConcat, steps: Steps, *q: Tensor) -> Tensor:
    parts = zip(q, node.inputs, node.rescales, strict=True)
    return torch.cat([x if by is None else _rescaled(node, steps, x, source, by) for x, source, by in parts], dim=1)


def _rescaled(node: QuantizedConcat, steps: Steps, x: Tensor, source: Activation, by: WeightedSum) -> Tensor:
    output, ratio = node.output, steps[source.name] / steps[node.name]
    exact = (by.multipliers[0] * x.detach() + by.constant).to(torch.int64) >> by.shift
    return clamped(lambda: ratio * (x - source.zero_point), exact, output.low, output.high)


def _average(node: QuantizedAverage, steps: Steps, q: Tensor) -> Tensor:
    source, output, by = node.inputs[0], node.output, node.by
    channels, height, width = source.shape
    image = torch.ones(1, channels, height, width, dtype=torch.float64, device=q.device)
    count = _window_sums(node, image, float(node.node.count_padding)).to(torch.int64)
    sums = _window_sums(node, q - source.zero_point, 0.0)
    exact = requantized(sums, _tensor(by.multiplier, q)[count - 1], by.shift) + output.zero_point
    ratio = steps[source.name] / steps[node.name]
    return clamped(lambda: sums * (ratio / count), exact, output.low, output.high)


def _window_sums(node: QuantizedAverage, image: Tensor, fill: float) -> Tensor:
    window, channels = node.node.window, image.shape[1]
    ones = torch.ones(channels, 1, *window.kernel, dtype=torch.float64, device=image.device)
    padded = functional.pad(image, _margins(window), value=fill)
    return functional.conv2d(padded, ones, stride=window.stride, dilation=window.dilation, groups=channels)


def _move(node: QuantizedMove, q: Tensor) -> Tensor:
    """Pooling of the largest, another shape, margin or size, a clamp."""
    output = node.output
    match node.node:
        case MaxPool(window=window):
            padded = functional.pad(q, _margins(window), value=-torch.inf)
            return functional.max_pool2d(padded, window.kernel, window.stride, dilation=window.dilation)
        case Pad(pads=(top, left, bottom, right)):
            return functional.pad(q, (left, right, top, bottom), value=float(output.zero_point))
        case Reshape(target=target, channels_last=last):
            turned = q.permute(0, 2, 3, 1) if last and q.ndim == 4 else q
            return turned.reshape(-1, *target)
        case Resize(height=height, width=width):
            rows, columns = (
                torch.arange(end, device=q.device) * size // end
                for size, end in zip(q.shape[2:], (height, width), strict=True)
            )
            return q[:, :, rows][:, :, :, columns]
    return torch.clamp(q, output.low, output.high)


def _tensor(values: Integers, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(like.device)


def _margins(window: Window) -> tuple[int, int, int, int]:
    """Padding in torch's order: left, right, top, bottom."""
    top, left, bottom, right = window.pads
    return left, right, top, bottom
