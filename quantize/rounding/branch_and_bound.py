"""Exact optimum of single rows: depth-first branch and bound on the Cholesky factor, with a limit of nodes.

The sum over the levels chosen so far never shrinks, so a partial choice that costs as much as the best
whole one is dropped (Schnorr and Euchner 1994). Nodes are expanded many at a time, the deepest first.
Where the limit ends the search, the least cost among the open nodes still is a proven lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Reals
from policyport.quantize.rounding.beam import unit_factor
from policyport.quantize.rounding.gptq import permuted, restored
from policyport.quantize.rounding.problem import LayerProblem

BATCH = 2048
"""Partial choices expanded at once."""

NODE_LIMIT = 2_000_000
"""Default of nodes tried per row."""

SLACK = 1e-9
"""Share of the objective that counts as equal: sums are made in two orders."""


@dataclass(frozen=True)
class Proof:
    """What was proven of each row."""

    integers: Integers
    """[G, R, D], never worse than those given."""

    objective: Reals
    """[G, R], of ``integers``."""

    lower_bound: Reals
    """[G, R], which no integers of the range can go below."""

    nodes: Integers
    """[G, R], integers tried."""

    @property
    def gap(self) -> Reals:
        """[G, R], the share of the objective that an optimum could save at the most; 0 is a proven optimum."""
        positive = np.where(self.objective > 0, self.objective, 1.0)
        return np.maximum(self.objective - self.lower_bound, 0.0) / positive

    @property
    def proven(self) -> NDArray[np.bool_]:
        """[G, R] bool, whether ``integers`` are an optimum."""
        return self.gap <= SLACK


def prove(problem: LayerProblem, scales: Reals, start: Reals, *, node_limit: int = NODE_LIMIT) -> Proof:
    """Search every row of ``start`` [G, R, D] for better integers, until none are left or ``node_limit`` is reached.

    :param scales: [G, R]
    """
    order = np.argsort(np.diagonal(problem.hessian, axis1=1, axis2=2), axis=1, kind="stable")
    unit, weight = unit_factor(permuted(problem.hessian, order))
    centre = np.take_along_axis(problem.target, order[:, None, :], axis=2) / scales[..., None]
    found = np.take_along_axis(np.asarray(start, np.float64), order[:, None, :], axis=2)
    given = problem.objective(start, scales)
    lower, nodes = given.copy(), np.zeros(given.shape, np.int64)
    low, high = problem.range
    for group, row in np.ndindex(*given.shape):
        square = float(scales[group, row]) ** 2
        search = _Search(unit[group], weight[group], centre[group, row], low, high)
        better = search.run(float(given[group, row]) / square, node_limit)
        if better is not None:
            found[group, row] = better
        lower[group, row], nodes[group, row] = search.lower_bound * square, search.nodes
    integers = restored(found, order).astype(np.int64)
    objective = problem.objective(integers, scales)
    return Proof(integers, objective, np.minimum(lower, objective), nodes)


@dataclass(frozen=True)
class _Nodes:
    """Partial choices of equal depth: cost [n], integers [n, D], known from the node's level on."""

    cost: Reals
    integers: Reals

    def where(self, chosen: NDArray[Any]) -> _Nodes:
        """Some of the nodes, by mask or by index."""
        return _Nodes(self.cost[chosen], self.integers[chosen])


class _Search:
    """The search of one row."""

    def __init__(self, unit: Reals, weight: Reals, centre: Reals, low: int, high: int) -> None:
        self.unit, self.weight, self.centre = unit, weight, centre
        self.values = np.arange(low, high + 1, dtype=np.float64)
        self.nodes = 0
        self.lower_bound = 0.0

    def run(self, incumbent: float, node_limit: int) -> Reals | None:
        """Better integers [D] than the incumbent's cost, or None; sets ``lower_bound`` and ``nodes``."""
        inputs = len(self.centre)
        best = None
        open_nodes: dict[int, list[_Nodes]] = {inputs - 1: [_Nodes(np.zeros(1), np.zeros((1, inputs)))]}
        while open_nodes and self.nodes < node_limit:
            level = min(open_nodes)
            children = self._children(self._taken(open_nodes, level), level)
            self.nodes += len(children.cost)
            children = children.where(children.cost < incumbent * (1 - SLACK))
            if not children.cost.size:
                continue
            if level == 0:
                cheapest = int(np.argmin(children.cost))
                incumbent, best = float(children.cost[cheapest]), children.integers[cheapest]
                self._prune(open_nodes, incumbent)
            else:
                open_nodes.setdefault(level - 1, []).append(children.where(np.argsort(children.cost)))
        left = [float(nodes.cost.min()) for stack in open_nodes.values() for nodes in stack]
        self.lower_bound = min([incumbent, *left])
        return best

    @staticmethod
    def _taken(open_nodes: dict[int, list[_Nodes]], level: int) -> _Nodes:
        """Take the cheapest of the newest nodes of a level off the open ones."""
        stack = open_nodes[level]
        nodes = stack.pop()
        if len(nodes.cost) > BATCH:
            stack.append(nodes.where(np.arange(BATCH, len(nodes.cost))))
            nodes = nodes.where(np.arange(BATCH))
        if not stack:
            del open_nodes[level]
        return nodes

    @staticmethod
    def _prune(open_nodes: dict[int, list[_Nodes]], incumbent: float) -> None:
        """Drop what cannot better the incumbent any more."""
        for level, stack in list(open_nodes.items()):
            kept = [nodes.where(nodes.cost < incumbent * (1 - SLACK)) for nodes in stack]
            kept = [nodes for nodes in kept if nodes.cost.size]
            if kept:
                open_nodes[level] = kept
            else:
                del open_nodes[level]

    def _children(self, nodes: _Nodes, level: int) -> _Nodes:
        """Every integer of the range at ``level`` behind every node."""
        later = self.centre[level + 1 :] - nodes.integers[:, level + 1 :]
        centre = self.centre[level] + later @ self.unit[level, level + 1 :]
        cost = nodes.cost[:, None] + self.weight[level] * (self.values - centre[:, None]) ** 2
        integers = np.repeat(nodes.integers, len(self.values), axis=0)
        integers[:, level] = np.tile(self.values, len(nodes.cost))
        return _Nodes(cost.reshape(-1), integers)
