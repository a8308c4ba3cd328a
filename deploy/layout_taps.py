"""Windows of any convolution as runs of pixels, and its weights in their order: see ``pp_taps.h``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy import layout_blocks
from policyport.deploy.layers import Conv2d, TransposedConv2d
from policyport.deploy.layout_blocks import Words
from policyport.deploy.variant import Variant

TapsLayout = layout_blocks.Layout | Literal["quartets"]


@dataclass(frozen=True)
class Tap:
    """A pixel that a window sees, from the window's origin on, and the weight that it meets."""

    y: int
    x: int
    weight: tuple[int, int]
    """Row and column in the kernel."""


@dataclass(frozen=True)
class Phase:
    """Outputs at one place in the step of a transposed convolution, or all of another: they have the same taps."""

    taps: tuple[Tap, ...]

    def runs(self, groups: int) -> list[tuple[int, int, int]]:
        """(y, x, pixels): neighbours in a row are one run, where a window has all channels of a pixel."""
        found: list[tuple[int, int, int]] = []
        for tap in self.taps:
            if groups == 1 and found and (tap.y, tap.x) == (found[-1][0], found[-1][1] + found[-1][2]):
                found[-1] = (*found[-1][:2], found[-1][2] + 1)
            else:
                found.append((tap.y, tap.x, 1))
        return found


def phases(layer: Conv2d) -> list[Phase]:
    """The phases of a convolution, in the order of the output's places: as many as its stride if it is transposed."""
    if not isinstance(layer, TransposedConv2d):
        rows, columns = (
            [(i * dilation, i) for i in range(kernel)]
            for kernel, dilation in zip(layer.window.kernel, layer.window.dilation, strict=True)
        )
        return [_phase(rows, columns)]
    down, across = layer.window.stride
    return [_phase(_reaching(layer, 0, y), _reaching(layer, 1, x)) for y in range(down) for x in range(across)]


def _phase(rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> Phase:
    return Phase(tuple(Tap(y, x, (i, j)) for y, i in rows for x, j in columns))


def _reaching(layer: Conv2d, axis: int, place: int) -> list[tuple[int, int]]:
    """(place in the input, tap) of the taps that reach a place of the output, by falling tap: rising places."""
    window = layer.window
    spread = [(place + window.pads[axis] - i * window.dilation[axis], i) for i in range(window.kernel[axis])]
    stride = window.stride[axis]
    return [(at // stride, i) for at, i in reversed(spread) if at % stride == 0]


def column_elements(layer: Conv2d) -> int:
    """Elements of the longest column, rounded up to a multiple of four."""
    return -(-max(len(phase.taps) for phase in phases(layer)) * layer.weights.shape[3] // 4) * 4


def scratch_bytes(layer: Conv2d) -> int:
    """A column, and the outputs of a group, as int16."""
    share = len(layer.weights) // layer.groups
    return 2 * (column_elements(layer) + -(-share // 4) * 4)


def fits(layer: Conv2d, variant: Variant, low: int, high: int) -> TapsLayout:
    """The smallest layout of ``pp_blocks.h`` that is exact for every group of a convolution; in variant ``thumb`` that
    of ``pp_quartets.h``.

    :param low: smallest input, or padding
    :param high: largest
    """
    if variant == "thumb":
        return "quartets"
    if layer.input.bits == 8:
        share = len(layer.weights) // layer.groups
        rows, groups = layer.weights.reshape(len(layer.weights), -1), range(0, len(layer.weights), share)
        layouts: tuple[layout_blocks.Layout, ...] = ("nibbles", "pairs")
        for layout in layouts:
            parts = (slice(first, first + share) for first in groups)
            if all(layout_blocks.fits(rows[part], layer.bias[part], low, high, layout) for part in parts):
                return layout
    return "bytes"


def group_rows(layer: Conv2d, phase: Phase) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Rows [outputs of the group, taps * depth], bias and multipliers of each group, over the taps of a phase.

    Taps that reach no output of the phase read the zero point, which the bias counts on: it is added there once.
    """
    share = len(layer.weights) // layer.groups
    places = [tap.weight for tap in phase.taps]
    for first in range(0, len(layer.weights), share):
        part = slice(first, first + share)
        weights = layer.weights[part]
        columns: list[Integers] = [weights[:, i, j, :] for i, j in places]
        rows = np.concatenate(columns, axis=1) if columns else np.zeros((share, 0), np.int64)
        left_out = weights.reshape(share, -1).sum(axis=1) - rows.sum(axis=1)
        yield rows, layer.bias[part] + layer.input.zero_point * left_out, layer.requantize.multiplier[part]


def group_blocks(layer: Conv2d, phase: Phase, layout: TapsLayout) -> Iterator[Words]:
    """The blocks of each group, over the taps of a phase; a phase without taps has columns of weights of zero."""
    for taps, bias, multiplier in group_rows(layer, phase):
        rows = taps if taps.shape[1] else np.zeros((len(taps), 4), np.int64)
        if layout == "quartets":
            yield pack_quartets(rows, bias, multiplier)
        else:
            yield layout_blocks.pack_blocks(rows, bias, multiplier, layout)


def pack_quartets(rows: Integers, bias: Integers, multiplier: Integers) -> Words:
    """Blocks of ``pp_quartets.h``.

    :param rows: [rows, inputs]
    :param bias: [rows]
    :param multiplier: [rows]
    """
    missing = -len(rows) % 4
    rows = np.pad(rows, ((0, missing), (0, -rows.shape[1] % 4)))
    parts = []
    for first in range(0, len(rows), 4):
        weights = np.ascontiguousarray(rows[first : first + 4].T & 0xFF, np.uint8).reshape(-1).view("<u4")
        ends = [np.pad(values, (0, missing))[first : first + 4] for values in (bias, multiplier)]
        parts += [ends[0], weights.astype(np.int64), ends[1]]
    return (np.concatenate(parts) & 0xFFFFFFFF).astype(np.uint32)
