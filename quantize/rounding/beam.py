"""K-best search: the integers one by one, the ``width`` best partial choices kept (a beam).

With H = U^T U the objective is a sum over levels, ``sum_l (scale U_ll (z_l - c_l))^2``, in which c_l depends
on the integers of later levels alone: the last is chosen first (Schnorr and Euchner 1994). Integers of
large curvature come first; what remains makes their error good. Width 1 is Babai's nearest plane, and a
width of all combinations is exhaustive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Reals
from policyport.quantize.rounding.gptq import permuted, restored
from policyport.quantize.rounding.problem import LayerProblem

BLOCK = 16
"""Levels between two updates of all that is still to be chosen."""

LARGEST_STATE = 8_000_000
"""Numbers that the partial choices of the rows searched at once may have."""


def beam(problem: LayerProblem, scales: Reals, *, width: int = 64, children: int = 6) -> Reals:
    """Integers [G, R, D] (float64) for the problem's target, of the best path found.

    :param scales: [G, R]
    :param width: partial choices kept per row
    :param children: how many integers nearest to a level's centre are tried for each partial choice
    """
    low, high = problem.range
    order = np.argsort(np.diagonal(problem.hessian, axis1=1, axis2=2), axis=1, kind="stable")
    factor = unit_factor(permuted(problem.hessian, order))
    centre = np.take_along_axis(problem.target, order[:, None, :], axis=2) / scales[..., None]
    found = np.empty_like(centre)
    groups, rows, inputs = centre.shape
    at_once = max(1, LARGEST_STATE // (groups * width * inputs))
    for first in range(0, rows, at_once):
        part = slice(first, first + at_once)
        found[:, part] = _Beam(centre[:, part], factor, low, high, width, children).best()
    return restored(found, order)


def unit_factor(hessian: Reals) -> tuple[Reals, Reals]:
    """``U / diag(U)`` [G, D, D] and ``diag(U)^2`` [G, D] of the upper U with ``U^T U = H``."""
    upper = np.asarray(np.linalg.cholesky(hessian), np.float64).transpose(0, 2, 1)
    diagonal: Reals = np.einsum("gdd->gd", upper)
    return upper / diagonal[:, :, None], np.square(diagonal)


class _Beam:
    """The partial choices of some rows: residual ``centre - z`` [G, R, K, D], known from the last level on."""

    def __init__(
        self, centre: Reals, factor: tuple[Reals, Reals], low: int, high: int, width: int, children: int
    ) -> None:
        self.centre = centre
        self.unit, self.weight = factor
        self.low, self.high, self.width = low, high, width
        self.children = min(children, high - low + 1)
        self.cost = np.zeros((*centre.shape[:2], 1))

    def best(self) -> Reals:
        """The integers [G, R, D] of the cheapest path."""
        groups, rows, inputs = self.centre.shape
        chosen = np.zeros((groups, rows, 1, inputs))
        for end in range(inputs, 0, -BLOCK):
            start = max(0, end - BLOCK)
            ancestor, block = self._block(chosen, start, end)
            chosen = _followed(chosen, ancestor)
            chosen[..., start:end] = block
        cheapest = np.argmin(self.cost, axis=2)[..., None, None]
        return np.take_along_axis(chosen, cheapest, axis=2)[:, :, 0]

    def _block(self, chosen: Reals, start: int, end: int) -> tuple[NDArray[np.intp], Reals]:
        """Choose levels [start, end): each path's place in ``chosen``, and its integers [G, R, K, end - start]."""
        later = self.centre[:, :, None, end:] - chosen[..., end:]
        paths = later.reshape(len(later), later.shape[1] * later.shape[2], later.shape[3])
        drift = (paths @ self.unit[:, start:end, end:].transpose(0, 2, 1)).reshape(*chosen.shape[:3], end - start)
        ancestor = np.broadcast_to(np.arange(chosen.shape[2]), chosen.shape[:3])
        integers = np.zeros(drift.shape)
        for level in range(end - 1, start - 1, -1):
            here = level - start
            centre = self.centre[:, :, None, level] + drift[..., here]
            parent, choice = self._step(centre, level)
            ancestor = np.take_along_axis(ancestor, parent, axis=2)
            integers = _followed(integers, parent)
            drift = _followed(drift[..., :here], parent)
            integers[..., here] = choice
            residual = self.centre[:, :, None, level] - choice
            drift += residual[..., None] * self.unit[:, None, None, start:level, level]
        return ancestor, integers

    def _step(self, centre: Reals, level: int) -> tuple[NDArray[np.intp], Reals]:
        """Extend every path by its nearest integers and keep the cheapest: (parents, integers), each [G, R, K]."""
        first = np.clip(np.rint(centre - (self.children - 1) / 2), self.low, self.high - self.children + 1)
        tried = first[..., None] + np.arange(self.children)
        cost = self.cost[..., None] + self.weight[:, None, None, level, None] * (tried - centre[..., None]) ** 2
        cost, tried = _flat(cost), _flat(tried)
        if cost.shape[2] > self.width:
            kept = np.argpartition(cost, self.width - 1, axis=2)[..., : self.width]
        else:
            kept = np.broadcast_to(np.arange(cost.shape[2]), cost.shape)
        self.cost = np.take_along_axis(cost, kept, axis=2)
        return kept // self.children, np.take_along_axis(tried, kept, axis=2)


def _followed(values: Reals, parent: NDArray[np.intp]) -> Reals:
    """What the path of each parent [G, R, K] has: of [G, R, P, L], [G, R, K, L]."""
    groups, rows, paths, length = values.shape
    first = np.arange(0, groups * rows * paths, paths).reshape(groups, rows, 1)
    return values.reshape(groups * rows * paths, length)[first + parent]


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """[G, R, K, C] to [G, R, K * C]."""
    return values.reshape(*values.shape[:2], -1)
