"""The grid of weights that a tool has rounded and then stored as float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Reals

NEAR = 1e-4
"""Steps that a value may be off the grid: float32 holds 127 steps to about 1e-5."""


def found_grid(weights: NDArray[Any], axis: int) -> tuple[Integers, Reals] | None:
    """Integers of at most 8 bits and a scale per channel: ``scale * integers`` is the weights, as near as float32 is.

    Of the grids that fit, the coarsest: it stands for the same values.

    :param weights: real
    :param axis: of the channels
    :returns: integers of the weights' shape and scales [channels]; None where a channel lies on no such grid
    """
    rows = np.moveaxis(np.asarray(weights, np.float64), axis, 0)
    found = [_row(row.reshape(-1)) for row in rows]
    if any(each is None for each in found):
        return None
    integers, scales = zip(*(each for each in found if each is not None), strict=True)
    return np.moveaxis(np.array(integers).reshape(rows.shape), 0, axis), np.array(scales)


def _row(row: Reals) -> tuple[Integers, float] | None:
    largest = float(np.abs(row).max(initial=0.0))
    if largest == 0:
        return np.zeros(row.size, np.int64), 1.0
    if not np.isfinite(largest):
        return None
    steps = row * (np.arange(1, 129) / largest)[:, None]
    near = np.rint(steps)
    fits = (np.abs(steps - near).max(axis=1) < NEAR) & (near.max(axis=1) < 128)
    if not fits.any():
        return None
    integers = near[int(fits.argmax())]
    return integers.astype(np.int64), float(row @ integers / (integers @ integers))
