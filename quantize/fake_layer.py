"""Layers with weights of the integer network in torch: exact integers forward, the gradients of LSQ backward.

A layer is two functions of their own, the rounding of its weights and the requantization of its sums, so that training
in a loop that asks for few observations at a time is not spent on bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from policyport.core.operators import Window
from policyport.core.semantics import INT32_MAX, Integers, activation_range, weight_range
from policyport.quantize.activation import Activation
from policyport.quantize.fake_rounding import EXACT, looked_up, requantized, straight
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.nodes import Convolution, Function, TransposedConvolution, Weighted
from torch.nn import functional

Tensor = Any  # torch carries no types that a strict checker is shown here

Steps = Mapping[str, Tensor]
"""The scale of every tensor by name, 0-dimensional, float64 holding a float32 value."""

Source = Callable[[], tuple[Tensor, Tensor]]
"""Gives weights [outputs, taps...] and bias [outputs] before rounding, float64."""

EXACT_FLOAT32 = 2**24
"""Below it float32 holds every integer, and so every sum of integers whose absolute values add up to less."""

CELL = 0.25
"""How far from its integer, in steps, a float weight starts at most.

Rounding it gives that integer; and none starts at the edge of two, where the least gradient would undo what a solver
found."""


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
        source, target = layer.input, layer.before
        weights, bias = self._integers(layer, steps[source.name], weight_steps)
        sums = _integer_sums(layer, q, weights, bias)
        found = {target.name: _Requantized.apply(sums, steps[source.name], weight_steps, steps[target.name], layer)}
        if layer.table is not None:
            given = layer.node.function, layer.table, target, layer.output, steps
            found[layer.name] = table_of(*given, found[target.name])
        return found

    def quantized(self, layer: QuantizedLayer, steps: Steps, weight_steps: Tensor) -> QuantizedLayer:
        """The layer with the integers that its weights round to now.

        :raises UnsupportedModelError: an accumulator could overflow
        """
        with torch.no_grad():
            floats, _ = self._floats()
            whole = self._integers(layer, steps[layer.input.name], weight_steps)
            weights, bias = (x.to(torch.int64).cpu().numpy() for x in whole)
        node = replace(layer.node, weights=floats.detach().cpu().numpy().astype(np.float32))
        made = replace(layer, weights=weights, bias=bias, node=node)
        _ = made.requantize  # proves that no accumulator overflows
        return made

    def _floats(self) -> tuple[Tensor, Tensor]:
        return (self.weights, self.bias) if self._source is None else self._source()

    def _integers(self, layer: QuantizedLayer, step: Tensor, weight_steps: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and bias; those of before where nothing is learned of them and nothing has changed."""
        floats, bias = self._floats()
        if torch.is_grad_enabled():
            found: tuple[Tensor, Tensor] = _Rounded.apply(floats, bias, step, weight_steps, layer)
            return found
        known = self._known
        if not known or known[0] is not layer or not torch.equal(known[1], floats) or not torch.equal(known[2], bias):
            whole = _Rounded.apply(floats, bias, step, weight_steps, layer)
            self._known = layer, floats.clone(), bias.clone(), whole
        weights, bias = self._known[3]
        return weights, bias


class _Rounded(torch.autograd.Function):  # type: ignore[misc]
    """Weights and bias of a layer rounded to its steps; a bias that an accumulator has no room for is cut.

    Backward, Esser et al. 2020, equation 3: a value passes its gradient on where it does not saturate, and the step of
    ``round(v / s)`` has ``-v / s**2`` there.
    """

    @staticmethod
    def forward(
        ctx: Any, floats: Tensor, bias: Tensor, step: Tensor, weight_steps: Tensor, layer: QuantizedLayer
    ) -> tuple[Tensor, Tensor]:
        each, unit = _along(weight_steps, floats), step * weight_steps
        nearest, whole = torch.round(floats / each), torch.round(bias / unit)
        weights = torch.clamp(nearest, *weight_range(layer.weight_bits))
        within = _within(whole, weights, layer)
        ctx.save_for_backward(floats, bias, step, weight_steps, weights == nearest, within == whole)
        return weights, within

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        floats, bias, step, weight_steps, inside, within = ctx.saved_tensors
        of_floats = grad_outputs[0] * inside / _along(weight_steps, floats)
        of_bias = grad_outputs[1] * within / (step * weight_steps)
        if not (ctx.needs_input_grad[2] or ctx.needs_input_grad[3]):
            return of_floats, of_bias, None, None, None
        moved = -of_bias * bias
        of_step = (moved / step).sum()
        of_weight_steps = (moved - (of_floats * floats).flatten(1).sum(1)) / weight_steps
        return of_floats, of_bias, of_step, of_weight_steps, None


class _Requantized(torch.autograd.Function):  # type: ignore[misc]
    """Sums to integers of the tensor behind them, by the multipliers of the integer semantics.

    Backward the gradient of ``sums * step_in * weight_steps / step_out`` where that does not saturate; a bound of a
    function behind it, which is a real value, moves in steps with them.
    """

    @staticmethod
    def forward(
        ctx: Any, sums: Tensor, step_in: Tensor, weight_steps: Tensor, step_out: Tensor, layer: QuantizedLayer
    ) -> Tensor:
        by, target = layer.scaling, layer.before
        multiplier = tensor(by.multiplier, sums).reshape(-1, *[1] * (sums.ndim - 2))
        q = requantized(sums, multiplier, by.shift).add_(target.zero_point)
        low, high = activation_range(target.bits)
        ctx.function = layer.node.function
        ctx.save_for_backward(sums, step_in, weight_steps, step_out, (q >= low) & (q <= high))
        return torch.clamp(q, target.low, target.high).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        sums, step_in, weight_steps, step_out, inside = ctx.saved_tensors
        ratios = step_in * weight_steps / step_out
        ratio, bounds = ratios.reshape(-1, *[1] * (sums.ndim - 2)), 0.0
        if (ctx.function.low, ctx.function.high) == (0.0, np.inf):  # a rectifier: its bound is 0 in any step
            gradient = grad_outputs[0] * (inside & (sums >= 0))
        else:
            gradient = grad_outputs[0] * inside
            if ctx.function.clamps:
                gradient, bounds = _behind(ctx.function, gradient, sums * ratio, step_out)
        of_sums = gradient * ratio
        if not any(ctx.needs_input_grad[1:4]):
            return of_sums, None, None, None, None
        each = ratios * (gradient * sums).sum([axis for axis in range(sums.ndim) if axis != 1])
        total = each.sum()
        return of_sums, total / step_in, each / weight_steps, -total / step_out + bounds, None


def _behind(function: Function, gradient: Tensor, smooth: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """What of a gradient passes a clamp, and what its bounds, in steps, hand to the step."""
    passes, bounds = torch.ones_like(smooth, dtype=torch.bool), torch.zeros_like(step)
    for end, beyond in ((function.low, torch.lt), (function.high, torch.gt)):
        if np.isfinite(end):
            outside = beyond(smooth, end / step)
            passes = passes & ~outside
            bounds = bounds - (gradient * outside).sum() * end / step.square()
    return gradient * passes, bounds


def _along(weight_steps: Tensor, floats: Tensor) -> Tensor:
    return weight_steps.reshape(-1, *[1] * (floats.ndim - 1))


def _within(bias: Tensor, weights: Tensor, layer: QuantizedLayer) -> Tensor:
    """A bias, cut to what the accumulators of the weights have room for."""
    source, limit = layer.input, INT32_MAX >> layer.scaling.shift
    reach = max(abs(source.low), abs(source.high))
    taps = weights[0].numel() * max(map(abs, weight_range(layer.weight_bits)))
    # Where the largest weights there are would leave room, these do: the sums over each row are spared.
    if float(bias.abs().max()) <= limit - taps * (reach + abs(source.zero_point)):
        return bias
    flat = weights.flatten(1)
    room, folded = (limit - flat.abs().sum(1) * reach).clamp(min=0), source.zero_point * flat.sum(1)
    return torch.clamp(torch.clamp(bias, -INT32_MAX, INT32_MAX) - folded, -room, room) + folded


def starting_floats(layer: QuantizedLayer) -> tuple[Tensor, Tensor]:
    """Weights and bias that round to the layer's integers, the weights as near to the float ones as that allows."""
    scale = layer.weight_scale.astype(np.float64).reshape(-1, *[1] * (layer.weights.ndim - 1))
    cell = (layer.weights - CELL) * scale, (layer.weights + CELL) * scale
    floats = np.clip(layer.node.weights.astype(np.float64), *cell)
    return torch.from_numpy(floats), torch.from_numpy(layer.bias * layer.bias_scale)


def _integer_sums(layer: QuantizedLayer, q: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """The accumulators of integers, float64; those of convolutions summed as float32 where that is exact too."""
    source = layer.input
    reach = max(abs(source.low - source.zero_point), abs(source.high - source.zero_point))
    largest = reach * weights[0].numel() * max(map(abs, weight_range(layer.weight_bits)))
    if not isinstance(layer.node, Convolution) or largest >= EXACT_FLOAT32:
        return weighted_sums(layer.node, q - source.zero_point, weights, bias)
    centred = q.to(torch.float32) - source.zero_point
    sums = weighted_sums(layer.node, centred, weights.to(torch.float32), None)
    return sums.to(torch.float64) + bias.reshape(-1, 1, 1)


def weighted_sums(node: Weighted, centred: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """The accumulators for integers less their zero point, or for real values: padding is zero.

    :param bias: None for none, of a convolution
    """
    if isinstance(node, Convolution):
        left, right, top, bottom = margins(node.window)
        if (left, top) != (right, bottom):
            centred, top, left = functional.pad(centred, (left, right, top, bottom)), 0, 0
        geometry = {"stride": node.window.stride, "dilation": node.window.dilation, "groups": node.groups}
        return functional.conv2d(centred, weights, bias, padding=(top, left), **geometry)
    assert bias is not None
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


def table_of(
    function: Function, table: Integers, before: Activation, after: Activation, steps: Steps, q: Tensor
) -> Tensor:
    """A function by its table, with the exact function's gradient."""

    def smooth() -> Tensor:
        return EXACT[function.name](steps[before.name] * (q - before.zero_point)) / steps[after.name]

    return straight(smooth, looked_up(q, tensor(table, q)))


def tensor(values: Integers, like: Tensor) -> Tensor:
    """Integers as a tensor where another is."""
    return torch.from_numpy(np.asarray(values)).to(like.device)


def margins(window: Window) -> tuple[int, int, int, int]:
    """Padding in torch's order: left, right, top, bottom."""
    top, left, bottom, right = window.pads
    return left, right, top, bottom
