"""Real values that no QuantizeLinear has made integers of yet, each as the layer that it will become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from policyport.core import operators, semantics
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import SOFTMAX_SCALE, Window
from policyport.deploy.layers import Concat, Softmax
from policyport.deploy.lower_builder import OPEN, Builder, Clamp, Quantization, View, Weights, plain_view


class Pending(Protocol):
    """What a QuantizeLinear makes a layer of."""

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """Append the layers that compute the value, quantized and clamped so.

        :raises UnsupportedModelError: no integer layer computes it
        """
        ...

    def bounds(self) -> Clamp:
        """Real values that it does not exceed."""
        ...

    def own(self, name: str) -> Quantization:
        """A grid that holds every value that it can take, where the file gives none."""
        ...


Value = View | Pending


def _holding(name: str, bounds: Clamp) -> Quantization:
    """16 bits that hold the values between two."""
    return Quantization(name, float(np.float32(max(map(abs, bounds)) / (2**15 - 1))) or 1.0, 0, 16)


def _bounds(value: Value) -> Clamp:
    """Real values that a value does not exceed."""
    if not isinstance(value, View):
        return value.bounds()
    tensor = value.tensor
    return (tensor.low - tensor.zero_point) * tensor.scale, (tensor.high - tensor.zero_point) * tensor.scale


def _affine_bounds(view: View, weights: Weights) -> Clamp:
    """Of a layer with weights: each product as large as the activation's range lets it be, padding being zero."""
    low, high = min(_bounds(view)[0], 0.0), max(_bounds(view)[1], 0.0)
    rows = weights.values.reshape(len(weights.values), -1) * weights.scale[:, None]
    above, below = np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)
    return (
        float((above * low + below * high + weights.bias).min()),
        float((above * high + below * low + weights.bias).max()),
    )


def _extremes(values: list[float]) -> Clamp:
    return min(values), max(values)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    view: View
    weights: Weights
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        return builder.fully_connected(self.view, self.weights, quantization, clamp, self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return _affine_bounds(self.view, self.weights)

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return _holding(name, self.bounds())


@dataclass(frozen=True)
class Convolution:
    """A convolution, or with ``output_padding`` a transposed one."""

    view: View
    weights: Weights
    where: str
    window: Window
    groups: int
    output_padding: tuple[int, int] | None = None

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        return builder.convolution(
            self.view, self.weights, self.window, self.groups, quantization, clamp, self.where, self.output_padding
        )

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return _affine_bounds(self.view, self.weights)

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return _holding(name, self.bounds())


@dataclass(frozen=True)
class Sum:
    """A sum of activations, each times a factor."""

    views: tuple[View, ...]
    factors: tuple[float, ...]
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        return builder.weighted_sum(list(self.views), list(self.factors), quantization, clamp, self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        terms = [
            sorted((f * low, f * high)) for f, (low, high) in zip(self.factors, map(_bounds, self.views), strict=True)
        ]
        return sum(low for low, _ in terms), sum(high for _, high in terms)

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return _holding(name, self.bounds())


@dataclass(frozen=True)
class Product:
    """The product of two activations."""

    a: View
    b: View
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        return builder.multiply(self.a, self.b, quantization, clamp, self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return _extremes([a * b for a in _bounds(self.a) for b in _bounds(self.b)])

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return _holding(name, self.bounds())


@dataclass(frozen=True)
class Function:
    """A pointwise function."""

    view: View
    function: str
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`. ReLU that keeps scale and zero point is a clamp."""
        same = replace(quantization, name="") == replace(self.view.quantization(), name="")
        if self.function == "Relu" and same:
            return builder.rescaled(self.view, quantization, (max(0.0, clamp[0]), clamp[1]), where=self.where)
        return builder.lookup(self.view, self.function, quantization, clamp, self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        source = self.view.tensor
        real = (np.arange(source.low, source.high + 1) - source.zero_point) * source.scale
        return _extremes(semantics.pointwise(self.function)(real).tolist())

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        if self.function == "Relu":
            return self.view.quantization(name)
        if self.view.tensor.bits == 16:
            return _holding(name, self.bounds())
        # A table yields the width that it is read by.
        low, high = _extremes([0.0, *self.bounds()])
        scale = float(np.float32((high - low) / 255)) or 1.0
        return Quantization(name, scale, round(-128 - low / scale), 8)


@dataclass(frozen=True)
class Mean:
    """An average pool."""

    view: View
    window: Window
    count_padding: bool
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        return builder.average_pool(self.view, self.window, self.count_padding, quantization, clamp, self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return _extremes([0.0, *_bounds(self.view)])

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return _holding(name, self.bounds())


@dataclass(frozen=True)
class Distribution:
    """A softmax over the device's last axis."""

    view: View
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`. It has one scale of its own; another is a change of scale behind it."""
        source = self.view.tensor
        own = Quantization(quantization.name, SOFTMAX_SCALE, -128, 8)
        if source.bits != 8 or source.shape[-1] > 2**14:
            raise UnsupportedModelError(
                "a softmax of this kind",
                where=self.where,
                expected="int8, at most 16384 classes",
                got=f"int{source.bits}, {source.shape[-1]} classes",
            )
        if quantization != own or clamp != OPEN:
            own = replace(own, name=f"{own.name}/softmax")
        target = builder.named(own).tensor(source.shape)
        layer = Softmax(target.name, (source,), target, operators.softmax_table(source.scale))
        view = View(builder.add(layer), self.view.index)
        return view if own == quantization else builder.rescaled(view, quantization, clamp, where=self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return 0.0, 1.0

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return Quantization(name, SOFTMAX_SCALE, -128, 8)


@dataclass(frozen=True)
class Chain:
    """Values behind one another along an axis of the file's."""

    values: tuple[Value, ...]
    names: tuple[str, ...]
    axis: int
    where: str

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`. Each operand takes the result's scale."""
        views = [
            self._operand(builder, value, replace(quantization, name=name), clamp)
            for value, name in zip(self.values, self.names, strict=True)
        ]
        image = len(views[0].shape) == 3
        if not image and self.axis != 0:
            raise UnsupportedModelError(
                "a Concat of this axis", where=self.where, expected="images, or vectors along their axis", got=self.axis
            )
        tensors = [builder.channels_last(v, self.where) if image else builder.flat(v, self.where) for v in views]
        axis = (2, 0, 1)[self.axis] if image else 0
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        target = replace(
            builder.named(quantization).tensor(tuple(shape)),
            low=min(tensor.low for tensor in tensors),
            high=max(tensor.high for tensor in tensors),
        )
        view = plain_view(builder.add(Concat(target.name, tuple(tensors), target, axis)))
        inner = views[0].shape[1:]
        return view if image else replace(view, index=view.index.reshape(-1, *inner))

    def _operand(self, builder: Builder, value: Value, quantization: Quantization, clamp: Clamp) -> View:
        if not isinstance(value, View):
            return value.emit(builder, quantization, clamp)
        same = value.quantization(quantization.name) == quantization
        return value if same and value.within(clamp) else builder.rescaled(value, quantization, clamp, where=self.where)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return _extremes([edge for value in self.values for edge in _bounds(value)])

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return _holding(name, self.bounds())


@dataclass(frozen=True)
class Clamped:
    """A value between real bounds."""

    inner: Pending
    clamp: Clamp

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        both = (max(self.clamp[0], clamp[0]), min(self.clamp[1], clamp[1]))
        return self.inner.emit(builder, quantization, both)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        low, high = self.inner.bounds()
        return float(np.clip(low, *self.clamp)), float(np.clip(high, *self.clamp))

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        grid = self.inner.own(name)
        return _holding(name, self.bounds()) if grid.bits == 16 else grid


@dataclass(frozen=True)
class Moved:
    """A value whose elements are moved, chosen or repeated: it is quantized before, which changes nothing."""

    inner: Pending
    move: Callable[[View, str], View]
    """From the view before, and the name of the activation to make, to the view behind."""

    inner_name: str
    """Of the activation before, where the move is a layer; empty where it is not."""

    def emit(self, builder: Builder, quantization: Quantization, clamp: Clamp) -> View:
        """See :class:`Pending`."""
        inner = replace(quantization, name=self.inner_name or quantization.name)
        return self.move(self.inner.emit(builder, inner, clamp), quantization.name)

    def bounds(self) -> Clamp:
        """See :class:`Pending`."""
        return self.inner.bounds()

    def own(self, name: str) -> Quantization:
        """See :class:`Pending`."""
        return self.inner.own(name)


def settle(value: Pending, builder: Builder, name: str) -> View:
    """The value on its own grid, where the file gives none.

    A mean is taken of 16 bits: of 8 it would be no finer than what it is a mean of.
    """
    if isinstance(value, Moved):
        return value.move(settle(value.inner, builder, value.inner_name or name), name)
    own = value.own(name)
    if isinstance(value, Mean) and value.view.tensor.bits < own.bits:
        wide = builder.rescaled(value.view, replace(own, name=f"{name}/wide"), OPEN, where=value.where)
        value = replace(value, view=wide)
    return value.emit(builder, own, OPEN)


def channelwise(view: View, gain: Weights | None, where: str) -> Convolution:
    """``gain * x + offset`` per channel, as a depthwise 1x1 convolution."""
    assert gain is not None
    return Convolution(view, gain, where, Window((1, 1)), len(gain.values))


def channel_weights(gain: np.ndarray, offset: np.ndarray) -> Weights:  # type: ignore[type-arg]
    """Weights [channels, 1, 1, 1] of +-127 that stand for any real gain exactly."""
    values = np.where(gain == 0, 0, np.where(gain < 0, -127, 127)).astype(np.int64)
    scale = np.where(gain == 0, 1.0, np.abs(gain)) / 127
    return Weights(values.reshape(-1, 1, 1, 1), 8, scale, np.asarray(offset, np.float64))
