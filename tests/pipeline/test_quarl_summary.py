"""The study's summary: which method stands for an agent, and that its counts are those of its cells."""

from __future__ import annotations

import numpy as np
import pytest
from policyport.hil.margin import Margin
from policyport.hil.robust import Interval
from policyport.hil.statistics import Returns, equivalence
from policyport.pipeline.quarl_methods import DESCRIPTIONS, FLOAT
from policyport.pipeline.quarl_plan import Plan
from policyport.pipeline.quarl_rows import Row, Study
from policyport.pipeline.quarl_summary import (
    TRAINED,
    UNTRAINED,
    WIDE,
    chosen,
    counts_table,
    summary_table,
    to_markdown,
)

SPAN, MARGIN = 200.0, 10.0
EXACT: Returns = np.random.default_rng(0).normal(100.0, 1.0, 50)


def row(method: str, bits: int, shift: float, group: str = "agent", noise: float = 1.0) -> Row:
    """Of returns that lie ``shift`` from float32's, in units of return, and scatter by ``noise`` about it."""
    scatter = np.random.default_rng(1).normal(0.0, noise, len(EXACT))
    ours = EXACT + shift + (scatter - scatter.mean())
    mean = Interval(float(ours.mean()), float(ours.mean()) - 1.0, float(ours.mean()) + 1.0)
    return Row(group, method, bits, 1, len(ours), mean, mean, 0.0, 1.0, equivalence(ours, EXACT, MARGIN))


def study(*rows: Row) -> Study:
    groups = dict.fromkeys(found.group for found in rows)
    plans = {name: Plan(name, -100.0, 100.0, 1.0, Margin(MARGIN, "5 %"), 2, 50) for name in groups}
    exact = [row(FLOAT, 32, 0.0, name, 0.0) for name in groups]
    return Study((*exact, *rows), (), plans)


def test_every_method_of_integers_has_its_place() -> None:
    known = {method.removesuffix(WIDE) for method in UNTRAINED + TRAINED}
    assert known == set(DESCRIPTIONS) - {FLOAT, "fp16", "weights"}
    assert not set(UNTRAINED) & set(TRAINED)


@pytest.mark.parametrize(
    ("shifts", "method"),
    [
        ({"lattice": -1.0, "integer": 0.0}, "lattice"),  # both hold: the order decides, not the return
        ({"lattice": -50.0, "integer": -2.0}, "integer"),
        ({"lattice": 50.0, "integer": 0.0}, "lattice"),  # better is no worse
        ({"lattice": 50.0, "integer": -50.0}, "lattice"),
        ({"lattice": -50.0, "integer": -20.0}, "integer"),  # none holds: the best
    ],
)
def test_the_first_that_holds_stands_for_all(shifts: dict[str, float], method: str) -> None:
    found = study(*(row(name, 4, shift) for name, shift in reversed(shifts.items())))
    one = chosen(found, "agent", 4, UNTRAINED)
    assert one is not None and one.method == method
    assert chosen(found, "agent", 3, UNTRAINED) is None and chosen(found, "agent", 4, TRAINED) is None


def test_counts_are_those_of_the_cells() -> None:
    found = study(
        row("lattice", 4, -1.0, "close"),
        row("lattice", 4, -5.0, "equivalent, and not close"),
        row("lattice", 4, 50.0, "better"),
        row("lattice", 4, -50.0, "worse"),
        row("own-states", 4, 1.0, "worse"),
        row("own-states", 3, -30.0, "worse"),
    )
    assert counts_table(found)[1:] == [
        # agents, no worse, equivalent, close, without a measured loss
        ["4 bits", "4", "3", "2", "2", "1"],
        ["4 bits, trained where needed", "4", "4", "3", "3", "2"],
        ["3 bits, trained where needed", "1", "0", "0", "0", "0"],
    ]
    head, *lines = summary_table(found)
    assert head == ["agent", "4 bits", "4 bits, trained", "3 bits, trained"]
    assert lines[0][1].startswith("-0.5 ± 0.1* lattice") and lines[0][2:] == ["", ""]
    assert lines[2][1].startswith("+25.0 ± 0.1+ lattice")
    assert lines[3][1:] == ["-25.0 ± 0.1 lattice", "+0.5 ± 0.1* own-states", "-15.0 ± 0.1 own-states"]
    assert "| 4 bits | 4 | 3 | 2 | 2 | 1 |" in to_markdown(found)


@pytest.mark.parametrize(
    ("shift", "noise", "none"),
    [(-1.0, 10.0, "1"), (-1.0, 1.0, "0"), (-0.0004 * SPAN, 0.001, "1"), (-0.0006 * SPAN, 0.001, "0")],
)
def test_no_loss_is_measured_where_the_interval_reaches_zero_to_one_decimal(
    shift: float, noise: float, none: str
) -> None:
    assert counts_table(study(row("lattice", 8, shift, noise=noise)))[1][-1] == none


def test_without_integers_the_summary_says_so() -> None:
    text = to_markdown(study(row("fp16", 16, 0.0), row("weights", 4, 0.0)))
    assert text == "Nothing was measured as integers of 8, 4, 3, 2 bits.\n"
