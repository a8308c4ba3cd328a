"""Blocks of four rows as the DSP kernels read them: several rows in each halfword, start values, multipliers.

A block is one run of 32-bit words: four start values, the weights, four multipliers. Rows are padded with
zeros to a multiple of four. The kernels' headers (``pp_blocks.h``, ``pp_conv.h``) say the same.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers

Layout = Literal["pairs", "nibbles", "bytes", "halfwords"]
"""``pairs``: two rows in each halfword, 256 * a + b; one byte per weight, 8-bit inputs.
``nibbles``: four rows of at most four bits in each halfword; half a byte per weight, 8-bit inputs.
``bytes``: four weights of one row in each word; one byte per weight, any input.
``halfwords``: two weights of one row in each word; two bytes per weight, fewest instructions."""

Words = NDArray[np.uint32]

DIGIT_BITS = {"pairs": (8, 0), "nibbles": (0, 4, 8, 12)}
"""How far to the left each of the rows that share a halfword lies in it, in bits."""


def accumulator_range(rows: Integers, bias: Integers, low: int, high: int) -> tuple[Integers, Integers]:
    """Smallest and largest accumulator of each row, for inputs in [low, high].

    :param rows: [rows, inputs]
    :param bias: [rows]
    :returns: two arrays [rows]
    """
    weights = np.asarray(rows, np.int64)
    up, down = np.maximum(weights, 0).sum(axis=1), np.minimum(weights, 0).sum(axis=1)
    return bias + up * low + down * high, bias + up * high + down * low


def fits(rows: Integers, bias: Integers, low: int, high: int, layout: Layout) -> bool:
    """Whether a layout is exact for these rows: weights in range, and each accumulator, moved to the left as its row
    lies in the halfword, inside int32. Sums wrap on the way; what counts is where they end.

    :param rows: [rows, inputs]
    :param bias: [rows], the input's zero point folded in
    :param low: smallest input
    :param high: largest
    """
    if layout not in DIGIT_BITS:
        return True
    largest = {"pairs": 127, "nibbles": 7}[layout]
    smallest = {"pairs": -127, "nibbles": -8}[layout]
    if rows.min(initial=0) < smallest or rows.max(initial=0) > largest:
        return False
    bits = np.resize(DIGIT_BITS[layout], len(rows))
    lowest, highest = accumulator_range(rows, bias, low, high)
    return bool(np.all(np.maximum(np.abs(lowest), np.abs(highest)) < 2.0 ** (31 - bits)))


def pack_blocks(rows: Integers, bias: Integers, multiplier: Integers, layout: Layout) -> Words:
    """All blocks of a layer, [blocks * words per block].

    :param rows: [rows, inputs], inputs in the order the kernel meets them, padded here to a multiple of four
    :param bias: [rows]
    :param multiplier: [rows]
    """
    rows = _padded(rows, 4, 4)
    bias, multiplier = (_padded(v[:, None], 4, 1)[:, 0] for v in (bias, multiplier))
    blocks = [
        part
        for row in range(0, len(rows), 4)
        for part in (
            _start(bias[row : row + 4], layout),
            _PACKERS[layout](rows[row : row + 4]),
            multiplier[row : row + 4],
        )
    ]
    return (np.concatenate(blocks) & 0xFFFFFFFF).astype(np.uint32)


def words_per_block(inputs: int, layout: Layout) -> int:
    """Words of a block over ``inputs`` (any number: padded to a multiple of four)."""
    groups = -(-inputs // 4)
    return 8 + groups * {"pairs": 4, "nibbles": 2, "bytes": 4, "halfwords": 8}[layout]


def _padded(values: Integers, rows: int, columns: int) -> Integers:
    return np.pad(values, ((0, -values.shape[0] % rows), (0, -values.shape[1] % columns)))


def _start(bias: Integers, layout: Layout) -> Integers:
    """Four start values: what the sums that share a halfword begin with."""
    a, b, c, d = (int(value) for value in bias)
    if layout == "pairs":
        return np.array([256 * a + b, b, 256 * c + d, d], np.int64)
    if layout == "nibbles":
        return np.cumsum(np.array([a, 16 * b, 256 * c, 4096 * d], np.int64))
    return bias


def halves(low: Integers, high: Integers) -> Integers:
    """Two signed halfwords in a word."""
    return (low & 0xFFFF) | ((high & 0xFFFF) << 16)


def _pack_pairs(rows: Integers) -> Integers:
    """[4, inputs]: per four inputs, the words of rows (0, 1) and (2, 3) for the first two, then the last two."""
    pairs = 256 * rows[0::2] + rows[1::2]
    return halves(pairs[:, 0::2], pairs[:, 1::2]).T.reshape(-1)


def _pack_nibbles(rows: Integers) -> Integers:
    """[4, inputs]: per two inputs a word of all four rows; all but the highest digit are stored with 8 added."""
    digits = rows + np.array([8, 8, 8, 0])[:, None]
    shared = (digits << np.array(DIGIT_BITS["nibbles"])[:, None]).sum(axis=0)
    return halves(shared[0::2], shared[1::2])


def _pack_bytes(rows: Integers) -> Integers:
    """[4, inputs]: per four inputs a word of each row; SXTB16 takes bytes 0 and 2, rotated by 8 it takes 1 and 3."""
    a, b, c, d = (rows[:, i::4] & 0xFF for i in range(4))
    return (a | (c << 8) | (b << 16) | (d << 24)).T.reshape(-1)


def _pack_halfwords(rows: Integers) -> Integers:
    """[4, inputs]: per two inputs a word of each row."""
    return halves(rows[:, 0::2], rows[:, 1::2]).T.reshape(-1)


_PACKERS = {"pairs": _pack_pairs, "nibbles": _pack_nibbles, "bytes": _pack_bytes, "halfwords": _pack_halfwords}
