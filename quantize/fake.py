"""The integer network in torch: equal bit for bit to the integers, with gradients for training.

Integers travel as float64, in which sums of products stay exact to 2**53; the requantizing multiply,
which needs 62 bits, is done in int64. Each rounding passes its gradient straight through (Bengio et al.
2013, straight-through estimator) where it does not saturate.

This module alone of the package imports torch; nothing of the package imports it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from policyport.core.semantics import Integers
from policyport.quantize.network import QuantizedLayer, QuantizedNetwork

Tensor = Any  # torch carries no types that a strict checker is shown here

CELL = 0.499
"""How far from its integer, in steps, a float weight starts at most: rounding it gives that integer."""


class FakeQuantized(torch.nn.Module):  # type: ignore[misc]
    """A :class:`QuantizedNetwork` as a torch module: float observations in, dequantized outputs out.

    Weights and biases are float64 parameters, rounded in every forward pass; scales stay as they are.
    :meth:`network` gives the trained integers back.
    """

    offset: Tensor
    gain: Tensor
    input_scale: Tensor
    output_scale: Tensor

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        self._network = network
        size = network.input.size
        prefix, source = network.prefix, network.input
        self.register_buffer("offset", torch.from_numpy(prefix.offset.copy()))
        self.register_buffer("gain", torch.from_numpy(prefix.gain.copy()))
        # A vector, for a division by a scalar may become a multiplication by its inverse on a GPU.
        self.register_buffer("input_scale", torch.full((size,), source.scale, dtype=torch.float32))
        self.register_buffer("output_scale", torch.tensor(network.output.scale, dtype=torch.float32))
        self.layers = torch.nn.ModuleList([FakeQuantizedLayer(layer) for layer in network.layers])

    def forward(self, observations: Tensor) -> Tensor:
        """Observations [n, inputs] float32 to outputs [n, outputs] float32."""
        q = self._trace(observations)[-1]
        return (q - self._network.output.zero_point).to(torch.float32) * self.output_scale

    def integers(self, observations: Tensor) -> list[Integers]:
        """The integers of every layer's output, each [n, outputs] int64."""
        with torch.no_grad():
            trace = self._trace(observations)[1:]
        return [q.to(torch.int64).cpu().numpy() for q in trace]

    def network(self) -> QuantizedNetwork:
        """The network with the integers that the parameters round to now."""
        layers = cast("list[FakeQuantizedLayer]", list(self.layers))
        return replace(self._network, layers=tuple(layer.quantized() for layer in layers))

    def _trace(self, observations: Tensor) -> list[Tensor]:
        """The integers, as float64: the input's, then each layer's output."""
        prefix, source = self._network.prefix, self._network.input
        scaled = (observations.to(torch.float32) - self.offset) * self.gain
        steps = torch.clamp(scaled, float(prefix.low), float(prefix.high)) / self.input_scale
        values = [_Round.apply(steps, source.zero_point, source.low, source.high)]
        for layer in self.layers:
            values.append(layer(values[-1]))
        return values


class FakeQuantizedLayer(torch.nn.Module):  # type: ignore[misc]
    """One layer between integers held as float64."""

    weight_scale: Tensor
    bias_scale: Tensor
    multiplier: Tensor
    table: Tensor

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self._layer = layer
        scale = layer.weight_scale.astype(np.float64)[:, None]
        cell = (layer.weights - CELL) * scale, (layer.weights + CELL) * scale
        self.weights = torch.nn.Parameter(torch.from_numpy(np.clip(layer.float_weights, *cell)))
        self.bias = torch.nn.Parameter(torch.from_numpy(layer.bias * layer.bias_scale))
        self.register_buffer("weight_scale", torch.from_numpy(scale))
        self.register_buffer("bias_scale", torch.from_numpy(layer.bias_scale))
        self.register_buffer("multiplier", torch.from_numpy(layer.requantize.multiplier))
        table = np.zeros(0, np.int64) if layer.table is None else layer.table
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, q: Tensor) -> Tensor:
        """Integers [n, inputs] to integers [n, outputs], both float64."""
        layer = self._layer
        weights = self._rounded_weights()
        bias = self._rounded_bias() - layer.input.zero_point * weights.sum(dim=1)
        accumulator = q @ weights.T + bias
        ratio = self.bias_scale / layer.before.scale
        q = _Requantize.apply(accumulator, self.multiplier, ratio, layer)
        return _Lookup.apply(q, self.table, layer) if layer.has_table else q

    def quantized(self) -> QuantizedLayer:
        """The layer with the integers that its parameters round to now."""
        with torch.no_grad():
            weights = self._rounded_weights().to(torch.int64).cpu().numpy()
            bias = self._rounded_bias().to(torch.int64).cpu().numpy()
            floats = self.weights.detach().cpu().numpy().copy()
        return replace(self._layer, weights=weights, bias=bias, float_weights=floats)

    def _rounded_weights(self) -> Tensor:
        high = 2 ** (self._layer.weight_bits - 1) - 1
        low = -high if self._layer.weight_bits == 8 else -high - 1
        return _Round.apply(self.weights / self.weight_scale, 0, low, high)

    def _rounded_bias(self) -> Tensor:
        return _Round.apply(self.bias / self.bias_scale, 0, -(2**31) + 1, 2**31 - 1)


class _Round(torch.autograd.Function):  # type: ignore[misc]
    """``clamp(round_half_even(x) + zero_point, low, high)`` in float64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zero_point: int, low: int, high: int) -> Tensor:
        q = torch.round(x).to(torch.float64) + zero_point
        ctx.kind = x.dtype
        ctx.save_for_backward((q >= low) & (q <= high))
        return torch.clamp(q, low, high)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return (grad_outputs[0] * inside).to(ctx.kind), None, None, None


class _Requantize(torch.autograd.Function):  # type: ignore[misc]
    """:func:`policyport.core.semantics.requantize` in int64."""

    @staticmethod
    def forward(ctx: Any, accumulator: Tensor, multiplier: Tensor, ratio: Tensor, layer: QuantizedLayer) -> Tensor:
        target = layer.before
        product = (accumulator.to(torch.int64) << layer.requantize.shift) * multiplier + 2**31
        q = (product >> 32) + target.zero_point
        ctx.save_for_backward((q >= target.low) & (q <= target.high), ratio)
        return torch.clamp(q, target.low, target.high).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        inside, ratio = ctx.saved_tensors
        return grad_outputs[0] * inside * ratio, None, None, None


class _Lookup(torch.autograd.Function):  # type: ignore[misc]
    """:func:`policyport.core.semantics.lookup`; the gradient is the exact function's."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, table: Tensor, layer: QuantizedLayer) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(q)
        whole = q.to(torch.int64)
        if layer.output.bits == 8:
            return table[whole + 128].to(torch.float64)
        index, fraction = (whole >> 8) + 128, whole & 255
        return ((table[index] * (256 - fraction) + table[index + 1] * fraction + 128) >> 8).to(torch.float64)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (q,) = ctx.saved_tensors
        before, after = ctx.layer.before, ctx.layer.output
        real = before.scale * (q - before.zero_point)
        if ctx.layer.function == "Tanh":
            slope = 1 - torch.tanh(real) ** 2
        else:
            slope = torch.sigmoid(real) * (1 - torch.sigmoid(real))
        return grad_outputs[0] * slope * (before.scale / after.scale), None, None
