"""Operators of the integer network as torch modules, between integers held as float64 [n, *shape]."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from policyport.core.operators import Window
from policyport.core.semantics import weight_range
from policyport.quantize.fake_rounding import Lookup, Requantize, Round, ShiftDown, Softmax
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
from policyport.quantize.nodes import Convolution, MaxPool, Pad, Reshape, Resize, TransposedConvolution
from torch.nn import functional

Tensor = Any  # torch carries no types that a strict checker is shown here

CELL = 0.499
"""How far from its integer, in steps, a float weight starts at most: rounding it gives that integer."""


def fake_node(node: QuantizedNode) -> torch.nn.Module:
    """The module of an operator."""
    match node:
        case QuantizedLayer():
            return FakeLayer(node)
        case QuantizedSum():
            return FakeSum(node)
        case QuantizedProduct():
            return FakeProduct(node)
        case QuantizedConcat():
            return FakeConcat(node)
        case QuantizedAverage():
            return FakeAverage(node)
        case QuantizedLookup():
            return FakeLookup(node)
        case QuantizedSoftmax():
            return FakeSoftmax(node)
    assert isinstance(node, QuantizedMove)
    return FakeMove(node)


class FakeLayer(torch.nn.Module):  # type: ignore[misc]
    """A layer with weights."""

    weight_scale: Tensor
    bias_scale: Tensor
    multiplier: Tensor
    table: Tensor

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self._layer = layer
        scale = layer.weight_scale.astype(np.float64).reshape(-1, *[1] * (layer.weights.ndim - 1))
        cell = (layer.weights - CELL) * scale, (layer.weights + CELL) * scale
        floats = np.clip(layer.node.weights.astype(np.float64), *cell)
        self.weights = torch.nn.Parameter(torch.from_numpy(floats))
        self.bias = torch.nn.Parameter(torch.from_numpy(layer.bias * layer.bias_scale))
        self.register_buffer("weight_scale", torch.from_numpy(scale))
        self.register_buffer("bias_scale", torch.from_numpy(layer.bias_scale))
        self.register_buffer("multiplier", torch.from_numpy(layer.requantize.multiplier))
        table = np.zeros(0, np.int64) if layer.table is None else layer.table
        self.register_buffer("table", torch.from_numpy(table))

    def forward(self, q: Tensor) -> Tensor:
        """Integers to integers."""
        layer, target = self._layer, self._layer.before
        accumulator = self._accumulate(q - layer.input.zero_point)
        each = (-1, *[1] * (accumulator.ndim - 2))
        ratio = (self.bias_scale / target.scale).reshape(each)
        bounds = target.low, target.high
        by = self.multiplier.reshape(each), ratio, layer.requantize.shift
        q = Requantize.apply(accumulator, *by, target.zero_point, bounds)
        if not layer.has_table:
            return q
        before = target.scale, target.zero_point
        return Lookup.apply(q, self.table, layer.node.function.name, before, layer.output.scale)

    def _accumulate(self, centred: Tensor) -> Tensor:
        """The accumulators for integers less their zero point, so that padding is zero."""
        weights, bias, node = self._rounded_weights(), self._rounded_bias(), self._layer.node
        if isinstance(node, Convolution):
            padded = functional.pad(centred, _margins(node.window))
            geometry = {"stride": node.window.stride, "dilation": node.window.dilation, "groups": node.groups}
            return functional.conv2d(padded, weights, bias, **geometry)
        if isinstance(node, TransposedConvolution):
            return self._transposed(centred, weights, node) + bias.reshape(-1, 1, 1)
        return centred @ weights.T + bias

    @staticmethod
    def _transposed(centred: Tensor, weights: Tensor, node: TransposedConvolution) -> Tensor:
        outputs, share, *kernel = weights.shape
        stored = weights.reshape(node.groups, outputs // node.groups, share, *kernel).transpose(1, 2)
        stored = stored.reshape(node.groups * share, outputs // node.groups, *kernel)
        stride, dilation = node.window.stride, node.window.dilation
        whole = functional.conv_transpose2d(centred, stored, stride=stride, dilation=dilation, groups=node.groups)
        top, left, bottom, right = node.window.pads
        down, across = node.output_padding
        return functional.pad(whole, (-left, across - right, -top, down - bottom))

    def quantized(self) -> QuantizedLayer:
        """The layer with the integers that its parameters round to now."""
        with torch.no_grad():
            weights = self._rounded_weights().to(torch.int64).cpu().numpy()
            bias = self._rounded_bias().to(torch.int64).cpu().numpy()
            floats = self.weights.detach().cpu().numpy().astype(np.float32)
        return replace(self._layer, weights=weights, bias=bias, node=replace(self._layer.node, weights=floats))

    def _rounded_weights(self) -> Tensor:
        return Round.apply(self.weights / self.weight_scale, 0, *weight_range(self._layer.weight_bits))

    def _rounded_bias(self) -> Tensor:
        return Round.apply(self.bias / self.bias_scale, 0, -(2**31) + 1, 2**31 - 1)


class FakeSum(torch.nn.Module):  # type: ignore[misc]
    """A weighted sum."""

    def __init__(self, node: QuantizedSum) -> None:
        super().__init__()
        self._node = node

    def forward(self, *q: Tensor) -> Tensor:
        """Integers to integers."""
        by, output = self._node.by, self._node.output
        total = sum(m * x for m, x in zip(by.multipliers, q, strict=True)) + by.constant
        return ShiftDown.apply(total, by.shift, output.low, output.high)


class FakeProduct(torch.nn.Module):  # type: ignore[misc]
    """A product of two tensors."""

    multiplier: Tensor
    ratio: Tensor

    def __init__(self, node: QuantizedProduct) -> None:
        super().__init__()
        self._node = node
        a, b = node.inputs
        self.register_buffer("multiplier", torch.from_numpy(node.by.multiplier))
        self.register_buffer("ratio", torch.tensor(a.scale * b.scale / node.output.scale, dtype=torch.float64))

    def forward(self, *q: Tensor) -> Tensor:
        """Integers to integers."""
        (a, b), output = self._node.inputs, self._node.output
        product = (q[0] - a.zero_point) * (q[1] - b.zero_point)
        bounds = output.low, output.high
        return Requantize.apply(product, self.multiplier, self.ratio, self._node.by.shift, output.zero_point, bounds)


class FakeConcat(torch.nn.Module):  # type: ignore[misc]
    """Tensors side by side."""

    def __init__(self, node: QuantizedConcat) -> None:
        super().__init__()
        self._node = node

    def forward(self, *q: Tensor) -> Tensor:
        """Integers to integers."""
        output, parts = self._node.output, []
        for x, by in zip(q, self._node.rescales, strict=True):
            if by is not None:
                x = ShiftDown.apply(by.multipliers[0] * x + by.constant, by.shift, output.low, output.high)
            parts.append(x)
        return torch.cat(parts, dim=1)


class FakeAverage(torch.nn.Module):  # type: ignore[misc]
    """The mean of windows."""

    multiplier: Tensor
    ratio: Tensor
    ones: Tensor

    def __init__(self, node: QuantizedAverage) -> None:
        super().__init__()
        self._node = node
        source, window = node.inputs[0], node.node.window
        channels, height, width = source.shape
        self.register_buffer("ones", torch.ones(channels, 1, *window.kernel, dtype=torch.float64))
        image = torch.ones(1, channels, height, width, dtype=torch.float64)
        count = self._sums(image, float(node.node.count_padding)).to(torch.int64)
        self.register_buffer("multiplier", torch.from_numpy(node.by.multiplier)[count - 1])
        self.register_buffer("ratio", source.scale / node.output.scale / count)

    def forward(self, q: Tensor) -> Tensor:
        """Integers to integers."""
        output, by = self._node.output, self._node.by
        sums = self._sums(q - self._node.inputs[0].zero_point, 0.0)
        bounds = output.low, output.high
        return Requantize.apply(sums, self.multiplier, self.ratio, by.shift, output.zero_point, bounds)

    def _sums(self, image: Tensor, fill: float) -> Tensor:
        window = self._node.node.window
        padded = functional.pad(image, _margins(window), value=fill)
        return functional.conv2d(
            padded, self.ones, stride=window.stride, dilation=window.dilation, groups=image.shape[1]
        )


class FakeMove(torch.nn.Module):  # type: ignore[misc]
    """Pooling of the largest, another shape, margin or size, a clamp."""

    def __init__(self, node: QuantizedMove) -> None:
        super().__init__()
        self._node = node

    def forward(self, q: Tensor) -> Tensor:
        """Integers to integers."""
        output = self._node.output
        match self._node.node:
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


class FakeLookup(torch.nn.Module):  # type: ignore[misc]
    """A function on its own."""

    table: Tensor

    def __init__(self, node: QuantizedLookup) -> None:
        super().__init__()
        self._node = node
        self.register_buffer("table", torch.from_numpy(node.table))

    def forward(self, q: Tensor) -> Tensor:
        """Integers to integers."""
        source = self._node.inputs[0]
        before = source.scale, source.zero_point
        return Lookup.apply(q, self.table, self._node.node.function.name, before, self._node.output.scale)


class FakeSoftmax(torch.nn.Module):  # type: ignore[misc]
    """Softmax over the features."""

    table: Tensor

    def __init__(self, node: QuantizedSoftmax) -> None:
        super().__init__()
        self._scale = node.inputs[0].scale
        self.register_buffer("table", torch.from_numpy(node.table))

    def forward(self, q: Tensor) -> Tensor:
        """Integers to integers."""
        return Softmax.apply(q, self.table, self._scale)


def _margins(window: Window) -> tuple[int, int, int, int]:
    """Padding in torch's order: left, right, top, bottom."""
    top, left, bottom, right = window.pads
    return left, right, top, bottom
