"""Operators without weights of the integer network in torch, between integers held as float64 [n, *shape].

Each yields the exact integers and, for training, the gradient of the real values that they stand for: to its inputs
and to the scales of all of them.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from policyport.core.operators import WeightedSum
from policyport.core.semantics import activation_range
from policyport.quantize.activation import Activation
from policyport.quantize.fake_layer import Steps, margins, table_of, tensor
from policyport.quantize.fake_rounding import (
    Smooth,
    clamped,
    requantized,
    softmax_shares,
    straight,
)
from policyport.quantize.integer_nodes import (
    QuantizedAverage,
    QuantizedConcat,
    QuantizedLookup,
    QuantizedMove,
    QuantizedNode,
    QuantizedProduct,
    QuantizedSoftmax,
    QuantizedSum,
)
from policyport.quantize.nodes import (
    AveragePool,
    Function,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Resize,
    Slice,
)
from torch.nn import functional

Tensor = Any  # torch carries no types that a strict checker is shown here


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
            return table_of(node.node.function, node.table, node.inputs[0], node.output, steps, q[0])
        case QuantizedSoftmax():
            shares = softmax_shares(q[0], tensor(node.table, q[0]))
            return straight(lambda: 256 * torch.softmax(steps[node.inputs[0].name] * q[0], dim=-1), shares)
    assert isinstance(node, QuantizedMove)
    found = moved(node.node, q[0], float(node.output.zero_point))
    return torch.clamp(q[0], node.output.low, node.output.high) if found is None else found


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
    exact = requantized(product, tensor(node.by.multiplier, product), node.by.shift) + output.zero_point
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
    count = window_sums(node.node, image, float(node.node.count_padding)).to(torch.int64)
    sums = window_sums(node.node, q - source.zero_point, 0.0)
    exact = requantized(sums, tensor(by.multiplier, q)[count - 1], by.shift) + output.zero_point
    ratio = steps[source.name] / steps[node.name]
    return clamped(lambda: sums * (ratio / count), exact, output.low, output.high)


def window_sums(node: AveragePool, image: Tensor, fill: float) -> Tensor:
    """The sum over each window of an image [n, channels, height, width], padded with ``fill``."""
    window, channels = node.window, image.shape[1]
    ones = torch.ones(channels, 1, *window.kernel, dtype=image.dtype, device=image.device)
    padded = functional.pad(image, margins(window), value=fill)
    return functional.conv2d(padded, ones, stride=window.stride, dilation=window.dilation, groups=channels)


def moved(node: Node, q: Tensor, zero: float) -> Tensor | None:
    """Pooling of the largest, another shape, margin or size, a part; None where the operator is none of these.

    :param zero: what a margin holds
    """
    match node:
        case MaxPool(window=window):
            padded = functional.pad(q, margins(window), value=-torch.inf)
            return functional.max_pool2d(padded, window.kernel, window.stride, dilation=window.dilation)
        case Pad(pads=(top, left, bottom, right)):
            return functional.pad(q, (left, right, top, bottom), value=zero)
        case Reshape(target=target, channels_last=last):
            if last and len(target) == 3:
                return q.reshape(-1, *target[1:], target[0]).permute(0, 3, 1, 2)
            turned = q.permute(0, 2, 3, 1) if last and q.ndim == 4 else q
            return turned.reshape(-1, *target)
        case Slice() as part:
            return part.move(q)
        case Resize(height=height, width=width):
            rows, columns = (
                torch.arange(end, device=q.device) * size // end
                for size, end in zip(q.shape[2:], (height, width), strict=True)
            )
            return q[:, :, rows][:, :, :, columns]
    return None
