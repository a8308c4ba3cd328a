"""Bit allocation: the solver against trying everything, its errors, and what larger budgets buy."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ConfigError
from policyport.quantize.allocate import Allocation, Option, Problem, Width, allocate, front
from policyport.quantize.budget import Budget
from policyport.quantize.cost import Cost

WIDTHS = (8, 4, 2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to four layers that read up to three groups; RAM is the sum of pairs of neighbouring groups at the most."""
    group_count, layer_count = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    noises, costs = st.integers(0, 40), st.integers(1, 60)
    groups: dict[str, dict[int, Width]] = {}
    for i in range(group_count):
        widths = draw(st.sampled_from([(8,), (16,), (8, 16)]))
        groups[f"g{i}"] = {bits: Width(float(draw(noises)), Cost(draw(costs), draw(costs))) for bits in widths}
    reads = {f"l{i}": f"g{draw(st.integers(0, group_count - 1))}" for i in range(layer_count)}
    options = tuple(
        Option(layer, w, a, float(draw(noises)), Cost(draw(costs), draw(costs)))
        for layer, group in reads.items()
        for w in WIDTHS
        for a in groups[group]
    )
    sizes = [draw(st.integers(1, 9)) for _ in groups]

    def ram(widths: dict[str, int]) -> int:
        taken = [size * widths[name] // 8 for size, name in zip(sizes, groups, strict=True)]
        return max(sum(taken[i : i + 2]) for i in range(len(taken)))

    return Problem(options, reads, groups, ram, draw(noises), Cost(draw(costs), draw(costs)))  # type: ignore[arg-type]


limits = st.none() | st.integers(1, 260)
budgets = st.builds(Budget, limits, st.none() | st.integers(1, 40), limits)


def everything(problem: Problem, budget: Budget) -> list[Allocation]:
    """Every choice within the budget."""
    found = []
    for widths in product(*problem.groups.values()):
        activations = dict(zip(problem.groups, widths, strict=True))
        for bits in product(WIDTHS, repeat=len(problem.reads)):
            made = problem.assess(dict(zip(problem.reads, bits, strict=True)), activations)
            if holds(problem, budget, made):
                found.append(made)
    return found


def holds(problem: Problem, budget: Budget, made: Allocation) -> bool:
    taken = made.cost.flash_bytes, problem.ram(made.activation_bits), made.cost.instructions
    asked = budget.flash_bytes, budget.ram_bytes, budget.instructions
    return all(limit is None or value <= limit for value, limit in zip(taken, asked, strict=True))


@settings(max_examples=150, deadline=None)
@given(problems(), budgets)
def test_the_solver_finds_what_trying_everything_finds(problem: Problem, budget: Budget) -> None:
    possible = everything(problem, budget)
    if not possible:
        with pytest.raises(ConfigError, match="no choice of widths"):
            allocate(problem, budget)
        return
    found = allocate(problem, budget)
    assert holds(problem, budget, found)
    assert found.noise == min(made.noise for made in possible)
    assert found == problem.assess(found.weight_bits, found.activation_bits)


@settings(max_examples=50, deadline=None)
@given(problems(), limits, limits)
def test_a_larger_budget_never_costs_accuracy(problem: Problem, flash: int | None, more: int | None) -> None:
    small, large = sorted((flash or 10_000, more or 10_000))
    if everything(problem, Budget(flash_bytes=small)):
        narrow, wide = (allocate(problem, Budget(flash_bytes=limit)) for limit in (small, large))
        assert wide.noise <= narrow.noise


@settings(max_examples=50, deadline=None)
@given(problems(), st.sampled_from(["flash_bytes", "instructions"]))
def test_no_point_of_a_front_is_bettered(problem: Problem, resource: str) -> None:
    points = front(problem, Budget(), resource)  # type: ignore[arg-type]
    possible = everything(problem, Budget())
    assert points[-1].noise == min(made.noise for made in possible)
    assert getattr(points[0].cost, resource) == min(getattr(made.cost, resource) for made in possible)
    for point in points:
        within = [made for made in possible if getattr(made.cost, resource) <= getattr(point.cost, resource)]
        assert point.noise == min(made.noise for made in within)


@settings(max_examples=50, deadline=None)
@given(problems())
def test_the_error_names_the_least_that_is_possible(problem: Problem) -> None:
    least = min(made.cost.flash_bytes for made in everything(problem, Budget()))
    with pytest.raises(ConfigError, match=f"flash, bytes: {least:,}") as error:
        allocate(problem, Budget(flash_bytes=least - 1))
    assert error.value.exit_code == 2 and error.value.cure
    assert allocate(problem, Budget(flash_bytes=least)).cost.flash_bytes == least


def test_limits_that_exclude_each_other_are_named_together() -> None:
    options = (Option("l", 8, 8, 0.0, Cost(10, 1)), Option("l", 4, 8, 0.0, Cost(1, 10)))
    problem = Problem(options, {"l": "g"}, {"g": {8: Width(0.0)}}, lambda widths: 1)
    with pytest.raises(ConfigError, match="together") as error:
        allocate(problem, Budget(flash_bytes=5, instructions=5))
    assert "flash, bytes: 10 or instructions: 10" in str(error.value.expected)


@pytest.mark.parametrize(
    ("text", "flash", "instructions"),
    [("16K", 16384, 16000), ("1.5k", 1536, 1500), ("2M", 2 * 1024**2, 2_000_000), ("5000", 5000, 5000)],
)
def test_budgets_are_read_as_people_write_them(text: str, flash: int, instructions: int) -> None:
    assert Budget.parse(text, "", text) == Budget(flash, None, instructions)
    assert Budget.parse("", "", "").is_open


@pytest.mark.parametrize("text", ["0", "-5", "K", "16 KB", "1e3", "lots"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ram_budget"):
        Budget.parse("", text, "")
