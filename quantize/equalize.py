"""Cross-layer equalization: the channels between two layers get one common range of weights.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError
from policyport.quantize.affine import Affine
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import (
    NONE,
    RELU,
    AveragePool,
    Floats,
    MaxPool,
    Node,
    Pad,
    Pointwise,
    Reshape,
    Resize,
    Weighted,
)

SWEEPS = 40
"""How often all pairs are equalized at most; a chain of layers converges in a few."""

CONVERGED = 1e-3
"""The largest change of a scale at which it ends."""

BATCH = 64
"""Observations that all tensors are held of at once."""

LARGEST_SCALE = 2.0**10
"""By which a channel is scaled at most in one sweep."""

SMALLEST = 1e-30
"""Magnitude below which a channel counts as this."""

Largest = dict[str, NDArray[np.float64]]
"""By layer, one magnitude for each output channel."""


@dataclass(frozen=True)
class _Pair:
    """Two layers with nothing between them that would notice a positive factor of a channel."""

    first: str
    second: str
    channel: NDArray[np.int64]
    """For each input channel of the second layer the first's output channel that it holds."""


def equalize(graph: FloatGraph, observations: Floats) -> FloatGraph:
    """The graph with every channel between two layers scaled so that its weights in both have one largest magnitude.

    It computes the same. No channel is made larger than the layer's largest was on the observations: where
    small weights stand beside a large bias, equal weights would cost the activations their resolution, for
    which the paper has a step of its own. The layers may have ReLU or nothing between them, and pooling,
    margins or another shape. A ReLU6, or another clip of positive values, is equalized as a ReLU where no
    observation reaches its upper end, as the paper does with all of them; else it stays, and so do its layers.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them
    :raises ObservationError: there are none
    """
    if not len(observations):
        raise ObservationError("no observation to equalize on", expected="at least one")
    before, behind = _largest_values(graph, observations)
    graph = _with_idle_clips_open(graph, behind)
    pairs = list(_pairs(graph))
    layers: dict[str, Weighted] = {node.name: node for node in graph.weighted}
    room = {name: np.maximum(1.0, behind[name].max() / np.maximum(before[name], SMALLEST)) for name in layers}
    for _ in range(SWEEPS):
        change = max((_equalize(layers, pair, room) for pair in pairs), default=0.0)
        if change < CONVERGED:
            break
    return graph.replaced(*(_in_float32(layer) for layer in layers.values()))


def _equalize(layers: dict[str, Weighted], pair: _Pair, room: Largest) -> float:
    """Equalize one pair; the largest change of a scale, as a natural logarithm.

    :param room: by what factor each channel of a layer may still grow, [outputs]; kept up to date
    """
    first, second = layers[pair.first], layers[pair.second]
    outputs = len(first.weights)
    given = np.abs(first.weights).reshape(outputs, -1).max(axis=1).astype(np.float64)
    taken = np.zeros(outputs)
    np.maximum.at(taken, pair.channel, _input_ranges(second))
    alive = (given > 0) & (taken > 0)
    ratio = np.sqrt(np.where(alive, given, 1.0) / np.where(alive, taken, 1.0))
    scale = np.maximum(np.clip(ratio, 1 / LARGEST_SCALE, LARGEST_SCALE), 1 / room[pair.first])
    room[pair.first] = room[pair.first] * scale
    rows = scale.reshape(-1, *[1] * (first.weights.ndim - 1))
    layers[pair.first] = replace(first, weights=first.weights / rows, bias=first.bias / scale)
    factor = scale[pair.channel]
    undone = Affine(factor, np.zeros_like(factor)).folded(second)
    layers[pair.second] = replace(second, **undone)
    return float(np.abs(np.log(scale)).max())


def _input_ranges(layer: Weighted) -> NDArray[np.float64]:
    """[input channels]: largest magnitude of the weights of each."""
    outputs, share = layer.weights.shape[:2]
    groups = layer.group_count
    taps = np.abs(layer.weights).reshape(groups, outputs // groups, share, -1)
    return np.asarray(taps.max(axis=(1, 3)).reshape(-1), np.float64)


def _pairs(graph: FloatGraph) -> Iterator[_Pair]:
    for layer in graph.weighted:
        if layer.function not in (NONE, RELU):
            continue
        channels = graph.shapes[layer.name][0]
        channel, node = np.arange(channels), _only_reader(graph, layer)
        while node is not None and _is_indifferent(node):
            if isinstance(node, Reshape):
                channel = _moved(node, channel, graph.shapes[node.inputs[0]])
            node = _only_reader(graph, node)
        if isinstance(node, Weighted):
            yield _Pair(layer.name, node.name, channel)


def _moved(node: Reshape, channel: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """For each channel of the new shape the one it came from."""
    each = np.broadcast_to(channel.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return node.move(each[None])[0].reshape(node.target[0], -1)[:, 0]


def _only_reader(graph: FloatGraph, node: Node) -> Node | None:
    if graph.reader_counts[node.name] != 1 or node.name == graph.output_name:
        return None
    return graph.readers(node.name)[0]


def _is_indifferent(node: Node) -> bool:
    """Whether a positive factor of a channel passes through."""
    if isinstance(node, Pointwise):
        return node.function == RELU
    if isinstance(node, Reshape):
        return len(node.target) == 1
    return isinstance(node, (MaxPool, AveragePool, Pad, Resize))


def _largest_values(graph: FloatGraph, observations: Floats) -> tuple[Largest, Largest]:
    """The largest magnitude of each output channel of each layer, before and behind its function."""
    before, behind = ({node.name: np.zeros(len(node.weights)) for node in graph.weighted} for _ in range(2))
    for start in range(0, len(observations), BATCH):
        values = graph.trace(observations[start : start + BATCH])
        for node in graph.weighted:
            for tensor, largest in ((node.linear_name, before[node.name]), (node.name, behind[node.name])):
                each = np.abs(values[tensor]).reshape(len(values[tensor]), len(largest), -1).max(axis=(0, 2))
                np.maximum(largest, each, out=largest)
    return before, behind


def _with_idle_clips_open(graph: FloatGraph, behind: Largest) -> FloatGraph:
    """The graph with ReLU in place of every clip of positive values whose upper end no observation reached."""
    clipped = [node for node in graph.weighted if node.function.clamps and node.function.low == 0]
    idle = [node for node in clipped if behind[node.name].max() < node.function.high]
    return graph.replaced(*(replace(node, function=RELU) for node in idle))


def _in_float32(layer: Weighted) -> Weighted:
    return replace(layer, weights=layer.weights.astype(np.float32), bias=layer.bias.astype(np.float32))
