"""A float network: what the host does first, then nodes in an order in which each finds its inputs ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, prod
from typing import TypeVar

import numpy as np
from policyport.core.errors import UnsupportedModelError
from policyport.quantize.nodes import Floats, Node, Shape, Weighted

Value = TypeVar("Value")


@dataclass(frozen=True)
class HostPrefix:
    """What the host does to an observation, in float32: ``clip((observation - offset) * gain, low, high)``."""

    offset: Floats
    """[features], or [channels, 1, 1] for images."""

    gain: Floats
    """As ``offset``, no element zero."""

    low: float = -inf
    """``-inf`` where nothing is clipped."""

    high: float = inf

    @classmethod
    def identity(cls, shape: Shape) -> HostPrefix:
        """The prefix that changes nothing of observations of that shape."""
        each = (shape[0], *[1] * (len(shape) - 1))
        return cls(np.zeros(each, np.float32), np.ones(each, np.float32))

    def apply(self, observations: Floats) -> Floats:
        """Observations [n, *shape] float32 to network inputs [n, *shape] float32."""
        scaled = (np.asarray(observations, np.float32) - self.offset) * self.gain
        return np.clip(scaled, np.float32(self.low), np.float32(self.high))


@dataclass(frozen=True)
class FloatGraph:
    """A float network of one input and one output."""

    name: str
    input_name: str
    input_shape: Shape
    """(features,) or (channels, height, width)."""

    output_name: str
    prefix: HostPrefix
    nodes: tuple[Node, ...]
    channels_last: bool = False
    """Whether an image observation comes as [height, width, channels]."""

    limits: tuple[Floats, Floats] | None = None
    """Between which an observation's values lie, each [inputs], as 0 and 255 those of a camera; None if unknown."""

    state_size: int = 0
    """Of a recurrent network: how many of the last inputs are the last outputs of the step before."""

    @property
    def input_size(self) -> int:
        """Number of values of an observation."""
        return prod(self.input_shape)

    @property
    def output_size(self) -> int:
        """Number of values of an output."""
        return prod(self.shapes[self.output_name])

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(node.weights.size + node.bias.size for node in self.weighted)

    @property
    def weighted(self) -> tuple[Weighted, ...]:
        """The nodes that have weights."""
        return tuple(node for node in self.nodes if isinstance(node, Weighted))

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each tensor."""
        shapes = {self.input_name: self.input_shape}
        for node in self.nodes:
            shapes[node.name] = node.shape(*(shapes[name] for name in node.inputs))
            if isinstance(node, Weighted):
                shapes[node.linear_name] = shapes[node.name]
        return shapes

    @cached_property
    def reader_counts(self) -> Mapping[str, int]:
        """How often each tensor is read, the output once more."""
        return count_readers(self.nodes, self.output_name)

    def check_finite(self) -> None:
        """Refuse weights and biases that are NaN or infinite.

        :raises UnsupportedModelError: the layer is named
        """
        for node in self.weighted:
            if not (np.isfinite(node.weights).all() and np.isfinite(node.bias).all()):
                raise UnsupportedModelError(
                    "a weight is not a finite number",
                    where=f"{self.name}, layer {node.name}",
                    cure="train again: the network diverged",
                )

    def producer(self, tensor: str) -> Node | None:
        """The node that a tensor comes from; None for the input."""
        return next((node for node in self.nodes if node.name == tensor), None)

    def readers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def enter(self, observations: Floats) -> Floats:
        """Observations as the environment gives them, behind the host's part: [n, *input_shape] float32."""
        return self.prefix.apply(arranged(observations, self.input_shape, self.channels_last))

    def trace(self, observations: Floats) -> dict[str, Floats]:
        """Every tensor by name, [n, *shape] float32; a weighted node's also before its function.

        :param observations: [n, *input_shape] or [n, inputs], float32, as the environment gives them
        """
        values = {self.input_name: self.enter(observations)}
        for node in self.nodes:
            values.update(evaluate(node, *(values[name] for name in node.inputs)))
        return values

    def evaluate(self, observations: Floats) -> Floats:
        """The network's outputs: [n, outputs], float32."""
        live = Live({self.input_name: self.enter(observations)}, self.reader_counts)
        for node in self.nodes:
            inputs = [live.take(name) for name in node.inputs]
            live.put(node.name, node.evaluate(*inputs))
        output = live.take(self.output_name)
        return output.reshape(len(output), -1)

    def without_unread(self) -> FloatGraph:
        """The graph without nodes whose results nobody reads."""
        read = {self.output_name}
        for node in reversed(self.nodes):
            if node.name in read:
                read.update(node.inputs)
        return replace(self, nodes=tuple(node for node in self.nodes if node.name in read))

    def replaced(self, *nodes: Node) -> FloatGraph:
        """The graph with nodes of the same names in place of its own."""
        by_name = {node.name: node for node in nodes}
        return replace(self, nodes=tuple(by_name.get(node.name, node) for node in self.nodes))


def evaluate(node: Node, *inputs: Floats) -> dict[str, Floats]:
    """What a node computes, by tensor name: its result, and what stands before its function."""
    if isinstance(node, Weighted):
        linear = node.linear(inputs[0])
        return {node.linear_name: linear, node.name: node.function(linear)}
    return {node.name: node.evaluate(*inputs)}


def count_readers(nodes: Sequence[Node], output_name: str) -> Mapping[str, int]:
    """How often each tensor is read, the output once more."""
    return Counter([name for node in nodes for name in node.inputs] + [output_name])


def arranged(observations: Floats, shape: Shape, channels_last: bool) -> Floats:
    """Observations of any shape of the right size as [n, *shape] float32.

    :param shape: (features,) or (channels, height, width)
    :param channels_last: whether they come as [height, width, channels]
    """
    flat = np.asarray(observations, np.float32)
    if channels_last:
        channels, height, width = shape
        return flat.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return flat.reshape(-1, *shape)


class Live(dict[str, Value]):
    """Tensors by name, each forgotten when its last reader has taken it."""

    def __init__(self, values: Mapping[str, Value], reader_counts: Mapping[str, int]) -> None:
        super().__init__(values)
        self._left = dict(reader_counts)

    def put(self, name: str, value: Value) -> None:
        """Keep a tensor that somebody will read."""
        if self._left.get(name):
            self[name] = value

    def take(self, name: str) -> Value:
        """A tensor for one of its readers."""
        value = self[name]
        self._left[name] -= 1
        if not self._left[name]:
            del self[name]
        return value
