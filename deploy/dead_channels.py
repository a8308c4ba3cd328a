"""Exact removal of channels that are constant, or that nothing reads.

An output channel whose weights are all zero yields the same integer everywhere: what a reader makes of it is
a constant, which goes into the reader's bias. Under padding that is exact only where the constant is the zero
point, as the border then looks like the rest. Afterwards nobody reads the channel, and it is cut out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Requantization
from policyport.deploy import reference
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Layer, Lookup, Pool, Tensor, TransposedConv2d
from policyport.deploy.program import Program

Channels = NDArray[np.bool_]
"""[channels], one flag for each element of an activation's last axis."""


def remove_dead_channels(program: Program) -> Program:
    """The same function with fewer channels; the input's and the output's stay as they are."""
    folded = _folded(program)
    kept = {name: ~dead for name, dead in _dead(folded).items()}
    if all(keep.all() for keep in kept.values()):
        return folded
    tensors = {t.name: _narrowed(t, kept[t.name]) for t in folded.tensors}
    layers = tuple(_cut(layer, tensors, kept) for layer in folded.layers)
    return replace(folded, layers=layers)


def _folded(program: Program) -> Program:
    """The program with every constant channel folded into the biases of its readers, as far as that is exact."""
    constants: dict[str, dict[int, int]] = {}
    layers = []
    for layer in program.layers:
        known = constants.get(layer.input.name, {})
        if isinstance(layer, Affine) and known:
            layer = _fold(layer, known)
        constants[layer.output.name] = _constant_channels(layer, known)
        layers.append(layer)
    return replace(program, layers=tuple(layers))


def _constant_channels(layer: Layer, known: dict[int, int]) -> dict[int, int]:
    """The channels of a layer's output that hold one integer everywhere, and that integer."""
    if isinstance(layer, Affine):
        rows = layer.weights.reshape(len(layer.weights), -1)
        if len(rows) != layer.output.shape[-1]:
            return {}
        values = reference.finish(layer, layer.bias)
        return {int(c): int(values[c]) for c in np.flatnonzero(~rows.any(axis=1))}
    if isinstance(layer, Lookup) and layer.output.bits == 8:
        return {c: int(layer.table[value + 128]) for c, value in known.items()}
    if isinstance(layer, Pool) and layer.kind == "max":
        return {c: int(np.clip(value, layer.output.low, layer.output.high)) for c, value in known.items()}
    return {}


def _fold(layer: Affine, known: dict[int, int]) -> Affine:
    """The layer with zero weights for constant channels, what they contributed added to the bias."""
    weights, bias = layer.weights.copy(), layer.bias.copy()
    for channel, value in known.items():
        if _bordered(layer) and value != layer.input.zero_point:
            continue
        rows, taps = _taps(layer, weights, channel)
        bias[rows] += value * taps.reshape(len(taps), -1).sum(axis=1)
        taps[...] = 0
    return replace(layer, weights=weights, bias=bias)


def _bordered(layer: Affine) -> bool:
    """Whether some taps see the zero point where there is no input."""
    return isinstance(layer, TransposedConv2d) or (isinstance(layer, Conv2d) and any(layer.window.pads))


def _taps(layer: Affine, weights: Integers, channel: int) -> tuple[slice, Integers]:
    """The outputs that read a channel of the input, and their weights for it, as a view: [outputs, ...]."""
    if not isinstance(layer, Conv2d):
        return slice(None), weights.reshape(len(weights), -1, layer.input.shape[-1])[:, :, channel]
    depth, share = weights.shape[3], len(weights) // layer.groups
    group = channel // depth
    rows = slice(group * share, (group + 1) * share)
    return rows, weights[rows, :, :, channel % depth]


def _dead(program: Program) -> dict[str, Channels]:
    """The channels to cut, by activation: those that no reader reads and that their producer can leave out."""
    dead = {t.name: np.ones(t.shape[-1], np.bool_) for t in program.tensors}
    dead[program.input.name][:] = False
    dead[program.output.name][:] = False
    _settle(program, dead)
    for flags in dead.values():
        flags[0] &= not flags.all()  # an activation without channels is none
    _settle(program, dead)
    return dead


def _settle(program: Program, dead: dict[str, Channels]) -> None:
    """Take off what any layer needs, until no layer needs more."""
    before = -1
    while before != (before := sum(int(flags.sum()) for flags in dead.values())):
        for layer in program.layers:
            _narrow(layer, dead)


def _narrow(layer: Layer, dead: dict[str, Channels]) -> None:
    """Take off what a layer needs, of its operands and of its output."""
    target = dead[layer.output.name]
    if _channel_by_channel(layer):
        target &= dead[layer.input.name]
        dead[layer.input.name] &= target
        return
    whole = isinstance(layer, Affine) and (not isinstance(layer, Conv2d) or layer.groups == 1)
    if whole and isinstance(layer, Affine) and len(layer.weights) == layer.output.shape[-1]:
        unread = [not _taps(layer, layer.weights, c)[1].any() for c in range(layer.input.shape[-1])]
        dead[layer.input.name] &= np.array(unread)
        return
    target[:] = False
    for tensor in layer.inputs:
        dead[tensor.name][:] = False


def _channel_by_channel(layer: Layer) -> bool:
    """Whether each channel of the output depends on the same channel of the input alone."""
    if isinstance(layer, Conv2d):
        return layer.groups == layer.input.shape[2] == layer.output.shape[2] > 1
    return isinstance(layer, (Lookup, Pool))


def _narrowed(tensor: Tensor, keep: Channels) -> Tensor:
    return replace(tensor, shape=(*tensor.shape[:-1], int(keep.sum())))


def _cut(layer: Layer, tensors: dict[str, Tensor], kept: dict[str, Channels]) -> Layer:
    """The layer over narrower activations."""
    inputs, output = tuple(tensors[t.name] for t in layer.inputs), tensors[layer.output.name]
    if not isinstance(layer, Affine):
        return replace(layer, inputs=inputs, output=output)
    channels, rows = kept[layer.input.name], kept[layer.output.name]
    weights = layer.weights
    if isinstance(layer, Conv2d) and _channel_by_channel(layer):
        layer = replace(layer, groups=int(channels.sum()))
    elif isinstance(layer, FullyConnected):
        weights = weights.reshape(len(weights), -1, len(channels))[:, :, channels].reshape(len(weights), -1)
    elif isinstance(layer, Conv2d) and layer.groups == 1:
        weights = weights[..., channels]
    rows = rows if len(rows) == len(weights) else np.ones(len(weights), np.bool_)
    return replace(
        layer,
        inputs=inputs,
        output=output,
        weights=weights[rows],
        weight_scale=layer.weight_scale[rows],
        bias=layer.bias[rows],
        requantize=Requantization(layer.requantize.multiplier[rows], layer.requantize.shift),
        before_table=replace(layer.before_table, shape=output.shape),
    )
