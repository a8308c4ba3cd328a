"""Integer least squares, the default: several starts, local search, and a search for each row's scale.

For every scale tried, rounding to nearest and GPTQ are both bettered by coordinate descent; each row
keeps its best few scales. At those, the K-best beam joins the starts, every one is bettered by
coordinate descent, and the best of them by pair moves. The scale is then refitted to its integers in
closed form, as long as that helps. Each row keeps the best it met, so it is never worse than any of its starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from policyport.core.semantics import Reals
from policyport.quantize.rounding.beam import beam
from policyport.quantize.rounding.coordinate import descend, descend_pairs
from policyport.quantize.rounding.gptq import gptq
from policyport.quantize.rounding.grids import as_float32, candidate_scales
from policyport.quantize.rounding.nearest import nearest
from policyport.quantize.rounding.problem import LayerProblem, Solution, solution

LARGEST_TILING = 4_000_000
"""Weights of a problem whose scales are tried side by side at once."""


@dataclass(frozen=True)
class LatticeSettings:
    """How much is tried."""

    width: int = 64
    """Partial choices that the beam keeps per row."""

    factors: int = 21
    """Scales tried per row, as factors on the min-max scale from ``lowest`` to ``highest``."""

    lowest: float = 0.3
    highest: float = 1.3
    finalists: int = 3
    """Scales of a row at which everything is tried."""

    refits: int = 4
    """Times that a scale is refitted to its integers, at the most."""

    pairs: bool = True
    """Whether moves of two integers at once follow those of one."""

    per_tensor: bool = False
    """One scale for all rows of the layer."""

    @classmethod
    def for_bits(cls, bits: int, *, per_tensor: bool = False) -> LatticeSettings:
        """What is worth its time at a width: at 8 bits little can be gained, at 2 the best scale may be large."""
        if bits == 8:
            return cls(factors=5, lowest=0.85, highest=1.05, finalists=1, refits=1, pairs=False, per_tensor=per_tensor)
        return cls(highest=1.6 if bits == 2 else 1.3, per_tensor=per_tensor)


Found = tuple[Reals, Reals, Reals]
"""Integers [G, R, D], scales [G, R], objective [G, R]."""


def lattice(
    problem: LayerProblem, settings: LatticeSettings | None = None, smallest_scales: Reals | None = None
) -> Solution:
    """Round a layer.

    :param smallest_scales: [G, R], what no scale may go below; None for no bound
    """
    settings = settings or LatticeSettings.for_bits(problem.bits)
    factors = np.linspace(settings.lowest, settings.highest, settings.factors)
    scales = _bounded(candidate_scales(problem, factors, per_tensor=settings.per_tensor), smallest_scales, settings)
    _, tried, cost = _over_scales(problem, scales, _quick)
    finalists = _cheapest(tried, cost, settings.finalists, settings)
    integers, tried, cost = _over_scales(problem, finalists, lambda p, s: _thorough(p, s, settings))
    first = np.argmin(_shared(cost, settings), axis=0)[None]
    integers = np.take_along_axis(integers, first[..., None], axis=0)[0]
    best = integers, np.take_along_axis(tried, first, axis=0)[0], np.take_along_axis(cost, first, axis=0)[0]
    if not settings.per_tensor:
        best = _refitted(problem, best, settings, smallest_scales)
    return solution(problem, best[0], best[1])


def best_per_row(problem: LayerProblem, scales: Reals, candidates: list[Reals]) -> Reals:
    """The candidate [G, R, D] with the least objective, row by row; the first of equal ones."""
    cost = np.stack([problem.objective(integers, scales) for integers in candidates])
    first = np.argmin(cost, axis=0)[None, ..., None]
    return np.take_along_axis(np.stack(candidates), first, axis=0)[0]


def _quick(problem: LayerProblem, scales: Reals) -> Reals:
    """Integers by the fast solvers."""
    starts = (nearest(problem.weights, scales, problem.bits), gptq(problem, scales))
    return best_per_row(problem, scales, [descend(problem, scales, start) for start in starts])


def _thorough(problem: LayerProblem, scales: Reals, settings: LatticeSettings) -> Reals:
    """Integers by every start and coordinate descent, the best of them by pair moves where the settings have these."""
    starts = (
        nearest(problem.weights, scales, problem.bits),
        gptq(problem, scales),
        beam(problem, scales, width=settings.width),
    )
    side_by_side = problem.tiled(len(starts)), np.tile(scales, (1, len(starts)))
    ends = descend(*side_by_side, np.concatenate(starts, axis=1))
    best = best_per_row(problem, scales, np.split(ends, len(starts), axis=1))
    return descend_pairs(problem, scales, best) if settings.pairs else best


def _over_scales(problem: LayerProblem, scales: Reals, solve) -> Found:  # type: ignore[no-untyped-def]
    """Solve under every scale of [F, G, R]: integers [F, G, R, D], the scales, objectives [F, G, R]."""
    at_once = max(1, LARGEST_TILING // problem.weights.size)
    integers, cost = [], []
    for first in range(0, len(scales), at_once):
        part = scales[first : first + at_once]
        count, groups, rows = part.shape
        wide, flat = problem.tiled(count), part.transpose(1, 0, 2).reshape(groups, -1)
        found = solve(wide, flat)
        integers.append(found.reshape(groups, count, rows, -1).transpose(1, 0, 2, 3))
        cost.append(wide.objective(found, flat).reshape(groups, count, rows).transpose(1, 0, 2))
    return np.concatenate(integers), scales, np.concatenate(cost)


def _cheapest(scales: Reals, cost: Reals, count: int, settings: LatticeSettings) -> Reals:
    """The ``count`` scales of least cost for each row, or for the layer: [count, G, R]."""
    order = np.argsort(_shared(cost, settings), axis=0, kind="stable")[:count]
    return np.take_along_axis(scales, order, axis=0)


def _shared(cost: Reals, settings: LatticeSettings) -> Reals:
    """Costs [F, G, R] by which scales are compared: the layer's sum where all rows share one."""
    if not settings.per_tensor:
        return cost
    return np.broadcast_to(cost.sum(axis=(1, 2), keepdims=True), cost.shape)


def _bounded(scales: Reals, smallest: Reals | None, settings: LatticeSettings) -> Reals:
    if smallest is None:
        return scales
    return np.maximum(scales, smallest.max() if settings.per_tensor else smallest)


def _refitted(problem: LayerProblem, found: Found, settings: LatticeSettings, smallest: Reals | None) -> Found:
    """Each row's scale moved to the optimum for its integers, and these found anew, as long as it helps."""
    integers, scales, cost = found
    for _ in range(settings.refits):
        pulled = integers @ problem.hessian
        size, along = np.sum(pulled * integers, axis=-1), np.sum(pulled * problem.target, axis=-1)
        usable = (size > 0) & (along > 0)
        trial = np.where(usable, along / np.where(size > 0, size, 1.0), scales)
        trial = as_float32(trial if smallest is None else np.maximum(trial, smallest))
        moved = best_per_row(problem, trial, [descend(problem, trial, integers), _quick(problem, trial)])
        if settings.pairs:
            moved = descend_pairs(problem, trial, moved)
        trial_cost = problem.objective(moved, trial)
        better = trial_cost < cost
        if not np.any(better):
            break
        integers = np.where(better[..., None], moved, integers)
        scales, cost = np.where(better, trial, scales), np.where(better, trial_cost, cost)
    return integers, scales, cost
