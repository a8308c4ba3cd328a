"""A program in the making: activations as a file sees them, and the layers that yield them.

A file's tensor and the device's differ in the order of their elements: files put channels first, the device
last, and flattening keeps whichever order it meets. A :class:`View` carries that order as an index array, so
transposing and reshaping cost nothing until a layer needs its operand in an order of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from policyport.core import operators, semantics
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
from policyport.core.semantics import Integers, Reals
from policyport.deploy.layers import (
    Add,
    Conv2d,
    FullyConnected,
    Layer,
    Lookup,
    Multiply,
    Pool,
    Reshape,
    Tensor,
    Transpose,
    TransposedConv2d,
)

Index = NDArray[np.int64]

Clamp = tuple[float, float]
"""Real bounds, infinite where there is none."""

OPEN: Clamp = (-np.inf, np.inf)


@dataclass(frozen=True)
class Quantization:
    """How a real value becomes integers, and what the integers are called."""

    name: str
    scale: float
    zero_point: int
    bits: int

    def tensor(self, shape: tuple[int, ...], clamp: Clamp = OPEN) -> Tensor:
        """The activation, its range cut to what a clamp in real values leaves."""
        low, high = (
            bound
            if np.isinf(real)
            else int(semantics.quantize(np.array([real], np.float32), self.scale, self.zero_point, self.bits)[0])
            for real, bound in zip(clamp, semantics.activation_range(self.bits), strict=True)
        )
        return Tensor(self.name, shape, self.bits, self.scale, self.zero_point, low, high)


@dataclass(frozen=True)
class View:
    """An activation as the file sees it."""

    tensor: Tensor
    index: Index
    """Of the file's shape without the batch axis: where each element lies in the device's tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The file's, without the batch axis."""
        return self.index.shape

    def within(self, clamp: Clamp) -> bool:
        """Whether bounds leave every integer that it can hold."""
        bounded = self.quantization().tensor((), clamp)
        return bounded.low <= self.tensor.low and self.tensor.high <= bounded.high

    def quantization(self, name: str = "") -> Quantization:
        """How the activation is quantized."""
        t = self.tensor
        return Quantization(name or t.name, t.scale, t.zero_point, t.bits)


def plain_view(tensor: Tensor) -> View:
    """A device tensor as a file sees it: images with channels first."""
    index = np.arange(tensor.size, dtype=np.int64).reshape(tensor.shape)
    return View(tensor, index.transpose(2, 0, 1) if index.ndim == 3 else index)


@dataclass(frozen=True)
class Weights:
    """Weights and bias as a file gives them."""

    values: Integers
    """[outputs, ...] in the device's order."""

    bits: int
    scale: Reals
    """[outputs]"""

    bias: Reals
    """[outputs], real"""

    def scaled(self, gain: Reals, offset: Reals) -> Weights:
        """``gain * (W x + b) + offset``, per output, the integers kept but for their sign.

        :raises UnsupportedModelError: a negative gain of weights whose opposite has no integer
        """
        sign = np.where(gain < 0, -1, 1).reshape(-1, *[1] * (self.values.ndim - 1))
        dead = gain == 0
        values = np.where(dead.reshape(sign.shape), 0, sign * self.values)
        if values.size and values.max() > -semantics.weight_range(self.bits)[0]:
            raise UnsupportedModelError("weights that a negative factor takes out of their range", got=values.max())
        return replace(
            self,
            values=values,
            scale=np.where(dead, self.scale, np.abs(gain) * self.scale),
            bias=gain * self.bias + offset,
        )


@dataclass
class Builder:
    """Layers in order; the names of activations are made unique."""

    layers: list[Layer] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def named(self, quantization: Quantization) -> Quantization:
        """The quantization under a name that no other activation has."""
        name, count = quantization.name, 2
        while name in self._names:
            name, count = f"{quantization.name}_{count}", count + 1
        self._names.add(name)
        return replace(quantization, name=name)

    def add(self, layer: Layer) -> Tensor:
        """Append a layer; its output."""
        self.layers.append(layer)
        return layer.output

    def channels_last(self, view: View, where: object) -> Tensor:
        """An image as (height, width, channels), by a transposition where it lies otherwise.

        :raises UnsupportedModelError: no image, or in an order that no transposition mends
        """
        if len(view.shape) != 3:
            raise UnsupportedModelError(
                "an operand that is not an image", where=where, expected="channels, height, width", got=view.shape
            )
        return self._arranged(view, view.index.transpose(1, 2, 0), where)

    def flat(self, view: View, where: object) -> Tensor:
        """A vector in the file's order, whatever the file's shape."""
        return self._arranged(view, view.index.reshape(-1), where)

    def _arranged(self, view: View, wanted: Index, where: object) -> Tensor:
        """A tensor of the shape of ``wanted`` whose elements are those it names."""
        source, order = view.tensor, wanted.reshape(-1)
        if np.array_equal(order, np.arange(source.size)):
            return source if source.shape == wanted.shape else self._renamed(source, wanted.shape, Reshape)
        shape, axes = _transposition(source.shape, wanted, where)
        quantization = self.named(replace(view.quantization(), name=f"{source.name}/transposed"))
        target = replace(source, name=quantization.name, shape=wanted.shape)
        return self.add(Transpose(target.name, (source,), target, shape, axes))

    def _renamed(self, source: Tensor, shape: tuple[int, ...], kind: type[Reshape]) -> Tensor:
        quantization = self.named(Quantization(f"{source.name}/reshaped", source.scale, source.zero_point, source.bits))
        return self.add(kind(quantization.name, (source,), replace(source, name=quantization.name, shape=shape)))

    def fully_connected(
        self, view: View, weights: Weights, quantization: Quantization, clamp: Clamp, where: object
    ) -> View:
        """A fully connected layer; the weights' columns, given in the file's order, follow the view's.

        :param weights: values [outputs, inputs]
        """
        values = np.empty_like(weights.values)
        values[:, view.index.reshape(-1)] = weights.values
        target = self.named(quantization).tensor((len(values),), clamp)
        bias, by = _requantization(view.tensor, replace(weights, values=values), target, where)
        layer = FullyConnected(
            target.name,
            (view.tensor,),
            target,
            values,
            weights.bits,
            weights.scale,
            bias,
            by,
            before_table=target,
            table=None,
            function="",
        )
        return plain_view(self.add(layer))

    def convolution(
        self,
        view: View,
        weights: Weights,
        window: Window,
        groups: int,
        quantization: Quantization,
        clamp: Clamp,
        where: object,
        output_padding: tuple[int, int] | None = None,
    ) -> View:
        """A convolution, or with ``output_padding`` a transposed one.

        :param weights: values [outputs, kernel height, kernel width, channels / groups]
        """
        source = self.channels_last(view, where)
        size = window.output_size(*source.shape[:2])
        if output_padding is not None:
            spread, inner = operators.spread_out(
                np.zeros((1, *source.shape[:2], 1), np.int64), window, output_padding, 0
            )
            size = inner.output_size(*spread.shape[1:3])
        target = self.named(quantization).tensor((*_at_least_one(size, where), len(weights.values)), clamp)
        bias, by = _requantization(source, weights, target, where)
        fields = (target.name, (source,), target, weights.values, weights.bits, weights.scale, bias, by, target)
        if output_padding is None:
            return plain_view(self.add(Conv2d(*fields, None, "", window, groups)))
        return plain_view(self.add(TransposedConv2d(*fields, None, "", window, groups, output_padding)))

    def rescaled(
        self, view: View, quantization: Quantization, clamp: Clamp, factor: float = 1.0, where: object = None
    ) -> View:
        """The activation times a factor, quantized anew and clamped."""
        return self.weighted_sum([view], [factor], quantization, clamp, where)

    def weighted_sum(
        self,
        views: list[View],
        factors: list[float],
        quantization: Quantization,
        clamp: Clamp,
        where: object,
    ) -> View:
        """The sum of activations of one shape, each times a factor."""
        operands, index, shape = self._aligned(views, where)
        target = self.named(quantization).tensor(shape, clamp)
        by = operators.weighted_sum(
            [f * t.scale / target.scale for f, t in zip(factors, operands, strict=True)],
            [t.zero_point for t in operands],
            [(t.low, t.high) for t in operands],
            target.zero_point,
            where,
        )
        return View(self.add(Add(target.name, tuple(operands), target, by)), index)

    def _aligned(self, views: list[View], where: object) -> tuple[list[Tensor], Index, tuple[int, ...]]:
        """Operands of one shape in one order, the order, and the device's shape."""
        first = views[0]
        if any(view.shape != first.shape for view in views):
            raise UnsupportedModelError(
                "operands of different shapes", where=where, expected=first.shape, got=[v.shape for v in views]
            )
        if all(np.array_equal(view.index, first.index) for view in views):
            return [view.tensor for view in views], first.index, first.tensor.shape
        image = len(first.shape) == 3
        operands = [self.channels_last(view, where) if image else self.flat(view, where) for view in views]
        target = plain_view(operands[0])
        return operands, target.index.reshape(first.shape), operands[0].shape

    def multiply(self, a: View, b: View, quantization: Quantization, clamp: Clamp, where: object) -> View:
        """The product of two activations; one may have 1 in some axes of the other."""
        if a.index.size < b.index.size:
            a, b = b, a
        if a.shape == b.shape:
            operands, index, shape = self._aligned([a, b], where)
        else:
            b = replace(b, index=b.index.reshape((1,) * (len(a.shape) - len(b.shape)) + b.shape))
            operands = [self.channels_last(v, where) if len(a.shape) == 3 else self.flat(v, where) for v in (a, b)]
            index, shape = plain_view(operands[0]).index.reshape(a.shape), operands[0].shape
            _check_broadcast(operands[0].shape, operands[1].shape, where)
        target = self.named(quantization).tensor(shape, clamp)
        ratio = np.array([operands[0].scale * operands[1].scale / target.scale])
        reach = [max(abs(t.low - t.zero_point), abs(t.high - t.zero_point)) for t in operands]
        by = semantics.requantization(ratio, reach[0] * reach[1], where)
        return View(self.add(Multiply(target.name, tuple(operands), target, by)), index)

    def lookup(self, view: View, function: str, quantization: Quantization, clamp: Clamp, where: object) -> View:
        """A pointwise function by its table."""
        source = view.tensor
        target = self.named(quantization).tensor(source.shape, clamp)
        if target.bits != source.bits:
            raise UnsupportedModelError(
                f"{function} between activations of different width",
                where=where,
                expected=source.bits,
                got=target.bits,
            )
        table = semantics.pointwise_table(
            function, source.scale, source.zero_point, target.scale, target.zero_point, target.bits
        )
        table = np.clip(table, target.low, target.high)
        return View(self.add(Lookup(target.name, (source,), target, table, function)), view.index)

    def max_pool(self, view: View, window: Window, name: str, where: object) -> View:
        """The largest of what a window sees, quantized as the input."""
        source = self.channels_last(view, where)
        shape = (*_at_least_one(window.output_size(*source.shape[:2]), where), source.shape[2])
        quantization = self.named(view.quantization(name))
        target = replace(source, name=quantization.name, shape=shape)
        return plain_view(self.add(Pool(target.name, (source,), target, "max", window, None, False)))

    def average_pool(
        self,
        view: View,
        window: Window,
        count_padding: bool,
        quantization: Quantization,
        clamp: Clamp,
        where: object,
    ) -> View:
        """The mean of what a window sees."""
        if quantization.bits != view.tensor.bits:
            inner = replace(view.quantization(f"{quantization.name}/mean"))
            return self.rescaled(
                self.average_pool(view, window, count_padding, inner, OPEN, where), quantization, clamp, where=where
            )
        source = self.channels_last(view, where)
        shape = (*_at_least_one(window.output_size(*source.shape[:2]), where), source.shape[2])
        target = self.named(quantization).tensor(shape, clamp)
        low, high = source.low - source.zero_point, source.high - source.zero_point
        by = operators.average_requantization(source.scale, target.scale, window, low, high, where)
        return plain_view(self.add(Pool(target.name, (source,), target, "average", window, by, count_padding)))


def _at_least_one(size: tuple[int, int], where: object) -> tuple[int, int]:
    if min(size) < 1:
        raise UnsupportedModelError("a window larger than its image", where=where, got=size)
    return size


def _requantization(
    source: Tensor, weights: Weights, target: Tensor, where: object
) -> tuple[Integers, semantics.Requantization]:
    """The integer bias with the input's zero point folded in, and the requantization, proven not to overflow."""
    bias = semantics.quantize_bias(weights.bias, source.scale, weights.scale)
    bias = bias - source.zero_point * operators.weight_sums(weights.values)
    low, high = min(source.low, source.zero_point), max(source.high, source.zero_point)
    bound = int(semantics.accumulator_bound(weights.values, bias, low, high).max())
    ratio = float(source.scale) * weights.scale / float(target.scale)
    return bias, semantics.requantization(ratio, bound, where)


def _check_broadcast(a: tuple[int, ...], b: tuple[int, ...], where: object) -> None:
    axes = [axis for axis, (n, m) in enumerate(zip(a, b, strict=True)) if m == n and n > 1]
    fits = all(m in (1, n) for n, m in zip(a, b, strict=True))
    if not fits or (axes and axes != list(range(axes[0], axes[-1] + 1))):
        raise UnsupportedModelError(
            "a product whose operands broadcast in a way not supported",
            where=where,
            expected="one operand of the result's shape, the other equal in axes that lie side by side, else 1",
            got=f"{a} and {b}, channels last",
        )


def _transposition(stored: tuple[int, ...], wanted: Index, where: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape to read a tensor in, and the order of axes that then yields the elements that ``wanted`` names."""
    everything = np.arange(wanted.size, dtype=np.int64)
    for shape, order in itertools.chain(_orders(stored), _orders_to(wanted.shape)):
        if np.array_equal(everything.reshape(shape).transpose(order).reshape(-1), wanted.reshape(-1)):
            return shape, order
    raise UnsupportedModelError(
        "elements in an order that no transposition yields",
        where=where,
        expected="transposes that exchange whole axes",
    )


def _orders(stored: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The stored shape with each order of its axes."""
    for order in itertools.permutations(range(len(stored))):
        yield stored, order


def _orders_to(wanted: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each order of axes with the shape that it makes ``wanted``."""
    for order in itertools.permutations(range(len(wanted))):
        yield tuple(wanted[order.index(axis)] for axis in range(len(wanted))), order
