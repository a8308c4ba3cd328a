"""Rows of weights in the order in which the kernels of ``pp_neon.h`` read them, and which layers those kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, TransposedConv2d
from policyport.deploy.layout_blocks import Words
from policyport.deploy.layout_taps import Phase, Tap, group_rows, phases
from policyport.deploy.variant import NeonVariant

NeonLayout = Literal["bytes", "nibbles"]
"""``bytes``: a byte per weight. ``nibbles``: half a byte per weight of at most four bits, 8-bit inputs."""

DIGITS: dict[NeonLayout, int] = {"bytes": 1, "nibbles": 2}
"""Weights in a byte."""

INPUT_INSTRUCTIONS = {"dot": 0.08, "rows": 0.22}
"""Instructions for each input and row, about."""

LARGEST_SIDE = 65535
"""Largest side of an image, and most channels: ``pp_image_t`` holds them in 16 bits."""

SPARE_BITS = 4
"""Bits that sums of nibbles are moved to the left in ``pp_neon_dot``."""


@dataclass(frozen=True)
class Arrangement:
    """How a kernel lays out its blocks."""

    name: Literal["dot", "rows", "channels", "depthwise"]
    sizes: tuple[int, ...]
    """Rows of blocks, falling."""

    step: int
    """Inputs whose weights of one row lie side by side."""

    least: int
    """The same at the end of a part."""

    windows: int
    """Windows that are computed at once."""

    def blocks(self, rows: int) -> list[range]:
        """Rows of each block: of the largest size that those left fill, the last perhaps fewer than its size."""
        found: list[range] = []
        while (first := found[-1].stop if found else 0) < rows:
            size = next((size for size in self.sizes if rows - first >= size), rows - first)
            found.append(range(first, first + size))
        return found

    def padded(self, block: range) -> int:
        """Rows that a block has room for."""
        return max(len(block), self.sizes[-1])


DOT = Arrangement("dot", (16, 8, 4), 4, 4, 4)
DOT_S16 = Arrangement("dot", (16, 8, 4), 4, 4, 2)
"""Inputs of 16 bits, multiplied byte by byte: the lower bytes less 128, for which biases make up."""

ROWS = Arrangement("rows", (8, 4), 16, 8, 2)
ROWS_BY_FOUR = Arrangement("rows", (4,), 16, 8, 2)
"""Nibbles of convolutions: for two windows of eight rows, sums of 16 and of 32 bits do not fit in the registers."""

CHANNELS = Arrangement("channels", (16, 8), 8, 8, 4)
"""Depthwise: the rows are channels, and each tap is a part."""

DEPTHWISE = Arrangement("depthwise", (16,), 8, 8, 1)
"""The same of 3x3 taps and 8-bit inputs, along whole rows."""

HALFWORD_TAPS = (5, 3, 2)
"""Products that ``pp_neon_depthwise`` adds in int16 before it widens them."""


@dataclass(frozen=True)
class Parts:
    """How the windows of a phase are read."""

    count: int
    taken: int
    """Inputs of each part."""

    inputs: int
    """The same rounded up to whole steps, their weights being zero."""

    @property
    def taps(self) -> int:
        """Inputs of a window, padding included."""
        return self.count * self.inputs


@dataclass(frozen=True)
class NeonKernel:
    """A kernel of ``pp_neon.h``."""

    how: Arrangement
    layout: NeonLayout

    @property
    def digits(self) -> int:
        """Weights in a byte."""
        return DIGITS[self.layout]

    @property
    def unit(self) -> int:
        """Inputs of a part are a multiple of it."""
        return self.how.least * self.digits

    @property
    def name(self) -> str:
        """As :mod:`policyport.deploy.explain` names it."""
        return f"{self.how.name} {self.layout}"


def neon_kernels(layer: Affine, variant: NeonVariant) -> tuple[NeonKernel, ...]:
    """The kernels that are exact for a layer with weights, that of the fewest bytes first; none where they do not take
    it.
    """
    sides = (layer.input.size,) if isinstance(layer, FullyConnected) else (*layer.input.shape, *layer.output.shape)
    if max(sides) > LARGEST_SIDE:
        return ()
    low, high = int(layer.weights.min(initial=0)), int(layer.weights.max(initial=0))
    if layer.before_table.bits == 16 and layer.before_table.zero_point:
        return ()
    # Two products of -128 by -128 do not fit in int16.
    in_halfwords = layer.input.bits == 16 or low >= -127
    narrow = layer.input.bits == 8 and low >= -8 and high <= 7
    if is_depthwise(layer):
        by_rows = layer.input.bits == 8 and layer.weights.shape[1:3] == (3, 3)
        return (NeonKernel(DEPTHWISE if by_rows else CHANNELS, "bytes"),) if in_halfwords else ()
    if variant == "neon_dot" and layer.input.bits == 8:
        nibbles = (NeonKernel(DOT, "nibbles"),) if narrow and _has_spare_bits(layer) else ()
        return (*nibbles, NeonKernel(DOT, "bytes"))
    if variant == "neon_dot":
        return (NeonKernel(DOT_S16, "bytes"),)
    by = ROWS_BY_FOUR if isinstance(layer, Conv2d) else ROWS
    nibbles = (NeonKernel(by, "nibbles"),) if narrow else ()
    return (*nibbles, NeonKernel(ROWS, "bytes")) if in_halfwords else nibbles


def is_depthwise(layer: Affine) -> bool:
    """Whether each output of a convolution sees the channel of its number alone."""
    if not isinstance(layer, Conv2d) or isinstance(layer, TransposedConv2d):
        return False
    return 1 < layer.groups == layer.input.shape[2] == layer.output.shape[2]


def _has_spare_bits(layer: Affine) -> bool:
    return int(layer.accumulator_bound.max(initial=0)) < 2 ** (31 - SPARE_BITS)


def neon_phases(layer: Affine) -> list[Phase]:
    """The phases of a convolution; a fully connected layer is one of a single pixel."""
    if isinstance(layer, Conv2d):
        return phases(layer)
    return [Phase((Tap(0, 0, (0, 0)),))]


def groups_of(layer: Affine) -> int:
    """Groups of a convolution that are computed apart."""
    return layer.groups if isinstance(layer, Conv2d) and not is_depthwise(layer) else 1


def depth_of(layer: Affine) -> int:
    """Channels of a group, which windows hold."""
    return layer.input.shape[-1] // groups_of(layer) if isinstance(layer, Conv2d) else layer.input.size


def runs_of(phase: Phase) -> list[tuple[int, int, int]]:
    """(y, x, pixels) of neighbours in a row; all have as many pixels. A phase without taps has one of zero weights."""
    return phase.runs(1) or [(0, 0, 1)]


def read_runs(layer: Affine, phase: Phase) -> list[tuple[int, int, int]]:
    """The same of one group's channels: with several groups a pixel's do not lie beside the next one's."""
    return phase.runs(layer.groups if isinstance(layer, Conv2d) else 1) or [(0, 0, 1)]


def in_place(layer: Affine, kernel: NeonKernel) -> bool:
    """Whether windows are read run by run where they lie, each run rounded up to whole steps: where that costs less
    than to copy all runs of a window behind one another. Copies have the channels of all groups, so groups are read so.
    """
    if groups_of(layer) > 1 or is_depthwise(layer):
        return True
    depth = depth_of(layer)
    more = copied = 0.0
    for phase in neon_phases(layer):
        runs = [pixels * depth for _, _, pixels in read_runs(layer, phase)]
        inputs = sum(_whole_steps(run, kernel.unit) for run in runs)
        more += (inputs - _whole_steps(sum(runs), kernel.unit)) * len(layer.weights)
        copied += 10 + sum(6 + -(-run * layer.input.bits // 128) * 5 for run in runs)
    return more * INPUT_INSTRUCTIONS[kernel.how.name] <= copied


def _whole_steps(inputs: int, unit: int) -> int:
    return -(-inputs // unit) * unit


def parts_of(layer: Affine, phase: Phase, kernel: NeonKernel) -> Parts:
    """The parts of a window: its runs where they are read in place, else one."""
    runs = read_runs(layer, phase)
    run = runs[0][2] * depth_of(layer)
    if in_place(layer, kernel):
        return Parts(len(runs), run, _whole_steps(run, kernel.unit))
    return Parts(1, len(runs) * run, _whole_steps(len(runs) * run, kernel.unit))


def pack_phase(layer: Affine, phase: Phase, kernel: NeonKernel) -> list[Words]:
    """The blocks of each group of a phase."""
    parts = parts_of(layer, phase, kernel)
    if isinstance(layer, Conv2d) and is_depthwise(layer):
        pack = pack_depthwise if kernel.how == DEPTHWISE else pack_channels
        return [pack(layer.weights, layer.bias, layer.requantize.multiplier)]
    if isinstance(layer, Conv2d):
        found = group_rows(layer, phase)
        return [pack_rows(_or_zeros(rows, parts), bias, by, parts, kernel) for rows, bias, by in found]
    return [pack_rows(layer.weights, layer.bias, layer.requantize.multiplier, parts, kernel)]


def _or_zeros(rows: Integers, parts: Parts) -> Integers:
    return rows if rows.shape[1] else np.zeros((len(rows), parts.count * parts.taken), np.int64)


def pack_rows(rows: Integers, bias: Integers, multiplier: Integers, parts: Parts, kernel: NeonKernel) -> Words:
    """All blocks of some rows: see ``pp_neon.h``.

    :param rows: [rows, inputs], the parts padded here
    :param bias: [rows]
    :param multiplier: [rows]
    """
    words: list[Words] = []
    bias = bias + 128 * rows.sum(axis=1) if kernel.how == DOT_S16 else bias
    apart = rows.reshape(len(rows), parts.count, parts.taken)
    rows = np.pad(apart, ((0, 0), (0, 0), (0, parts.inputs - parts.taken))).reshape(len(rows), -1)
    for some in kernel.how.blocks(len(rows)):
        size = kernel.how.padded(some)
        block, *ends = (_padded(values[some.start : some.stop], size) for values in (rows, bias, multiplier))
        weights = [_part(block[:, at : at + parts.inputs], kernel) for at in range(0, parts.taps, parts.inputs)]
        words += [_whole(ends[0]), *weights, _whole(ends[1])]
    return np.concatenate(words)


def pack_channels(weights: Integers, bias: Integers, multiplier: Integers) -> Words:
    """All blocks of a depthwise convolution.

    :param weights: [channels, kernel height, kernel width, 1]
    :param bias: [channels]
    :param multiplier: [channels]
    """
    taps = weights.reshape(len(weights), -1)
    words: list[Words] = []
    for some in CHANNELS.blocks(len(taps)):
        size = CHANNELS.padded(some)
        block, *ends = (_padded(values[some.start : some.stop], size) for values in (taps, bias, multiplier))
        words += [_whole(ends[0]), _bytes(block.T), _whole(ends[1])]
    return np.concatenate(words)


def pack_depthwise(weights: Integers, bias: Integers, multiplier: Integers) -> Words:
    """All blocks of a depthwise convolution of 3x3 taps.

    :param weights: [channels, 3, 3, 1]
    :param bias: [channels]
    :param multiplier: [channels]
    """
    size, channels = DEPTHWISE.sizes[0], len(weights)
    together = np.column_stack([weights.reshape(channels, -1), bias, multiplier])
    if 2 * channels == size:
        together = np.concatenate([together, together])
    firsts = [*range(0, channels - size, size), channels - size] if channels > size else [0]
    words: list[Words] = []
    for first in firsts:
        block = _padded(together[first : first + size], size)
        taps = block[:, :-2]
        words += [_whole(np.array([halfword_taps(taps)])), _whole(block[:, -2]), _bytes(taps.T), _whole(block[:, -1])]
    return np.concatenate(words)


def halfword_taps(taps: Integers) -> int:
    """How many products of neighbouring taps int16 holds, whatever the 8-bit inputs are.

    :param taps: [channels, taps]
    """
    largest = 128 * np.abs(taps)
    for count in HALFWORD_TAPS:
        if np.add.reduceat(largest, range(0, taps.shape[1], count), axis=1).max(initial=0) < 2**15:
            return count
    raise AssertionError("weights below -127 do not come here")


def _padded(values: Integers, size: int) -> Integers:
    return np.pad(values, ((0, size - len(values)), *[(0, 0)] * (values.ndim - 1)))


def _part(block: Integers, kernel: NeonKernel) -> Words:
    """[rows, inputs] of a part."""
    group = kernel.how.step * kernel.digits
    whole = block.shape[1] // group * group
    steps = (block[:, :whole], kernel.how.step), (block[:, whole:], kernel.how.least)
    return np.concatenate([_steps(some, step, kernel.digits) for some, step in steps])


def _steps(block: Integers, step: int, digits: int) -> Words:
    """Step by step, of each row the weights of that many inputs; two digits are those of two steps."""
    apart = block.reshape(len(block), -1, digits, step).transpose(2, 1, 0, 3)
    together: Integers = apart[0] if digits == 1 else (apart[0] & 15) | apart[1] << 4
    return _bytes(together)


def _bytes(values: Integers) -> Words:
    return np.ascontiguousarray(values & 0xFF, np.uint8).reshape(-1).view("<u4")


def _whole(values: Integers) -> Words:
    return (values & 0xFFFFFFFF).astype(np.uint32)


def weight_bytes(packed: Sequence[Sequence[Words]]) -> int:
    """Flash of all phases and groups."""
    return sum(words.nbytes for groups in packed for words in groups)
