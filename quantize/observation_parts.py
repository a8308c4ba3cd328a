"""Observations of several parts, an image beside vectors: layers of their own, and grids of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import Concat, Convolution, Linear, Node, Pointwise, Reshape, Slice, Sum, Weighted

Layer = TypeVar("Layer", bound=Weighted)


@dataclass(frozen=True)
class Part:
    """Values of the observation side by side, and the layers that alone read them."""

    start: int
    stop: int
    layers: tuple[Weighted, ...]
    column: int = 0
    """Of the fully connected layers' inputs the first that it is."""

    @property
    def is_image(self) -> bool:
        """Whether convolutions read it."""
        return isinstance(self.layers[0], Convolution)

    def undone(self, layer: Weighted, centre: NDArray[np.float64], radius: NDArray[np.float64]) -> Weighted:
        """The layer for values of which the host has taken the centre and divided by the radius.

        :param centre: [inputs] of the observation
        :param radius: likewise
        """
        whole_centre, whole_radius = np.zeros(layer.weights.shape[1]), np.ones(layer.weights.shape[1])
        columns = slice(None) if self.is_image else slice(self.column, self.column + self.stop - self.start)
        given = self.start if self.is_image else slice(self.start, self.stop)
        whole_centre[columns], whole_radius[columns] = centre[given], radius[given]
        return undone(layer, whole_centre, whole_radius)


def undone(layer: Layer, centre: NDArray[np.float64], radius: NDArray[np.float64]) -> Layer:
    """A layer for inputs of which the centre is taken and that are divided by the radius.

    :param centre: [inputs] of a fully connected layer, or of the channels of a convolution's group
    :param radius: likewise
    """
    weights = layer.weights.astype(np.float64)
    each = (-1, *[1] * (weights.ndim - 2))
    shift = (weights * centre.reshape(each)).reshape(len(weights), -1).sum(axis=1)
    bias = (layer.bias + shift).astype(np.float32)
    return replace(layer, weights=(weights * radius.reshape(each)).astype(np.float32), bias=bias)


def parts_of(graph: FloatGraph) -> tuple[Part, ...] | None:
    """The parts of a vector observation, or the whole; None where something else than layers reads one of them.

    A convolution with a margin is something else: its zeros would be another value of the centred image.
    """
    if len(graph.input_shape) != 1:
        return None
    found: list[Part] = []
    for node in graph.readers(graph.input_name):
        if isinstance(node, Slice):
            parts = [_part(graph, node, reader) for reader in graph.readers(node.name)]
        else:
            parts = [Part(0, graph.input_shape[0], (node,)) if isinstance(node, Linear) else None]
        for part in parts:
            if part is None:
                return None
            found.append(part)
    return tuple(found) or None


def _part(graph: FloatGraph, piece: Slice, reader: Node) -> Part | None:
    if isinstance(reader, Linear):
        return Part(piece.start, piece.stop, (reader,))
    behind = graph.readers(reader.name)
    if isinstance(reader, Concat) and behind and _joins_parts(graph, reader):
        layers = tuple(node for node in behind if isinstance(node, Linear))
        before = reader.inputs[: reader.inputs.index(piece.name)]
        column = sum(graph.shapes[name][0] for name in before)
        return Part(piece.start, piece.stop, layers, column) if len(layers) == len(behind) else None
    if isinstance(reader, Reshape) and behind:
        convolutions = tuple(node for node in behind if isinstance(node, Convolution) and not any(node.window.pads))
        return Part(piece.start, piece.stop, convolutions) if len(convolutions) == len(behind) else None
    return None


def _joins_parts(graph: FloatGraph, node: Concat) -> bool:
    """Whether all that it lays together are parts of the observation, each once."""
    return all(_is_part(graph, name) for name in node.inputs) and len(set(node.inputs)) == len(node.inputs)


def _is_part(graph: FloatGraph, tensor: str) -> bool:
    node = graph.producer(tensor)
    return isinstance(node, Slice) and node.inputs == (graph.input_name,)


def split_joined(graph: FloatGraph) -> FloatGraph:
    """Fully connected layers that read parts of the observation beside other tensors as the sum of two layers.

    Tensors that are laid together share one scale, which either would lose by.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        joined = graph.producer(node.inputs[0])
        if isinstance(node, Linear) and isinstance(joined, Concat):
            nodes.extend(_apart(graph, node, joined))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes)).without_unread()


def _apart(graph: FloatGraph, layer: Linear, joined: Concat) -> Iterator[Node]:
    parts = [_is_part(graph, name) for name in joined.inputs]
    if all(parts) or not any(parts) or any(graph.shapes[name][1:] for name in joined.inputs):
        yield layer
        return
    sizes = [graph.shapes[name][0] for name in joined.inputs]
    columns = np.split(layer.weights, np.cumsum(sizes)[:-1], axis=1)
    halves = []
    for which, bias in ((True, np.zeros_like(layer.bias)), (False, layer.bias)):
        chosen = [i for i, part in enumerate(parts) if part is which]
        name = f"{layer.linear_name}_{'observed' if which else 'seen'}"
        source = joined.inputs[chosen[0]]
        if len(chosen) > 1:
            source = f"{name}_joined"
            yield Concat(name=source, inputs=tuple(joined.inputs[i] for i in chosen))
        weights = np.concatenate([columns[i] for i in chosen], axis=1)
        halves.append(name)
        yield Linear(name=name, inputs=(source,), linear_name=name, weights=weights, bias=bias)
    if layer.function.has_table:
        yield Sum(name=layer.linear_name, inputs=tuple(halves), signs=(1, 1))
        yield Pointwise(name=layer.name, inputs=(layer.linear_name,), function=layer.function)
    else:
        yield Sum(name=layer.name, inputs=tuple(halves), signs=(1, 1), function=layer.function)
