"""The study's tables: CSV and JSON of every figure, and Markdown to read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

from policyport.pipeline.quarl_methods import DESCRIPTIONS, FLOAT
from policyport.pipeline.quarl_rows import ACTIVATIONS, Row, Study

COLUMNS = (
    *("group", "method", "bits", "runs", "episodes", "mean", "mean_low", "mean_high", "iqm", "iqm_low", "iqm_high"),
    *("relative_error", "agreement", "difference", "difference_low", "difference_high", "margin", "p_value"),
    *("equivalent", "no_worse", "success_rate"),
)


def to_json(study: Study) -> str:
    """Every figure."""
    return json.dumps({"schema": 1, **dataclasses.asdict(study)}, indent=1) + "\n"


def to_csv(study: Study) -> str:
    """A line for each row."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in study.rows:
        middle, test = row.middle, row.equivalence
        returns = row.mean.value, row.mean.low, row.mean.high, middle.value, middle.low, middle.high
        tested = test.difference, test.low, test.high, test.margin, test.p_value, test.equivalent, test.no_worse
        first = row.group, row.method, row.bits, row.runs, row.episodes
        writer.writerow([*first, *returns, row.relative_error, row.agreement, *tested, row.success_rate])
    return stream.getvalue()


def to_markdown(study: Study) -> str:
    """What was stated beforehand, returns by width for each method, the lowest equivalent widths, the weights."""
    parts = ["### Stated beforehand", "", *lines_of(plan_table(study)), ""]
    for method in study.methods:
        parts += [f"### {method}: {described(method)}", "", *lines_of(returns_table(study, method)), ""]
    parts += ["### Lowest equivalent width", "", *lines_of(widths_table(study)), ""]
    parts += ["### Difference from float32, in % of the span", "", *lines_of(differences_table(study)), ""]
    parts += ["### Weights", "", *lines_of(weights_table(study)), ""]
    return "\n".join(parts).rstrip() + "\n"


def described(method: str) -> str:
    """What a method does."""
    name, _, width = method.partition(ACTIVATIONS)
    return f"{DESCRIPTIONS[name]}; hidden activations of {width} bits" if width else DESCRIPTIONS[name]


def plan_table(study: Study) -> list[list[str]]:
    """The margin of each group and its number of episodes, with what they follow from."""
    lines = [["agent", "random actions", FLOAT, "deviation", "margin", "episodes needed", "episodes"]]
    for group in study.groups:
        plan = study.plans[group]
        returns = (f"{value:.1f}" for value in (plan.by_chance, plan.float32, plan.deviation))
        lines.append([group, *returns, f"{plan.margin.value:.3g}", f"{plan.needed:,}", f"{plan.episodes:,}"])
    return lines


def returns_table(study: Study, method: str) -> list[list[str]]:
    """Mean return by width, each with the half width of its interval, and what the test says.

    A star where it is equivalent to float32, a plus where it is no worse and perhaps better.
    """
    bits = sorted({row.bits for row in study.rows if row.method == method}, reverse=True)
    lines = [["agent", FLOAT, *(f"{width} bits" for width in bits)]]
    for group in study.groups:
        row = study.row(group, FLOAT, 32)
        cells = [study.row(group, method, width) for width in bits]
        if not any(cells):
            continue
        lines.append([group, shown(row), *(shown(cell, marked=True) for cell in cells)])
    return lines


def widths_table(study: Study) -> list[list[str]]:
    """The lowest width that is equivalent to float32, by method, then of any; the lowest of any that is no worse.

    A method that was not measured has an empty cell.
    """
    lines = [["agent", *study.methods, "any", "any, no worse"]]
    for group in study.groups:
        found = [study.lowest_equivalent(group, method) for method in study.methods]
        no_worse = [study.lowest_no_worse(group, method) for method in study.methods]
        measured = {row.method for row in study.rows if row.group == group}
        mine = [_width(bits) if method in measured else "" for method, bits in zip(study.methods, found, strict=True)]
        lines.append([group, *mine, _width(_least(found)), _width(_least(no_worse))])
    return lines


def _least(found: Sequence[int | None]) -> int | None:
    return min((bits for bits in found if bits is not None), default=None)


def _width(bits: int | None) -> str:
    return "none" if bits is None else str(bits)


def differences_table(study: Study) -> list[list[str]]:
    """The interval of every difference of mean returns, by method and width, in % of the span that margins are of."""
    keys = dict.fromkeys((row.method, row.bits) for row in study.rows if row.method != FLOAT)
    lines = [["agent", *(f"{method} {bits}" for method, bits in keys)]]
    for group in study.groups:
        lines.append([group, *(_interval(study.row(group, *key), study.span(group)) for key in keys)])
    return lines


def _interval(row: Row | None, span: float) -> str:
    if row is None or span == 0:
        return ""
    low, high = (100.0 * end / span for end in (row.equivalence.low, row.equivalence.high))
    return f"{low:+.1f} to {high:+.1f}"


def weights_table(study: Study) -> list[list[str]]:
    """Range and shape of the weights."""
    lines = [["agent", "weights", "lowest", "highest", "deviation", "kurtosis"]]
    for found in study.weights:
        figures = f"{found.low:.2f}", f"{found.high:.2f}", f"{found.deviation:.3f}", f"{found.kurtosis:.1f}"
        lines.append([found.group, f"{found.count:,}", *figures])
    return lines


def shown(row: Row | None, *, marked: bool = False) -> str:
    """Mean and interval of a cell, and the share of successes where the environment knows them."""
    if row is None:
        return ""
    half = (row.mean.high - row.mean.low) / 2
    star = ("*" if row.equivalence.equivalent else "+" if row.equivalence.no_worse else "") if marked else ""
    success = "" if row.success_rate is None else f", {row.success_rate:.0%}"
    return f"{row.mean.value:.1f} ± {half:.1f}{star}{success}"


def lines_of(lines: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown, line by line; the first of the lines given is its head."""
    head, *body = lines
    return [_line(head), "|" + "---|" * len(head), *map(_line, body)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
