"""Program to program, every integer of the output kept: fusions, dead channels, dead layers, the order of execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from policyport.core.semantics import Requantization
from policyport.deploy.dead_channels import remove_dead_channels
from policyport.deploy.layers import (
    Add,
    Affine,
    Conv2d,
    FullyConnected,
    Layer,
    Lookup,
    Pad,
    Pool,
    Tensor,
    Transpose,
    TransposedConv2d,
)
from policyport.deploy.order import reorder
from policyport.deploy.program import Program


def optimize(program: Program) -> Program:
    """The program with everything fused, nothing dead, in the order that takes least memory."""
    for fuse in (_fuse_clamp, _fuse_table, _fuse_transpose, _fuse_pad):
        program = _fused(program, fuse)
    return reorder(remove_dead_layers(remove_dead_channels(program)))


def remove_dead_layers(program: Program) -> Program:
    """The program without layers that its output does not depend on."""
    needed = {program.output.name}
    kept: list[Layer] = []
    for layer in reversed(program.layers):
        if layer.output.name in needed:
            kept.append(layer)
            needed |= {tensor.name for tensor in layer.inputs}
    return replace(program, layers=tuple(reversed(kept)))


Fuse = Callable[[Layer, Layer], Layer | None]
"""From a layer and the one reader of its output to the layer that replaces both; None where they do not fuse."""


def _fused(program: Program, fuse: Fuse) -> Program:
    """The program with every pair fused that can be; the fused layer stands where the second stood."""
    layers = list(program.layers)
    at = 0
    while at < len(layers):
        readers = Counter(tensor.name for layer in layers for tensor in layer.inputs)
        readers[program.output.name] += 1
        second = layers[at]
        producers = {layer.output.name: i for i, layer in enumerate(layers[:at])}
        first = producers.get(second.input.name)
        one = first is not None and readers[second.input.name] == 1
        fused = fuse(layers[first], second) if one and first is not None else None
        if fused is None or first is None:
            at += 1
        else:
            layers[at] = fused
            del layers[first]
    ends = {layer.output.name: layer.output for layer in layers}
    return replace(program, layers=tuple(layers), output=ends.get(program.output.name, program.output))


def _fuse_clamp(first: Layer, second: Layer) -> Layer | None:
    """A change of scale that changes none, behind a layer that can clamp."""
    if not isinstance(second, Add) or len(second.inputs) != 1 or not second.input.quantized_as(second.output):
        return None
    target = replace(
        second.output, low=max(first.output.low, second.output.low), high=min(first.output.high, second.output.high)
    )
    if isinstance(first, Affine) and first.table is None:
        return replace(first, name=second.name, output=target, before_table=target)
    if isinstance(first, (Add, Pool)):
        return replace(first, name=second.name, output=target)
    return None


def _fuse_table(first: Layer, second: Layer) -> Layer | None:
    """A pointwise function behind a layer with weights becomes its table."""
    if not isinstance(second, Lookup) or not isinstance(first, Affine) or first.table is not None:
        return None
    return replace(first, name=second.name, output=second.output, table=second.table, function=second.function)


def _fuse_transpose(first: Layer, second: Layer) -> Layer | None:
    """A transposition of a vector that a fully connected layer yields: its rows in another order."""
    if not isinstance(second, Transpose) or not isinstance(first, FullyConnected):
        return None
    rows = np.arange(len(first.weights)).reshape(second.shape).transpose(second.order).reshape(-1)
    target: Tensor = second.output
    return replace(
        first,
        name=second.name,
        output=target,
        before_table=replace(first.before_table, shape=target.shape) if first.function else target,
        weights=first.weights[rows],
        weight_scale=first.weight_scale[rows],
        bias=first.bias[rows],
        requantize=Requantization(first.requantize.multiplier[rows], first.requantize.shift),
    )


def _fuse_pad(first: Layer, second: Layer) -> Layer | None:
    """A border of the zero point before a convolution is its padding."""
    plain = isinstance(second, Conv2d) and not isinstance(second, TransposedConv2d)
    if not isinstance(first, Pad) or not plain or first.value != first.input.zero_point:
        return None
    assert isinstance(second, Conv2d)
    pads = tuple(a + b for a, b in zip(first.pads, second.window.pads, strict=True))
    window = replace(second.window, pads=(pads[0], pads[1], pads[2], pads[3]))
    return replace(second, inputs=first.inputs, window=window)
