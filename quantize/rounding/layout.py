"""How a layer's output rows see its input: every linear layer as rows of weights times patches of features.

A layer has ``groups`` independent groups; in a group, ``rows`` output channels read the same ``inputs``
features at every position. A fully connected layer has one group and one position; a depthwise
convolution has one group per channel. A transposed convolution is a convolution over its input with
zeros between the elements, by the kernel turned round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError

Array = NDArray[Any]


class Layout(Protocol):
    """What a rounding solver has to know of a layer's kind."""

    def features(self, values: Array) -> Array:
        """Inputs [n, ...] to the features of every position, [n, positions, groups, inputs]."""
        ...

    def rows(self, weights: Array) -> Array:
        """Weights as the layer stores them to [groups, rows, inputs]."""
        ...

    def weights(self, rows: Array) -> Array:
        """The inverse of :meth:`rows`."""
        ...


@dataclass(frozen=True)
class LinearLayout:
    """Fully connected: values [n, inputs], weights [outputs, inputs]."""

    def features(self, values: Array) -> Array:
        """[n, inputs] to [n, 1, 1, inputs]."""
        return values[:, None, None, :]

    def rows(self, weights: Array) -> Array:
        """[outputs, inputs] to [1, outputs, inputs]."""
        return weights[None]

    def weights(self, rows: Array) -> Array:
        """[1, outputs, inputs] to [outputs, inputs]."""
        return rows[0]


@dataclass(frozen=True)
class ConvolutionLayout:
    """Convolution in two dimensions: values [n, channels, height, width], zero padding.

    Weights are [outputs, channels / groups, kernel height, kernel width]; transposed, they are
    [channels, outputs / groups, kernel height, kernel width], as ONNX and torch hold them.
    """

    kernel: tuple[int, int]
    """Height and width, in elements."""

    channels: int
    """Channels of the input."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right; transposed, what is cut off the full result."""

    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, int] = (0, 0)
    """Transposed: rows and columns added at the bottom and the right of the result."""

    def __post_init__(self) -> None:
        if self.groups < 1 or self.channels % self.groups:
            raise UnsupportedModelError(
                "a convolution's groups do not divide its channels", expected="a divisor", got=self.groups
            )

    def features(self, values: Array) -> Array:
        """[n, channels, height, width] to [n, positions, groups, channels / groups * kernel elements]."""
        planes = self._spread(values) if self.transposed else self._padded(values, self.padding)
        reach = [self.dilation[i] * (self.kernel[i] - 1) + 1 for i in range(2)]
        stride = (1, 1) if self.transposed else self.stride
        windows = np.lib.stride_tricks.sliding_window_view(planes, reach, axis=(2, 3))  # type: ignore[call-overload]
        windows = windows[:, :, :: stride[0], :: stride[1], :: self.dilation[0], :: self.dilation[1]]
        n, _, height, width = windows.shape[:4]
        by_position = windows.transpose(0, 2, 3, 1, 4, 5)
        return by_position.reshape(n, height * width, self.groups, -1)

    def rows(self, weights: Array) -> Array:
        """Stored weights to [groups, outputs / groups, channels / groups * kernel elements]."""
        if not self.transposed:
            return weights.reshape(self.groups, weights.shape[0] // self.groups, -1)
        turned = weights[:, :, ::-1, ::-1]
        split = turned.reshape(self.groups, self.channels // self.groups, weights.shape[1], *self.kernel)
        return split.transpose(0, 2, 1, 3, 4).reshape(self.groups, weights.shape[1], -1)

    def weights(self, rows: Array) -> Array:
        """The inverse of :meth:`rows`."""
        fan_in = self.channels // self.groups
        split = rows.reshape(self.groups, rows.shape[1], fan_in, *self.kernel)
        if not self.transposed:
            return split.reshape(-1, fan_in, *self.kernel)
        return split.transpose(0, 2, 1, 3, 4).reshape(self.channels, rows.shape[1], *self.kernel)[:, :, ::-1, ::-1]

    def _spread(self, values: Array) -> Array:
        """The input of a transposed convolution with zeros between its elements, and a border for the kernel."""
        n, channels, height, width = values.shape
        (down, across) = self.stride
        spread = np.zeros((n, channels, (height - 1) * down + 1, (width - 1) * across + 1), values.dtype)
        spread[:, :, ::down, ::across] = values
        border = [self.dilation[i] * (self.kernel[i] - 1) for i in range(2)]
        top, left, bottom, right = self.padding
        ends = border[0] - bottom + self.output_padding[0], border[1] - right + self.output_padding[1]
        return self._padded(spread, (border[0] - top, border[1] - left, *ends))

    @staticmethod
    def _padded(values: Array, border: tuple[int, int, int, int]) -> Array:
        """Zeros around the planes; a negative border cuts."""
        top, left, bottom, right = border
        grown = np.pad(values, ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
        height, width = grown.shape[2:]
        return grown[:, :, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]
