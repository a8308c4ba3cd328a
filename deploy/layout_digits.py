"""Weights of 3 and 2 bits as digits of halfwords, in the order in which ``pp_digits`` reads them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layout_blocks import Words, accumulator_range, halves

DigitLayout = Literal["octals", "crumbs"]
"""``octals``: 3-bit weights, five rows in a halfword. ``crumbs``: 2-bit weights, eight rows in a halfword."""

BITS: dict[DigitLayout, int] = {"octals": 3, "crumbs": 2}
ROWS: dict[DigitLayout, int] = {"octals": 5, "crumbs": 8}


def block_starts(outputs: int, layout: DigitLayout) -> list[int]:
    """First row of each block; the last block covers the last rows, even if some were covered before."""
    rows = ROWS[layout]
    return [min(start, outputs - rows) for start in range(0, outputs, rows)]


def fits(weights: Integers, bias: Integers, low: int, high: int, layout: DigitLayout) -> bool:
    """Whether a layout holds a layer and is exact: weights in range, enough rows, and each accumulator, moved to the
    left as its digit lies, inside int32. Sums wrap on the way; what counts is where they end.

    :param weights: [outputs, inputs]
    :param bias: [outputs], the input's zero point folded in
    :param low: smallest input
    :param high: largest
    """
    bits, rows = BITS[layout], ROWS[layout]
    half = 2 ** (bits - 1)
    if len(weights) < rows or weights.min() < -half or weights.max() >= half:
        return False
    lowest, highest = accumulator_range(weights, bias, low, high)
    # A row may lie at any digit: at the highest one where blocks overlap.
    return max(-int(lowest.min()), int(highest.max())) < 2 ** (31 - bits * (rows - 1))


def pack_digits(weights: Integers, bias: Integers, multiplier: Integers, layout: DigitLayout) -> Words:
    """[blocks * words per block]: see ``pp_digits.h``.

    :param weights: [outputs, inputs], inputs padded here to a multiple of four by weights of zero
    :param bias: [outputs], the input's zero point folded in
    :param multiplier: [outputs]
    """
    bits, rows = BITS[layout], ROWS[layout]
    places = bits * np.arange(rows)
    added = np.where(np.arange(rows) < rows - 1, 2 ** (bits - 1), 0)
    weights = np.pad(weights, ((0, 0), (0, -weights.shape[1] % 4)))
    parts = []
    for start in block_starts(len(weights), layout):
        block = slice(start, start + rows)
        shared = ((weights[block] + added[:, None]) << places[:, None]).sum(axis=0)
        parts += [np.cumsum(bias[block] << places), halves(shared[0::2], shared[1::2]), multiplier[block]]
    return (np.concatenate(parts) & 0xFFFFFFFF).astype(np.uint32)
