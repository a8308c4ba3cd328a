"""The operators of a float network: what each computes in float32, and the shape of its result.

Tensors are as in the ONNX file: [n, features], or [n, channels, height, width]; a shape here leaves out n.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import Window, patches, resize_nearest
from policyport.core.semantics import POINTWISE

Floats = NDArray[np.float32]
Shape = tuple[int, ...]

LARGEST_BATCH = 2**23
"""Elements of the largest matrix that is made at once; more samples are taken in parts."""


@dataclass(frozen=True)
class Function:
    """A function of one value: none, a clamp, or one that a table will hold."""

    name: str = ""
    """Empty, ``Relu``, ``Clip``, or a name of :data:`policyport.core.semantics.POINTWISE`."""

    low: float = -inf
    """Bounds of a clamp."""

    high: float = inf

    @property
    def clamps(self) -> bool:
        """Whether it is ReLU, ReLU6 or another clip: bounds of the integers in front of it."""
        return self.name in ("Relu", "Clip")

    @property
    def has_table(self) -> bool:
        """Whether the integers need a table for it."""
        return bool(self.name) and not self.clamps

    def __call__(self, x: Floats) -> Floats:
        """Element by element, float32."""
        if self.clamps:
            return np.clip(x, np.float32(self.low), np.float32(self.high))
        return np.asarray(POINTWISE[self.name](x), np.float32) if self.name else x  # type: ignore[arg-type]


NONE, RELU, RELU6 = Function(), Function("Relu", 0.0), Function("Clip", 0.0, 6.0)


def clip(low: float, high: float) -> Function:
    """The clamp to [low, high]."""
    return RELU if (low, high) == (0.0, inf) else Function("Clip", low, high)


@dataclass(frozen=True, kw_only=True)
class Node(ABC):
    """One operator; its result is a tensor of its name."""

    name: str
    inputs: tuple[str, ...]

    @abstractmethod
    def shape(self, *shapes: Shape) -> Shape:
        """Shape of the result for the inputs' shapes."""

    @abstractmethod
    def evaluate(self, *values: Floats) -> Floats:
        """The result [n, *shape] for the inputs' values [n, *their shape], float32."""

    def work(self, *shapes: Shape) -> int:
        """Elements of the largest matrix made for one sample."""
        return max(prod(shape) for shape in (*shapes, self.shape(*shapes)))


@dataclass(frozen=True, kw_only=True)
class Weighted(Node):
    """``function(weighted sums + bias)``: what has weights, seen as matrix products, one for each group."""

    linear_name: str
    """Name of the tensor between the sums and the function; equal to ``name`` without a function."""

    weights: NDArray[np.floating[Any]]
    """[outputs, taps...], float32"""

    bias: NDArray[np.floating[Any]]
    """[outputs]"""

    function: Function = NONE

    @property
    def group_count(self) -> int:
        """Into how many groups of channels inputs and outputs are parted."""
        return 1

    @property
    def takes_channel_scales(self) -> bool:
        """Whether ONNX can hold a scale for each of its output channels."""
        return True

    @property
    def matrix(self) -> NDArray[np.floating[Any]]:
        """[groups, outputs / groups, taps]: the weights in the order of :meth:`rows`."""
        return self.weights.reshape(self.group_count, -1, prod(self.weights.shape[1:]))

    @abstractmethod
    def rows(self, x: NDArray[Any]) -> NDArray[Any]:
        """[groups, n * places, taps]: what every output of a group is a weighted sum of; padding is 0."""

    def fold(self, sums: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """[groups, n * places, outputs / groups] back to [n, *shape]."""
        outputs = sums.transpose(1, 0, 2).reshape(-1, prod(shape[1:]), shape[0])
        return outputs.transpose(0, 2, 1).reshape(-1, *shape)

    def linear(self, x: Floats) -> Floats:
        """The sums with the bias, before the function: [n, *shape], float32."""
        matrix, shape = self.matrix.transpose(0, 2, 1), self.shape(x.shape[1:])
        bias = self.bias.reshape(-1, *[1] * (len(shape) - 1))
        sums = [self.fold(self.rows(part) @ matrix, shape) for (part,) in parts(self.work(x.shape[1:]), x)]
        return np.asarray(np.concatenate(sums) + bias, np.float32)

    def evaluate(self, *values: Floats) -> Floats:
        return self.function(self.linear(values[0]))


@dataclass(frozen=True, kw_only=True)
class Linear(Weighted):
    """Fully connected: ``x @ weights.T + bias``, weights [outputs, inputs]."""

    def shape(self, *shapes: Shape) -> Shape:
        return (len(self.weights),)

    def rows(self, x: NDArray[Any]) -> NDArray[Any]:
        return x[None]


@dataclass(frozen=True, kw_only=True)
class Convolution(Weighted):
    """ONNX Conv of images, weights [outputs, channels / groups, kernel height, kernel width]."""

    window: Window
    groups: int = 1

    @property
    def group_count(self) -> int:
        return self.groups

    def shape(self, *shapes: Shape) -> Shape:
        return (len(self.weights), *self.window.output_size(*shapes[0][1:]))

    def work(self, *shapes: Shape) -> int:
        places = prod(self.shape(*shapes)[1:])
        return places * max(prod(self.weights.shape[1:]) * self.groups, len(self.weights))

    def rows(self, x: NDArray[Any]) -> NDArray[Any]:
        return _taps(x.transpose(0, 2, 3, 1), self.window, self.groups)


@dataclass(frozen=True, kw_only=True)
class TransposedConvolution(Weighted):
    """ONNX ConvTranspose; weights [outputs, channels / groups, kernel height, kernel width], not mirrored."""

    window: Window
    """``stride`` spreads the input; ``pads`` are cut from the result."""

    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1

    @property
    def group_count(self) -> int:
        return self.groups

    @property
    def takes_channel_scales(self) -> bool:
        return self.groups == 1

    @property
    def matrix(self) -> NDArray[np.floating[Any]]:
        mirrored = self.weights[:, :, ::-1, ::-1]
        return mirrored.reshape(self.groups, -1, prod(self.weights.shape[1:]))

    def shape(self, *shapes: Shape) -> Shape:
        _, *sizes = shapes[0]
        top, left, bottom, right = self.window.pads
        cut = (top + bottom, left + right)
        reach = zip(sizes, self.window.stride, cut, self.window.extent, self.output_padding, strict=True)
        height, width = ((size - 1) * stride - pads + extent + more for size, stride, pads, extent, more in reach)
        return len(self.weights), height, width

    def work(self, *shapes: Shape) -> int:
        places = prod(self.shape(*shapes)[1:])
        return places * max(prod(self.weights.shape[1:]) * self.groups, len(self.weights))

    def rows(self, x: NDArray[Any]) -> NDArray[Any]:
        (down, across), (rows, columns) = self.window.stride, self.window.extent
        _, height, width = self.shape(x.shape[1:])
        top, left = rows - 1 - self.window.pads[0], columns - 1 - self.window.pads[1]
        spread = np.zeros((len(x), height + rows - 1, width + columns - 1, x.shape[1]), x.dtype)
        spread[:, top::down, left::across][:, : x.shape[2], : x.shape[3]] = x.transpose(0, 2, 3, 1)
        return _taps(spread, Window(self.window.kernel, (1, 1), self.window.dilation), self.groups)


def _taps(image: NDArray[Any], window: Window, groups: int) -> NDArray[Any]:
    """[groups, n * places, channels / groups * kernel]: what a convolution sees of [n, height, width, channels]."""
    seen = patches(image, window, 0)
    n, rows, columns, height, width, channels = seen.shape
    grouped = seen.reshape(n, rows, columns, height, width, groups, channels // groups)
    return grouped.transpose(5, 0, 1, 2, 6, 3, 4).reshape(groups, n * rows * columns, -1)


@dataclass(frozen=True, kw_only=True)
class Sum(Node):
    """Sum of tensors of one shape, each with a sign, then a clamp or nothing."""

    signs: tuple[int, ...]
    """1 or -1 for each input."""

    function: Function = NONE

    def shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def evaluate(self, *values: Floats) -> Floats:
        total = sum(np.float32(sign) * value for sign, value in zip(self.signs, values, strict=True))
        return self.function(np.asarray(total, np.float32))


@dataclass(frozen=True, kw_only=True)
class Product(Node):
    """Product of two tensors, the second [channels, 1, 1] or of the same shape."""

    def shape(self, *shapes: Shape) -> Shape:
        return np.broadcast_shapes(*shapes)

    def evaluate(self, *values: Floats) -> Floats:
        return values[0] * values[1]


@dataclass(frozen=True, kw_only=True)
class Concat(Node):
    """Tensors side by side along channels or features."""

    def shape(self, *shapes: Shape) -> Shape:
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def evaluate(self, *values: Floats) -> Floats:
        return np.concatenate(values, axis=1)


@dataclass(frozen=True, kw_only=True)
class _Pool(Node):
    window: Window

    def shape(self, *shapes: Shape) -> Shape:
        channels, height, width = shapes[0]
        return (channels, *self.window.output_size(height, width))

    def work(self, *shapes: Shape) -> int:
        return prod(self.shape(*shapes)) * prod(self.window.kernel)

    def _seen(self, x: NDArray[Any], fill: float) -> NDArray[Any]:
        """[n, channels, rows, columns, kernel height, kernel width]"""
        image = np.pad(x, ((0, 0), (0, 0), *self._margins()), constant_values=fill).transpose(0, 2, 3, 1)
        plain = Window(self.window.kernel, self.window.stride, self.window.dilation)
        return patches(image, plain, 0).transpose(0, 5, 1, 2, 3, 4)

    def _margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        top, left, bottom, right = self.window.pads
        return (top, bottom), (left, right)


@dataclass(frozen=True, kw_only=True)
class MaxPool(_Pool):
    """The largest value of each window; padding never wins."""

    def evaluate(self, *values: Floats) -> Floats:
        return np.concatenate([self._seen(x, -inf).max((-1, -2)) for (x,) in self._parts(values[0])])

    def _parts(self, x: Floats) -> Iterator[tuple[Floats, ...]]:
        return parts(self.work(x.shape[1:]), x)


@dataclass(frozen=True, kw_only=True)
class AveragePool(_Pool):
    """The mean of each window, over its padding too where ``count_padding``."""

    count_padding: bool = False

    def evaluate(self, *values: Floats) -> Floats:
        (x,) = values
        ones = np.ones((1, 1, *x.shape[2:]), np.float32)
        count = self._seen(ones, float(self.count_padding)).sum((-1, -2))
        sums = [self._seen(part, 0.0).sum((-1, -2)) for (part,) in parts(self.work(x.shape[1:]), x)]
        return np.asarray(np.concatenate(sums) / count, np.float32)


@dataclass(frozen=True, kw_only=True)
class Reshape(Node):
    """The same values under another shape, in the order channels, height, width; or as if channels came last."""

    target: Shape
    channels_last: bool = False
    """Whether an image is flattened from, or made of, values in the order [height, width, channels]."""

    def shape(self, *shapes: Shape) -> Shape:
        return self.target

    def evaluate(self, *values: Floats) -> Floats:
        return self.move(values[0])

    def move(self, x: NDArray[Any]) -> NDArray[Any]:
        """[n, *shape] to [n, *target], of any type."""
        if self.channels_last and x.ndim == 4:
            x = x.transpose(0, 2, 3, 1)
        if self.channels_last and len(self.target) == 3:
            channels, *size = self.target
            return np.ascontiguousarray(x).reshape(len(x), *size, channels).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(x).reshape(len(x), *self.target)


@dataclass(frozen=True, kw_only=True)
class Slice(Node):
    """The features from ``start`` to before ``stop`` of a vector."""

    start: int
    stop: int

    def shape(self, *shapes: Shape) -> Shape:
        return (self.stop - self.start,)

    def evaluate(self, *values: Floats) -> Floats:
        return self.move(values[0])

    def move(self, x: NDArray[Any]) -> NDArray[Any]:
        """[n, features] to [n, stop - start], of any type."""
        return x[:, self.start : self.stop]


@dataclass(frozen=True, kw_only=True)
class Pad(Node):
    """A margin of zeros around an image."""

    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""

    def shape(self, *shapes: Shape) -> Shape:
        channels, height, width = shapes[0]
        top, left, bottom, right = self.pads
        return channels, height + top + bottom, width + left + right

    def evaluate(self, *values: Floats) -> Floats:
        return self.move(values[0], 0)

    def move(self, x: NDArray[Any], fill: int) -> NDArray[Any]:
        """The image with its margin, of any type."""
        top, left, bottom, right = self.pads
        return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


@dataclass(frozen=True, kw_only=True)
class Resize(Node):
    """The nearest pixel to the upper left, of another number of rows and columns."""

    height: int
    width: int

    def shape(self, *shapes: Shape) -> Shape:
        return shapes[0][0], self.height, self.width

    def evaluate(self, *values: Floats) -> Floats:
        return self.move(values[0])

    def move(self, x: NDArray[Any]) -> NDArray[Any]:
        """The image of another size, of any type."""
        rows, columns = (
            resize_nearest(np.arange(size).reshape(1, size, 1, 1), target, 1).reshape(-1)
            for size, target in zip(x.shape[2:], (self.height, self.width), strict=True)
        )
        return x[:, :, rows][:, :, :, columns]


@dataclass(frozen=True, kw_only=True)
class Pointwise(Node):
    """A function on its own, behind what cannot hold it."""

    function: Function

    def shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def evaluate(self, *values: Floats) -> Floats:
        return self.function(values[0])


@dataclass(frozen=True, kw_only=True)
class Softmax(Node):
    """Softmax over the features."""

    def shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def evaluate(self, *values: Floats) -> Floats:
        e = np.exp(values[0] - values[0].max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)


def parts(work: int, *values: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """The samples of several tensors in parts of at most :data:`LARGEST_BATCH` elements of work.

    :param work: elements that one sample takes
    """
    step = max(1, LARGEST_BATCH // max(1, work))
    for start in range(0, max(1, len(values[0])), step):
        yield tuple(value[start : start + step] for value in values)
