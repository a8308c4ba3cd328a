"""The layers of an integer program, and the activations between them.

Images lie as ``(height, width, channels)``. What each layer computes is defined in
:mod:`policyport.core.semantics` and :mod:`policyport.core.operators`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.operators import WeightedSum, Window
from policyport.core.semantics import Integers, Requantization


@dataclass(frozen=True)
class Tensor:
    """An activation: ``real = scale * (q - zero_point)``."""

    name: str
    shape: tuple[int, ...]
    """(elements,) or (height, width, channels), in the order the device holds them."""

    bits: int
    """8 (int8, asymmetric) or 16 (int16, zero point 0)."""

    scale: float
    """A float32 value."""

    zero_point: int
    low: int
    """Smallest integer it can hold, at most its width's: what a clamp or a table leaves."""

    high: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def quantized_as(self, other: Tensor) -> bool:
        """Whether equal integers mean equal reals in both."""
        return (self.bits, self.scale, self.zero_point) == (other.bits, other.scale, other.zero_point)


@dataclass(frozen=True)
class Layer:
    """What every layer has."""

    name: str
    """Name of its output in the file it came from."""

    inputs: tuple[Tensor, ...]
    output: Tensor

    @property
    def input(self) -> Tensor:
        """The first operand."""
        return self.inputs[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return 0


@dataclass(frozen=True)
class Affine(Layer):
    """Weights, accumulators, requantization: ``lookup(requantize(W q + b))``."""

    weights: Integers
    """[outputs, ...], values of ``weight_bits``."""

    weight_bits: int
    """8, 4, 3 or 2."""

    weight_scale: NDArray[np.float64]
    """[outputs], for exporters; the device never sees it."""

    bias: Integers
    """[outputs], int32, the input's zero point folded in."""

    requantize: Requantization
    before_table: Tensor
    """What the requantization yields; equal to ``output`` where there is no table."""

    table: Integers | None
    """[256] for int8, [257] for int16, where an activation function is fused: see :func:`semantics.lookup`."""

    function: str
    """ONNX operator that the table holds, ``Tanh`` say; empty without one."""

    @property
    def accumulator_bound(self) -> Integers:
        """[outputs], largest magnitude of each accumulator for any input the tensor can hold, padding included."""
        reach = (min(self.input.low, self.input.zero_point), max(self.input.high, self.input.zero_point))
        return semantics.accumulator_bound(self.weights, self.bias, *reach)


@dataclass(frozen=True)
class FullyConnected(Affine):
    """Weights [outputs, inputs]; the input is read as a vector, whatever its shape."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return int(self.weights.size)


@dataclass(frozen=True)
class Conv2d(Affine):
    """Weights [outputs, kernel height, kernel width, channels / groups]; depthwise where groups = channels."""

    window: Window
    groups: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, those with padding included."""
        return int(self.weights[0].size) * self.output.size


@dataclass(frozen=True)
class TransposedConv2d(Conv2d):
    """The convolution of the image spread out by the stride; ``window.pads`` are cut from the result."""

    output_padding: tuple[int, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference: each weight meets each pixel of the input once, less what is cut."""
        rows, columns, _ = self.input.shape
        return int(self.weights.size) * rows * columns


@dataclass(frozen=True)
class Pool(Layer):
    """The largest or the mean of what a window sees, channel by channel."""

    kind: Literal["max", "average"]
    window: Window
    requantize: Requantization | None
    """[pixels of the window], by the number of pixels seen; None for ``max``, which keeps scale and zero point."""

    count_padding: bool
    """Whether padding counts in the mean, as pixels of value zero."""


@dataclass(frozen=True)
class Add(Layer):
    """A weighted sum of activations of one shape; with one operand a change of scale, or a clamp."""

    by: WeightedSum


@dataclass(frozen=True)
class Multiply(Layer):
    """The product of two activations; the second has the first's shape, or 1 in some of its axes."""

    requantize: Requantization

    @property
    def macs(self) -> int:
        """One product for each element."""
        return self.output.size


@dataclass(frozen=True)
class Lookup(Layer):
    """A pointwise function by its table, where it could not be fused."""

    table: Integers
    function: str


@dataclass(frozen=True)
class Softmax(Layer):
    """Softmax over the last axis, int8 to int8 at scale 1/256 and zero point -128."""

    table: Integers
    """[256], see :func:`policyport.core.operators.softmax_table`."""


@dataclass(frozen=True)
class Argmax(Layer):
    """Index of the largest value of a vector, as one int16."""


@dataclass(frozen=True)
class Concat(Layer):
    """Activations, all quantized as the output, behind one another along an axis."""

    axis: int


@dataclass(frozen=True)
class Pad(Layer):
    """An image with a border."""

    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""

    value: int
    """The border's integer."""


@dataclass(frozen=True)
class Resize(Layer):
    """The image at the output's size, by the nearest pixel to the upper left."""


@dataclass(frozen=True)
class Slice(Layer):
    """The elements of a vector from ``start`` on, as many as the output has."""

    start: int


@dataclass(frozen=True)
class Transpose(Layer):
    """The input read in ``shape``, its axes reordered: where a layout could not be folded into weights."""

    shape: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Reshape(Layer):
    """The same integers under another shape; costs nothing."""


@dataclass(frozen=True)
class Strips(Layer):
    """Layers of images that run together, some rows at a time, so that what lies between them is never whole in memory.

    They compute what they would compute one after the other; see :mod:`policyport.deploy.strips`.
    """

    layers: tuple[Layer, ...]
    """Each reads ``inputs`` and outputs of those before it; the last yields ``output``, and alone is read outside."""

    rows: int
    """Of the output, computed in each step; where the last layer is the mean of a whole image, of that image."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)


LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        FullyConnected,
        Conv2d,
        TransposedConv2d,
        Pool,
        Add,
        Multiply,
        Lookup,
        Softmax,
        Argmax,
        Concat,
        Pad,
        Resize,
        Slice,
        Transpose,
        Reshape,
        Strips,
    )
}
"""Every kind of layer by its name, as files name it."""
