"""Local search on the integers: one coordinate at a time, then two at once. All rows move together.

Coordinate descent sets an integer to the best one while all others stay (QuantEase, Behdin et al. 2023).
Where no single one can be bettered, a pair still may: one integer moves by one step and the partner
that gains most moves with it. Both stop at a local optimum, and neither ever raises the objective.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Reals
from policyport.quantize.rounding.problem import LayerProblem

SWEEPS = 100
"""Passes over all coordinates at the most; a row that no pass moves is done."""

GAIN = 1e-9
"""Least gain of a pair move, as a share of what one step of the integer costs: what is less may be rounding error."""


class _Rows:
    """The rows still moving: integers [M, D], slope [M, D] (half the gradient), scale [M], curvature [M, D]."""

    def __init__(self, problem: LayerProblem, scales: Reals, integers: Reals) -> None:
        groups, rows, inputs = problem.target.shape
        self.low, self.high = problem.range
        self.hessian = problem.hessian
        error = integers * scales[..., None] - problem.target
        self.integers = np.array(integers, np.float64).reshape(-1, inputs)
        self.slope = (error @ problem.hessian).reshape(-1, inputs)
        self.scale = np.asarray(scales, np.float64).reshape(-1)
        self.group = np.repeat(np.arange(groups), rows)
        self.curvature = np.diagonal(problem.hessian, axis1=1, axis2=2)[self.group]
        self.widest = (np.abs(problem.hessian) * (1 - np.eye(inputs))).max(axis=2)[self.group]

    def part(self, chosen: NDArray[np.intp]) -> _Rows:
        """A copy of some of the rows."""
        copy = object.__new__(_Rows)
        copy.low, copy.high, copy.hessian = self.low, self.high, self.hessian
        for name in ("integers", "slope", "scale", "group", "curvature", "widest"):
            setattr(copy, name, getattr(self, name)[chosen])
        return copy

    def move(self, rows: NDArray[np.intp], column: NDArray[np.intp] | int, steps: Reals) -> None:
        """Add ``steps`` [len(rows)] to one integer of each of ``rows``."""
        self.integers[rows, column] += steps
        self.slope[rows] += (steps * self.scale[rows])[:, None] * self.pulls(rows, column)

    def pulls(self, rows: NDArray[np.intp], column: NDArray[np.intp] | int) -> Reals:
        """How a step of ``column`` moves the slopes of ``rows``: [len(rows), D], or [1, D] where it is the same."""
        if len(self.hessian) == 1 and isinstance(column, int):
            return self.hessian[0, column][None]
        return self.hessian[self.group[rows], column]


def descend(problem: LayerProblem, scales: Reals, start: Reals, *, sweeps: int = SWEEPS) -> Reals:
    """Coordinate descent from ``start`` [G, R, D]: integers (float64) that no single change betters.

    :param scales: [G, R]
    """
    return _searched(problem, scales, start, _sweep_single, sweeps)


def descend_pairs(problem: LayerProblem, scales: Reals, start: Reals, *, sweeps: int = SWEEPS) -> Reals:
    """2-opt: moves by one step of one or two integers at once, from ``start`` [G, R, D], until none betters a row.

    :param scales: [G, R]
    """
    return _searched(problem, scales, start, _sweep_pairs, sweeps)


def _searched(problem: LayerProblem, scales: Reals, start: Reals, sweep, sweeps: int) -> Reals:  # type: ignore[no-untyped-def]
    """Sweep until no row moves; a row that the sum of roundings made worse keeps its start."""
    every = _Rows(problem, scales, start)
    active = np.arange(len(every.scale))
    for _ in range(sweeps):
        rows = every.part(active)
        before = rows.integers.copy()
        sweep(rows)
        every.integers[active], every.slope[active] = rows.integers, rows.slope
        active = active[np.any(rows.integers != before, axis=1)]
        if not active.size:
            break
    found = every.integers.reshape(start.shape)
    worse = problem.objective(found, scales) > problem.objective(start, scales)
    return np.where(worse[..., None], start, found)


def _sweep_single(rows: _Rows) -> None:
    """Each integer once to its best value."""
    for column in range(rows.integers.shape[1]):
        here = rows.integers[:, column]
        best = np.rint(here - rows.slope[:, column] / (rows.curvature[:, column] * rows.scale))
        steps = np.minimum(np.maximum(best, rows.low), rows.high) - here
        moved = steps.nonzero()[0]
        if moved.size:
            rows.move(moved, column, steps[moved])


def _sweep_pairs(rows: _Rows) -> None:
    """Each integer one step up or down, with the partner that gains most, where both together gain."""
    for column in range(rows.integers.shape[1]):
        for step in (1.0, -1.0):
            limit = rows.high if step > 0 else rows.low
            own = rows.scale * (2 * step * rows.slope[:, column] + rows.scale * rows.curvature[:, column])
            # A partner gains at most twice the coupling where no single move gains anything.
            hopeful = (own < 2 * rows.scale**2 * rows.widest[:, column]) & (rows.integers[:, column] != limit)
            chosen = hopeful.nonzero()[0]
            if chosen.size:
                _pair(rows, chosen, column, step, own[chosen])


def _pair(rows: _Rows, chosen: NDArray[np.intp], column: int, step: float, own: Reals) -> None:
    """Move ``column`` of the ``chosen`` rows by ``step`` together with its best partner, where that gains."""
    scale = rows.scale[chosen]
    slope = rows.slope[chosen] + step * scale[:, None] * rows.pulls(chosen, column)
    integers = rows.integers[chosen]
    blocked = np.where(slope < 0, integers == rows.high, integers == rows.low)
    cost = scale[:, None] * rows.curvature[chosen] - 2 * np.abs(slope)
    cost[blocked] = np.inf
    cost[:, column] = np.inf
    partner = np.argmin(cost, axis=1)
    along = np.arange(len(chosen))
    total = own + scale * np.minimum(cost[along, partner], 0.0)
    gains = (total < -GAIN * scale**2 * rows.curvature[chosen, column]).nonzero()[0]
    if not gains.size:
        return
    rows.move(chosen[gains], column, np.full(gains.size, step))
    together = gains[cost[gains, partner[gains]] < 0]
    rows.move(chosen[together], partner[together], -np.sign(slope[together, partner[together]]))
