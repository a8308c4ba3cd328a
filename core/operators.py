"""The integer semantics of images and graphs: convolution, pooling, sums, products, moves.

The second half of docs/integer-semantics.md as executable numpy; :mod:`policyport.core.semantics` is the
first. Images are ``[n, height, width, channels]``. A convolution yields accumulators, which
:func:`policyport.core.semantics.requantize` makes activations of; the other operators yield activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import INT32_MAX, Integers, Reals, Requantization, requantization, requantize

LARGEST_MULTIPLIER = 2**15 - 1
"""Of a weighted sum: multipliers are halfwords, so one SMLAD takes two of them."""

SOFTMAX_ONE = 2**16
"""The entry of a softmax table that stands for exp(0)."""

SOFTMAX_SCALE = 1 / 256
"""Scale of a softmax's int8 output, zero point -128, as TFLite demands it."""


@dataclass(frozen=True)
class Window:
    """A window that slides over height and width; pairs are (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns from its first to its last tap."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1, (self.kernel[1] - 1) * self.dilation[1] + 1

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the result for an image of that size; smaller than 1 where it does not fit."""
        top, left, bottom, right = self.pads
        rows, columns = self.extent
        down, across = self.stride
        return (height + top + bottom - rows) // down + 1, (width + left + right - columns) // across + 1


def patches(image: NDArray[Any], window: Window, fill: int) -> NDArray[Any]:
    """What the window sees at each of its places.

    :param image: [n, height, width, channels]
    :param fill: value of the padding
    :returns: [n, rows, columns, kernel height, kernel width, channels], a view where nothing is padded
    """
    top, left, bottom, right = window.pads
    if any(window.pads):
        image = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    seen: NDArray[Any] = sliding_window_view(image, window.extent, axis=(1, 2))  # type: ignore[call-overload]
    seen = seen[:, :: window.stride[0], :: window.stride[1], :, :: window.dilation[0], :: window.dilation[1]]
    return seen.transpose(0, 1, 2, 4, 5, 3)


def convolve(
    q_input: Integers, weights: Integers, bias: Integers, window: Window, groups: int, zero_point: int
) -> Integers:
    """Accumulators of a convolution; padding holds the input's zero point, which is folded into ``bias``.

    ``acc[o] = bias[o] + sum over y, x, c of weights[o, y, x, c] * q[.. + y, .. + x, group(o) + c]``, the
    cross-correlation that ONNX and TFLite call Conv. ``groups`` = channels makes it depthwise.

    :param q_input: [n, height, width, channels]
    :param weights: [outputs, kernel height, kernel width, channels / groups]
    :param bias: [outputs], with ``- zero_point * sum(weights[o])``
    :returns: [n, rows, columns, outputs]
    """
    seen = patches(np.asarray(q_input, np.float64), window, zero_point)
    n, rows, columns, *_, channels = seen.shape
    outputs, depth = len(weights), channels // groups
    total = np.empty((n, rows, columns, outputs))
    share = outputs // groups
    for group in range(groups):
        part = seen[..., group * depth : (group + 1) * depth].reshape(n * rows * columns, -1)
        taps = np.asarray(weights[group * share : (group + 1) * share], np.float64).reshape(share, -1)
        # Exact: an accumulator of 32 bits has no partial sum that float64 could not hold.
        total[..., group * share : (group + 1) * share] = (part @ taps.T).reshape(n, rows, columns, share)
    return total.astype(np.int64) + np.asarray(bias, np.int64)


def convolve_transposed(
    q_input: Integers,
    weights: Integers,
    bias: Integers,
    window: Window,
    output_padding: tuple[int, int],
    groups: int,
    zero_point: int,
) -> Integers:
    """Accumulators of a transposed convolution, as ONNX ConvTranspose defines its shape.

    It is the convolution by the mirrored kernel of the image spread out by the stride, the gaps and the
    margin holding the zero point, so that folding it into ``bias`` is exact.

    :param q_input: [n, height, width, channels]
    :param weights: [outputs, kernel height, kernel width, channels / groups], not mirrored
    :param window: ``stride`` spreads the input; ``pads`` are cut from the result
    :param output_padding: rows and columns appended below and to the right
    :returns: [n, (height - 1) * stride - pads + extent + output_padding, .., outputs]
    """
    spread, inner = spread_out(np.asarray(q_input, np.int64), window, output_padding, zero_point)
    return convolve(spread, weights[:, ::-1, ::-1], bias, inner, groups, zero_point)


def spread_out(
    q_input: Integers, window: Window, output_padding: tuple[int, int], zero_point: int
) -> tuple[Integers, Window]:
    """The image that a transposed convolution convolves, and the window of that plain convolution."""
    n, height, width, channels = q_input.shape
    (down, across), (rows, columns) = window.stride, window.extent
    spread = np.full((n, (height - 1) * down + 1, (width - 1) * across + 1, channels), zero_point, np.int64)
    spread[:, ::down, ::across] = q_input
    top, left, bottom, right = window.pads
    margin = (rows - 1 - top, columns - 1 - left, rows - 1 - bottom + output_padding[0])
    pads = (*margin, columns - 1 - right + output_padding[1])
    if min(pads) < 0:
        raise UnsupportedModelError(
            "a transposed convolution that cuts off more than its kernel reaches",
            expected=f"pads below the kernel's extent {window.extent}",
            got=window.pads,
        )
    return spread, Window(window.kernel, (1, 1), window.dilation, pads)


def max_pool(q_input: Integers, window: Window) -> Integers:
    """The largest integer that each window sees; padding never wins. Output quantized as the input.

    :param q_input: [n, height, width, channels]
    :returns: [n, rows, columns, channels]
    """
    lowest = np.iinfo(np.int64).min
    return patches(np.asarray(q_input, np.int64), window, lowest).max(axis=(3, 4))


def average_requantization(
    scale_in: float, scale_out: float, window: Window, low: int, high: int, where: object = None
) -> Requantization:
    """One multiplier for each number of pixels that a window may see: ``ratio[count - 1] = s_in / (s_out count)``.

    :param low: smallest integer of the input less its zero point
    :param high: largest such integer
    """
    area = window.kernel[0] * window.kernel[1]
    counts = np.arange(1, area + 1, dtype=np.float64)
    ratio = float(np.float32(scale_in)) / (float(np.float32(scale_out)) * counts)
    return requantization(ratio, area * max(abs(low), abs(high)), where)


def average_pool(
    q_input: Integers,
    window: Window,
    by: Requantization,
    zero_point_in: int,
    zero_point_out: int,
    low: int,
    high: int,
    count_padding: bool = False,
) -> Integers:
    """The mean of the pixels that each window sees: sum, then one rounding multiply by 1 / count.

    :param q_input: [n, height, width, channels]
    :param by: of :func:`average_requantization`
    :param count_padding: whether padding counts as pixels of value zero
    :returns: [n, rows, columns, channels]
    """
    image = np.asarray(q_input, np.int64)
    total = patches(image - zero_point_in, window, 0).sum(axis=(3, 4))
    count = patches(np.ones((1, *image.shape[1:3], 1), np.int64), window, int(count_padding)).sum(axis=(3, 4))
    return requantize(total, Requantization(by.multiplier[count - 1], by.shift), zero_point_out, low, high)


@dataclass(frozen=True)
class WeightedSum:
    """``clamp((sum of multiplier[i] * q[i] + constant) >> shift)``: add, subtract, and change of scale."""

    multipliers: tuple[int, ...]
    """One per operand, halfwords: round(2**shift * s_i / s_out)."""

    constant: int
    """int32: zero points and the rounding's half step."""

    shift: int


def weighted_sum(
    ratios: Sequence[float],
    zero_points: Sequence[int],
    ranges: Sequence[tuple[int, int]],
    zero_point_out: int,
    where: object = None,
) -> WeightedSum:
    """The weighted sum of activations, with the largest shift for which all of it fits in 32 bits.

    :param ratios: per operand ``s_in / s_out``, negative to subtract it
    :param zero_points: per operand
    :param ranges: per operand: the smallest and largest integer it holds
    :raises UnsupportedModelError: a ratio is not finite, or so large that no shift fits
    """
    if not all(np.isfinite(ratios)):
        raise UnsupportedModelError("a ratio of scales is not a finite number", where=where, got=list(ratios))
    for shift in range(30, -1, -1):
        multipliers = tuple(int(np.floor(ratio * 2.0**shift + 0.5)) for ratio in ratios)
        half = 1 << (shift - 1) if shift else 0
        constant = half + (zero_point_out << shift) - sum(m * z for m, z in zip(multipliers, zero_points, strict=True))
        reach = sum(abs(m) * max(abs(low), abs(high)) for m, (low, high) in zip(multipliers, ranges, strict=True))
        if max(map(abs, multipliers)) <= LARGEST_MULTIPLIER and reach + abs(constant) <= INT32_MAX:
            return WeightedSum(multipliers, constant, shift)
    raise UnsupportedModelError(
        "operands whose scales lie too far above the result's",
        where=where,
        expected=f"ratios below {LARGEST_MULTIPLIER}",
        got=list(ratios),
        cure="calibrate the result's range on observations that reach it",
    )


def add(operands: Sequence[Integers], by: WeightedSum, low: int, high: int) -> Integers:
    """A weighted sum of activations of one shape: add, subtract, or with one operand a change of scale."""
    terms = [m * np.asarray(q, np.int64) for q, m in zip(operands, by.multipliers, strict=True)]
    total: Integers = np.sum(terms, axis=0) + by.constant
    return np.clip(total >> by.shift, low, high)


def multiply(
    a: Integers,
    b: Integers,
    zero_point_a: int,
    zero_point_b: int,
    by: Requantization,
    zero_point: int,
    low: int,
    high: int,
) -> Integers:
    """Element-wise product, shapes as numpy broadcasts them: ``requantize((a - za) * (b - zb))``.

    :param by: of ``ratio = s_a * s_b / s_out``, one channel
    """
    product = (np.asarray(a, np.int64) - zero_point_a) * (np.asarray(b, np.int64) - zero_point_b)
    return requantize(product, by, zero_point, low, high)


def resize_nearest(q_input: Integers, height: int, width: int) -> Integers:
    """The nearest pixel to the upper left: row ``floor(y * rows / height)``, likewise columns.

    :param q_input: [n, rows, columns, channels]
    :returns: [n, height, width, channels]
    """
    _, rows, columns, _ = q_input.shape
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.asarray(q_input, np.int64)[:, down][:, :, across]


def softmax_table(scale: float) -> Integers:
    """[256]: entry ``d`` is ``round(2**16 * exp(-scale * d))``, for an input ``d`` steps below the largest."""
    steps: Reals = np.exp(-float(np.float32(scale)) * np.arange(256))
    return np.floor(SOFTMAX_ONE * steps + 0.5).astype(np.int64)


def softmax(q_input: Integers, table: Integers) -> Integers:
    """Softmax over the last axis, int8 to int8 at scale 1/256 and zero point -128.

    ``e = table[max(q) - q]``, ``q_out = min((256 e + sum(e) // 2) // sum(e) - 128, 127)``; at most 2**14
    elements, so that every sum fits in 32 bits.

    :param q_input: [..., classes], int8
    """
    q = np.asarray(q_input, np.int64)
    e = table[q.max(axis=-1, keepdims=True) - q]
    total = e.sum(axis=-1, keepdims=True)
    return np.minimum((256 * e + total // 2) // total - 128, 127)


def weight_sums(weights: Integers) -> NDArray[np.int64]:
    """[outputs]: the sum of each output's weights, whatever their other axes; times a zero point, its fold."""
    return np.asarray(weights, np.int64).reshape(len(weights), -1).sum(axis=1)
