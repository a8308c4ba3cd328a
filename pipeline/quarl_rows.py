"""What the cells of a study add up to: a row for each group of agents, method and width, and each agent's weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.hil.robust import Interval, interquartile_mean, mean, stratified
from policyport.hil.statistics import Equivalence, equivalence
from policyport.pipeline.quarl_agents import StudyAgent
from policyport.pipeline.quarl_cell import CellResult
from policyport.pipeline.quarl_methods import FLOAT
from policyport.pipeline.quarl_plan import Plan
from policyport.quantize.source import open_source

BINS = 61

ACTIVATIONS = " int"
"""Behind the name of a method whose hidden activations have another width than 8 bits, and before that width."""


@dataclass(frozen=True)
class Weights:
    """The distribution of all weights of a group's first agent, biases left out."""

    group: str
    count: int
    low: float
    high: float
    deviation: float
    kurtosis: float
    """Of Pearson: 3 for a normal distribution."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A group of agents under one method at one width."""

    group: str
    method: str
    """With :data:`ACTIVATIONS` and a width behind it where it has that."""

    bits: int
    runs: int
    """Agents, each of its own training."""

    episodes: int
    """Of all of them."""

    mean: Interval
    middle: Interval
    """Interquartile mean."""

    relative_error: float | None
    """(float32 - quantized) / |float32| of the means, as in the paper; None where float32's mean is 0."""

    agreement: float
    equivalence: Equivalence
    success_rate: float | None = None
    """Share of the episodes that were a success; None where the environment does not say."""


@dataclass(frozen=True)
class Study:
    """All figures."""

    rows: tuple[Row, ...]
    weights: tuple[Weights, ...]
    plans: Mapping[str, Plan]
    """By group, as stated before anything quantized was played."""

    @property
    def groups(self) -> tuple[str, ...]:
        """In order."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    @property
    def methods(self) -> tuple[str, ...]:
        """In order, float32 left out."""
        return tuple(dict.fromkeys(row.method for row in self.rows if row.method != FLOAT))

    def row(self, group: str, method: str, bits: int) -> Row | None:
        """The row of that cell, where there is one."""
        same = (row for row in self.rows if (row.group, row.method, row.bits) == (group, method, bits))
        return next(same, None)

    def span(self, group: str) -> float:
        """From random actions' mean return to float32's, in units of return."""
        plan = self.plans[group]
        return abs(plan.float32 - plan.by_chance)

    def lowest_equivalent(self, group: str, method: str) -> int | None:
        """The smallest width at which it, and every wider one measured, is equivalent to float32."""
        return self._lowest(group, method, lambda row: row.equivalence.equivalent)

    def lowest_no_worse(self, group: str, method: str) -> int | None:
        """Likewise of what is no worse than float32, and perhaps better."""
        return self._lowest(group, method, lambda row: row.equivalence.no_worse)

    def _lowest(self, group: str, method: str, holds: Callable[[Row], bool]) -> int | None:
        mine = [row for row in self.rows if row.group == group and row.method == method]
        held = itertools.takewhile(holds, sorted(mine, key=lambda row: -row.bits))
        return min((row.bits for row in held), default=None)


def study_of(agents: Sequence[StudyAgent], results: Sequence[CellResult], plans: Mapping[str, Plan]) -> Study:
    """Sum up.

    A group has a row where each of its agents has the cell; one without float32's has none.

    :param results: of cells
    :param plans: by group
    """
    by_agent = {(result.agent, result.method, result.bits): result for result in results}
    groups: dict[str, list[StudyAgent]] = {}
    for agent in agents:
        groups.setdefault(agent.group, []).append(agent)
    rows, weights = [], []
    for group, members in groups.items():
        names = [agent.name for agent in members]
        keys = dict.fromkeys((result.method, result.bits) for result in results if result.agent == names[0])
        keys = {key: None for key in keys if all((name, *key) in by_agent for name in names)}
        if (FLOAT, 32) not in keys:
            continue
        margin = plans[group].margin.value
        rows += [_row(group, members, by_agent, method, bits, margin) for method, bits in keys]
        weights.append(_weights(group, members[0]))
    return Study(tuple(rows), tuple(weights), plans)


def _row(
    group: str,
    members: Sequence[StudyAgent],
    by_agent: dict[tuple[str, str, int], CellResult],
    method: str,
    bits: int,
    margin: float,
) -> Row:
    cells = [by_agent[agent.name, method, bits] for agent in members]
    ours = [np.array(cell.returns) for cell in cells]
    theirs = [np.array(by_agent[agent.name, FLOAT, 32].returns) for agent in members]
    exact = float(np.concatenate(theirs).mean())
    average = stratified(ours, mean)
    return Row(
        group,
        method,
        bits,
        len(members),
        sum(map(len, ours)),
        average,
        stratified(ours, interquartile_mean),
        (exact - average.value) / abs(exact) if exact else None,
        float(np.mean([cell.agreement for cell in cells])),
        equivalence(np.concatenate(ours), np.concatenate(theirs), margin),
        _success(cells),
    )


def _success(cells: Sequence[CellResult]) -> float | None:
    """Over agents that play as many episodes each."""
    known = [cell.success_rate for cell in cells if cell.success_rate is not None]
    return float(np.mean(known)) if known else None


def _weights(group: str, agent: StudyAgent) -> Weights:
    graph = open_source(agent.artifact).graph
    values: NDArray[np.float64] = np.concatenate([node.weights.ravel() for node in graph.weighted]).astype(np.float64)
    centred = values - values.mean()
    variance = float(np.mean(centred**2))
    counts, edges = np.histogram(values, bins=BINS)
    return Weights(
        group,
        len(values),
        float(values.min()),
        float(values.max()),
        variance**0.5,
        float(np.mean(centred**4)) / variance**2 if variance else 0.0,
        tuple(edges.tolist()),
        tuple(counts.tolist()),
    )
