"""Shares a budget of flash, RAM and instructions out among the layers of a network: a multiple-choice knapsack.

Every layer gets one width of weights and reads an input of one width, 8 or 16 bits; layers that read tensors of one
group share the latter. Least is the noise at the network's output, taken as the sum of what each choice adds alone. The
problem is a mixed-integer program of binary variables, solved to its proven optimum by HiGHS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError
from policyport.quantize.budget import Budget
from policyport.quantize.cost import Cost

Widths = Mapping[str, int]

RamOf = Callable[[Widths], int]
"""RAM in bytes for a width of each group. It must not fall when a width grows."""

Resource = Literal["flash_bytes", "instructions"]
RESOURCES: tuple[Resource, ...] = ("flash_bytes", "instructions")

FRONT_STEPS = 100
"""Into how many budgets at the most the way from the dearest choice to the cheapest is cut for a front."""


@dataclass(frozen=True)
class Option:
    """One way of computing a layer."""

    layer: str
    weight_bits: int
    input_bits: int
    noise: float
    """What its weights add at the output: a sum of squares."""

    cost: Cost


@dataclass(frozen=True)
class Width:
    """One width of a group's activations."""

    noise: float
    """What it adds at the output: a sum of squares."""

    cost: Cost = field(default_factory=Cost)
    """Of writing the activations, beside what the layers that read them cost."""


@dataclass(frozen=True)
class Problem:
    """What may be chosen, and what it costs."""

    options: tuple[Option, ...]
    """Of all layers."""

    reads: Mapping[str, str]
    """Layer to the group that its input belongs to."""

    groups: Mapping[str, Mapping[int, Width]]
    """Group to its possible widths."""

    ram: RamOf
    noise: float = 0.0
    """At the output, whatever is chosen."""

    cost: Cost = field(default_factory=Cost)
    """Of all else."""

    def assess(self, weights: Widths, activations: Widths) -> Allocation:
        """What a choice costs, and what noise is expected of it."""
        chosen = [o for o in self.options if (o.weight_bits, o.input_bits) == self._asked(o, weights, activations)]
        widths = [self.groups[name][bits] for name, bits in activations.items()]
        noise = self.noise + sum(option.noise for option in chosen) + sum(width.noise for width in widths)
        cost = sum((width.cost for width in widths), sum((option.cost for option in chosen), self.cost))
        return Allocation(dict(weights), dict(activations), noise, cost)

    def _asked(self, option: Option, weights: Widths, activations: Widths) -> tuple[int, int]:
        return weights[option.layer], activations[self.reads[option.layer]]


@dataclass(frozen=True)
class Allocation:
    """A width for everything."""

    weight_bits: Widths
    """By layer."""

    activation_bits: Widths
    """By group."""

    noise: float
    """At the output, as predicted: a sum of squares."""

    cost: Cost


def allocate(problem: Problem, budget: Budget) -> Allocation:
    """The choice of least noise within a budget.

    :raises ConfigError: none is within it; the least possible is named
    """
    search = _Search(problem, budget)
    found = search.least("noise", budget)
    if found is None:
        raise search.infeasible()
    return found


def front(problem: Problem, budget: Budget, resource: Resource) -> list[Allocation]:
    """The least noise for each of a number of budgets of one resource, the others limited as in ``budget``.

    From the cheapest choice to that beyond which more buys nothing; none is bettered in both by another.
    """
    search = _Search(problem, budget)
    others = Budget(**{**vars(budget), resource: None})
    cheapest, best = search.least(resource, others), search.least("noise", others)
    if cheapest is None or best is None:
        return []
    lowest, highest = getattr(cheapest.cost, resource), getattr(best.cost, resource)
    step = max(1, (highest - lowest) // FRONT_STEPS)
    found: list[Allocation] = []
    limit = highest
    while limit >= lowest:
        point = search.least("noise", Budget(**{**vars(others), resource: limit}))
        assert point is not None  # the cheapest is one
        cost = getattr(point.cost, resource)
        if found and point.noise <= found[-1].noise:
            found.pop()
        found.append(point)
        limit = max(lowest, cost - step) if cost > lowest else lowest - 1
    return found[::-1]


class _Search:
    """The mixed-integer program; what is learned of RAM is kept from one solution to the next."""

    def __init__(self, problem: Problem, budget: Budget) -> None:
        self._problem = problem
        self._budget = budget
        self._wide = [name for name, widths in problem.groups.items() if set(widths) == {8, 16}]
        self._too_much: list[frozenset[str]] = []
        """Groups that cannot have 16 bits together: no RAM for them."""

    def least(self, aim: Resource | Literal["noise"], budget: Budget) -> Allocation | None:
        """The choice of the least noise, or of a resource, within a budget; None where there is none."""
        while True:
            found = self._solve(aim, budget)
            if found is None or self._fits_ram(found, budget):
                return found

    def infeasible(self) -> ConfigError:
        """What the budget lacks."""
        limits, lacking, least = self._budget, [], []
        narrow = {name: min(widths) for name, widths in self._problem.groups.items()}
        alone = {"ram_bytes": self._problem.ram(narrow)}
        for resource in RESOURCES:
            found = self.least(resource, Budget())
            assert found is not None  # without limits something is possible
            alone[resource] = getattr(found.cost, resource)
        for name, value in alone.items():
            limit = getattr(limits, name)
            if limit is not None and limit < value:
                lacking.append(f"{_words(name)} {limit:,}")
                least.append(f"{_words(name)} {value:,}")
        if not lacking:
            return self._together()
        return ConfigError(
            "no choice of widths is within the budget",
            where="[quantize]",
            expected="at least " + ", ".join(least),
            got=", ".join(lacking),
            cure="allow more, or take a smaller network",
        )

    def _together(self) -> ConfigError:
        """Each limit can be kept, but not all of them."""
        asked = {name: value for name, value in vars(self._budget).items() if value is not None}
        least = []
        for resource in RESOURCES:
            found = (
                self.least(resource, Budget(**{**vars(self._budget), resource: None})) if resource in asked else None
            )
            least += [] if found is None else [f"{_words(resource)} {getattr(found.cost, resource):,}"]
        return ConfigError(
            "no choice of widths is within all limits of the budget together",
            where="[quantize]",
            expected=f"at least {' or '.join(least)} beside the others" if least else None,
            got=", ".join(f"{_words(name)} {value:,}" for name, value in asked.items()),
            cure="allow more of one of them, or take a smaller network",
        )

    def _solve(self, aim: Resource | Literal["noise"], budget: Budget) -> Allocation | None:
        from scipy.optimize import Bounds, LinearConstraint, milp

        values = self._values[aim]
        scale = float(np.abs(values).max()) or 1.0
        constraints = [LinearConstraint(self._structure[0], *[self._structure[1]] * 2)]
        for resource in RESOURCES:
            limit = getattr(budget, resource)
            if limit is not None:
                left = limit - getattr(self._always, resource)
                constraints.append(LinearConstraint(self._values[resource][None], -np.inf, left))
        if budget.ram_bytes is not None and self._too_much:
            rows, most = self._ram_rows()
            constraints.append(LinearConstraint(rows, -np.inf, most))
        solved = milp(
            values / scale,
            integrality=np.ones(len(values)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
        return self._read(solved.x) if solved.x is not None else None

    @cached_property
    def _values(self) -> dict[str, NDArray[np.float64]]:
        """What each variable being 1 adds to noise and resources: options first, then groups at 16 bits."""
        options, groups = self._problem.options, [self._problem.groups[name] for name in self._wide]
        more = [widths[16].noise - widths[8].noise for widths in groups]
        found = {"noise": np.array([*(option.noise for option in options), *more])}
        for resource in RESOURCES:
            more = [getattr(widths[16].cost, resource) - getattr(widths[8].cost, resource) for widths in groups]
            found[resource] = np.array([*(getattr(o.cost, resource) for o in options), *more], np.float64)
        return found

    @cached_property
    def _always(self) -> Cost:
        """Of all that costs the same whatever is chosen: groups with 8 bits, or their only width."""
        least = (widths[min(widths)].cost for widths in self._problem.groups.values())
        return sum(least, self._problem.cost)

    @cached_property
    def _structure(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and their sums: each layer takes one option, and one of its group's width."""
        options, layers = self._problem.options, list(self._problem.reads)
        rows, sums = np.zeros((2 * len(layers), len(options) + len(self._wide))), np.zeros(2 * len(layers))
        for at, layer in enumerate(layers):
            group = self._problem.reads[layer]
            for column, option in enumerate(options):
                if option.layer == layer:
                    rows[2 * at, column] = 1
                    rows[2 * at + 1, column] = option.input_bits == 16
            sums[2 * at] = 1
            if group in self._wide:
                rows[2 * at + 1, len(options) + self._wide.index(group)] = -1
            else:
                sums[2 * at + 1] = 16 in self._problem.groups[group]
        return rows, sums

    def _ram_rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of groups that are too much together, one has 8 bits."""
        first = len(self._problem.options)
        rows = np.zeros((len(self._too_much), first + len(self._wide)))
        for row, names in zip(rows, self._too_much, strict=True):
            row[[first + self._wide.index(name) for name in names]] = 1
        return rows, np.array([len(names) - 1 for names in self._too_much], np.float64)

    def _read(self, x: NDArray[Any]) -> Allocation:
        problem, chosen = self._problem, x > 0.5
        weights = {o.layer: o.weight_bits for o, taken in zip(problem.options, chosen, strict=False) if taken}
        wide = {name: 16 if chosen[len(problem.options) + at] else 8 for at, name in enumerate(self._wide)}
        activations = {name: wide.get(name, min(widths)) for name, widths in problem.groups.items()}
        return problem.assess(weights, activations)

    def _fits_ram(self, found: Allocation, budget: Budget) -> bool:
        """Whether there is RAM for a solution; learns from one that there is none for."""
        limit = budget.ram_bytes
        if limit is None or self._problem.ram(found.activation_bits) <= limit:
            return True
        wide = [name for name in self._wide if found.activation_bits[name] == 16]
        self._too_much.append(self._conflict(wide, limit))
        return False

    def _conflict(self, wide: Sequence[str], limit: int) -> frozenset[str]:
        """A part of the groups that is too much already, and no part of which is; empty where 8 bits are."""
        kept = set(wide)
        for name in wide:
            fewer = kept - {name}
            bits = {g: 16 if g in fewer else min(widths) for g, widths in self._problem.groups.items()}
            if self._problem.ram(bits) > limit:
                kept = fewer
        return frozenset(kept)


def _words(resource: str) -> str:
    return {"flash_bytes": "flash, bytes:", "ram_bytes": "RAM, bytes:", "instructions": "instructions:"}[resource]
