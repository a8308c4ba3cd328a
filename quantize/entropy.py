"""The range that loses the least information: Kullback-Leibler divergence of a histogram from its coarse one.

Migacz 2017, "8-bit inference with TensorRT", on a histogram of both signs as onnxruntime's entropy
calibrator has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_BINS = 2047
"""Bins of the histogram, an odd number: the middle one is around zero."""

VALUES_PER_BIN = 16
"""Values that there must be for each bin: a histogram that is mostly empty tells nothing of a distribution."""

LEVELS = 128
"""Levels that the coarse histogram has."""

FLOOR = 1e-4
"""What a bin counts at least, so that no logarithm is of zero."""


def entropy_limit(values: NDArray[np.floating[Any]], levels: int = LEVELS) -> float:
    """The magnitude at which to clip ``values`` of any shape; their largest where they are too few for a histogram."""
    reach = float(np.abs(values).max())
    bins = min(LARGEST_BINS, values.size // VALUES_PER_BIN // 2 * 2 - 1)
    if reach == 0 or bins <= levels:
        return reach
    counts, edges = np.histogram(values, bins, (-reach, reach))
    middle = bins // 2
    halves = range(levels // 2, middle + 1)
    divergences = [divergence(counts, middle - half, middle + half + 1, levels) for half in halves]
    best = halves[int(np.argmin(divergences))]
    return float(edges[middle + best + 1])


def divergence(counts: NDArray[np.int64], start: int, end: int, levels: int) -> float:
    """Divergence of the clipped histogram from what ``levels`` levels can tell of it.

    :param counts: [bins]; those outside [start, end) are clipped onto the ends
    """
    inside = counts[start:end].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[end:].sum()
    seen = clipped != 0
    width = len(inside) // levels
    level = np.minimum(np.arange(len(inside)) // width, levels - 1)
    total, kinds = np.bincount(level, inside, levels), np.bincount(level, seen, levels)
    coarse = np.where(seen, (total / np.maximum(kinds, 1))[level], 0.0)
    p, q = (np.maximum(x, FLOOR) / np.maximum(x, FLOOR).sum() for x in (clipped, coarse))
    return float(np.sum(p * np.log(p / q)))
