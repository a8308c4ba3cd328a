"""The operators of a network on integers: each is :mod:`policyport.core.operators` with its parameters.

Tensors are laid out as in the ONNX file, [n, channels, height, width]; the integer semantics put channels
last, so images are turned on the way in and out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import operators, semantics
from policyport.core.operators import WeightedSum
from policyport.core.semantics import Integers, Reals, Requantization
from policyport.quantize.activation import Activation
from policyport.quantize.nodes import (
    AveragePool,
    Concat,
    Convolution,
    MaxPool,
    Node,
    Pad,
    Pointwise,
    Product,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Sum,
    TransposedConvolution,
    Weighted,
)

Compact = NDArray[np.signedinteger[Any]]
"""Integers of an activation in as few bytes as hold them."""


@dataclass(frozen=True, kw_only=True)
class QuantizedNode(ABC):
    """One operator from integers to integers."""

    node: Node
    """The float operator it stands for."""

    inputs: tuple[Activation, ...]
    output: Activation

    @property
    def name(self) -> str:
        """Name of the tensor that leaves it."""
        return self.node.name

    @abstractmethod
    def run(self, *q: Compact) -> Integers:
        """The result [n, *shape] for the inputs' integers."""

    def steps(self, *q: Compact) -> dict[str, Integers]:
        """Every tensor it computes, by name; the result last."""
        return {self.name: self.run(*q)}


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer(QuantizedNode):
    """``lookup(requantize(weighted sums + folded_bias))``, the table only where the function needs one."""

    node: Weighted
    """Its weights are those before rounding."""

    before: Activation
    """Behind the requantization; equal to ``output`` without a table."""

    weights: Integers
    """[outputs, taps...] as the node's, inside :func:`policyport.core.semantics.weight_range`."""

    weight_bits: int
    weight_scale: NDArray[np.float32]
    """[outputs], positive."""

    bias: Integers
    """[outputs], int32 at ``input.scale * weight_scale``, the input's zero point not folded in."""

    @property
    def input(self) -> Activation:
        """What it reads."""
        return self.inputs[0]

    @property
    def has_table(self) -> bool:
        """Whether the function is a table."""
        return self.node.function.has_table

    @property
    def bias_scale(self) -> Reals:
        """[outputs] float64: the scale of bias and accumulator."""
        return float(self.input.scale) * self.weight_scale.astype(np.float64)

    @property
    def folded_bias(self) -> Integers:
        """[outputs]: the bias with the input's zero point folded in."""
        return self.bias - self.input.zero_point * operators.weight_sums(self.weights)

    @cached_property
    def requantize(self) -> Requantization:
        """From the accumulator to ``before``.

        :raises UnsupportedModelError: an accumulator can overflow
        """
        reach = semantics.accumulator_bound(self.weights, self.folded_bias, self.input.low, self.input.high)
        return self._requantization(int(reach.max()))

    @cached_property
    def scaling(self) -> Requantization:
        """The same, whatever the weights: that no accumulator overflows is not proved."""
        return self._requantization(0)

    @cached_property
    def table(self) -> Integers | None:
        """[256] or [257] from ``before`` to ``output``, None without one."""
        return _table(self.node.function.name, self.before, self.output) if self.has_table else None

    def accumulate(self, q: Compact) -> Integers:
        """Accumulators [n, (rows, columns,) outputs], channels last."""
        if q.ndim == 2:
            return semantics.accumulate(q.astype(np.int64), self.weights, self.folded_bias)
        image, taps = _channels_last(q), self.weights.transpose(0, 2, 3, 1)
        zero_point = self.input.zero_point
        if isinstance(self.node, TransposedConvolution):
            window, extra, groups = self.node.window, self.node.output_padding, self.node.groups
            return operators.convolve_transposed(image, taps, self.folded_bias, window, extra, groups, zero_point)
        assert isinstance(self.node, Convolution)
        return operators.convolve(image, taps, self.folded_bias, self.node.window, self.node.groups, zero_point)

    def run(self, *q: Compact) -> Integers:
        return self.steps(*q)[self.name]

    def _requantization(self, reach: int) -> Requantization:
        return semantics.requantization(self.bias_scale / float(self.before.scale), reach, f"layer {self.name}")

    def steps(self, *q: Compact) -> dict[str, Integers]:
        target = self.before
        last = semantics.requantize(self.accumulate(q[0]), self.requantize, target.zero_point, target.low, target.high)
        middle = last if last.ndim == 2 else _channels_first(last)
        if self.table is None:
            return {self.name: middle}
        return {target.name: middle, self.name: semantics.lookup(middle, self.table)}


@dataclass(frozen=True, kw_only=True)
class QuantizedSum(QuantizedNode):
    """A weighted sum with a clamp."""

    node: Sum

    @cached_property
    def by(self) -> WeightedSum:
        """Multipliers, constant and shift."""
        return _weighted_sum(self.inputs, self.output, self.node.signs, self.name)

    def run(self, *q: Compact) -> Integers:
        return operators.add([x.astype(np.int64) for x in q], self.by, self.output.low, self.output.high)


@dataclass(frozen=True, kw_only=True)
class QuantizedProduct(QuantizedNode):
    """A product of two tensors."""

    node: Product

    @cached_property
    def by(self) -> Requantization:
        """From the product of two steps to a step of the result."""
        a, b = self.inputs
        ratio = float(np.float32(a.scale)) * float(np.float32(b.scale)) / float(np.float32(self.output.scale))
        reach = [max(abs(x.low - x.zero_point), abs(x.high - x.zero_point)) for x in self.inputs]
        return semantics.requantization(np.array([ratio]), reach[0] * reach[1], f"layer {self.name}")

    def run(self, *q: Compact) -> Integers:
        (a, b), end = self.inputs, self.output
        x, y = (value.astype(np.int64) for value in q)
        return operators.multiply(x, y, a.zero_point, b.zero_point, self.by, end.zero_point, end.low, end.high)


@dataclass(frozen=True, kw_only=True)
class QuantizedConcat(QuantizedNode):
    """Tensors side by side; one of another scale is brought to the result's."""

    node: Concat

    @cached_property
    def rescales(self) -> tuple[WeightedSum | None, ...]:
        """For each input the change of scale; None where it has the result's."""
        return tuple(_rescale(x, self.output, self.name) for x in self.inputs)

    def run(self, *q: Compact) -> Integers:
        pairs = zip(q, self.rescales, strict=True)
        return np.concatenate([_rescaled(x.astype(np.int64), by, self.output) for x, by in pairs], axis=1)


@dataclass(frozen=True, kw_only=True)
class QuantizedAverage(QuantizedNode):
    """The mean of windows."""

    node: AveragePool

    @cached_property
    def by(self) -> Requantization:
        """One multiplier for each number of pixels."""
        source = self.inputs[0]
        low, high = source.low - source.zero_point, source.high - source.zero_point
        where = f"layer {self.name}"
        return operators.average_requantization(source.scale, self.output.scale, self.node.window, low, high, where)

    def run(self, *q: Compact) -> Integers:
        source, end = self.inputs[0], self.output
        image, window = _channels_last(q[0]).astype(np.int64), self.node.window
        pooled = operators.average_pool(
            image, window, self.by, source.zero_point, end.zero_point, end.low, end.high, self.node.count_padding
        )
        return _channels_first(pooled)


@dataclass(frozen=True, kw_only=True)
class QuantizedMove(QuantizedNode):
    """What yields its input's integers: pooling of the largest, another shape, margin or size, a part, a clamp."""

    def run(self, *q: Compact) -> Integers:
        whole = q[0].astype(np.int64)
        match self.node:
            case MaxPool(window=window):
                return _channels_first(operators.max_pool(_channels_last(whole), window))
            case Pad() as pad:
                return pad.move(whole, self.output.zero_point)
            case Reshape() | Resize() | Slice() as move:
                return move.move(whole)
        return np.clip(whole, self.output.low, self.output.high)


@dataclass(frozen=True, kw_only=True)
class QuantizedLookup(QuantizedNode):
    """A function on its own, as a table."""

    node: Pointwise

    @cached_property
    def table(self) -> Integers:
        """[256] or [257] from input to output."""
        return _table(self.node.function.name, self.inputs[0], self.output)

    def run(self, *q: Compact) -> Integers:
        return semantics.lookup(q[0].astype(np.int64), self.table)


@dataclass(frozen=True, kw_only=True)
class QuantizedSoftmax(QuantizedNode):
    """Softmax over the features."""

    node: Softmax

    @cached_property
    def table(self) -> Integers:
        """[256]: the exponential of what an input lies below the largest."""
        return operators.softmax_table(self.inputs[0].scale)

    def run(self, *q: Compact) -> Integers:
        return operators.softmax(q[0].astype(np.int64), self.table)


def quantized_operator(node: Node, inputs: tuple[Activation, ...], output: Activation) -> QuantizedNode:
    """The integer operator of a node without weights."""
    match node:
        case Sum():
            return QuantizedSum(node=node, inputs=inputs, output=output)
        case Product():
            return QuantizedProduct(node=node, inputs=inputs, output=output)
        case Concat():
            return QuantizedConcat(node=node, inputs=inputs, output=output)
        case AveragePool():
            return QuantizedAverage(node=node, inputs=inputs, output=output)
        case Softmax():
            return QuantizedSoftmax(node=node, inputs=inputs, output=output)
        case Pointwise(function=function) if function.has_table:
            return QuantizedLookup(node=node, inputs=inputs, output=output)
    return QuantizedMove(node=node, inputs=inputs, output=output)


def _table(function: str, before: Activation, after: Activation) -> Integers:
    return semantics.pointwise_table(
        function, before.scale, before.zero_point, after.scale, after.zero_point, after.bits
    )


def _weighted_sum(inputs: tuple[Activation, ...], output: Activation, signs: tuple[int, ...], name: str) -> WeightedSum:
    end = float(np.float32(output.scale))
    return operators.weighted_sum(
        [sign * float(np.float32(x.scale)) / end for sign, x in zip(signs, inputs, strict=True)],
        [x.zero_point for x in inputs],
        [(x.low, x.high) for x in inputs],
        output.zero_point,
        f"layer {name}",
    )


def _rescale(source: Activation, target: Activation, name: str) -> WeightedSum | None:
    return None if source.parameters == target.parameters else _weighted_sum((source,), target, (1,), name)


def _rescaled(q: Integers, by: WeightedSum | None, target: Activation) -> Integers:
    return q if by is None else operators.add([q], by, target.low, target.high)


def _channels_last(q: NDArray[Any]) -> NDArray[Any]:
    return q.transpose(0, 2, 3, 1)


def _channels_first(q: NDArray[Any]) -> NDArray[Any]:
    return q.transpose(0, 3, 1, 2)
