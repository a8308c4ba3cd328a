"""The study's tables: CSV and JSON of every figure, and Markdown to read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

from policyport.pipeline.quarl_methods import DESCRIPTIONS, FLOAT
from policyport.pipeline.quarl_rows import Row, Study

COLUMNS = (
    *("group", "method", "bits", "runs", "episodes", "mean", "mean_low", "mean_high", "iqm", "iqm_low", "iqm_high"),
    *("relative_error", "agreement", "difference", "margin", "p_value", "equivalent", "success_rate"),
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
        tested = test.difference, test.margin, test.p_value, test.equivalent, row.success_rate
        first = row.group, row.method, row.bits, row.runs, row.episodes
        writer.writerow([*first, *returns, row.relative_error, row.agreement, *tested])
    return stream.getvalue()


def to_markdown(study: Study) -> str:
    """Returns by width for each method, then the lowest equivalent widths, then the weights."""
    parts = []
    for method in study.methods:
        parts += [f"## {method}: {DESCRIPTIONS[method]}", "", *_table(returns_table(study, method)), ""]
    parts += ["## Lowest equivalent width", "", *_table(widths_table(study)), ""]
    parts += ["## Weights", "", *_table(weights_table(study)), ""]
    return "\n".join(parts).rstrip() + "\n"


def returns_table(study: Study, method: str) -> list[list[str]]:
    """Mean return by width, each with the half width of its interval; a star where it is equivalent to float32."""
    bits = sorted({row.bits for row in study.rows if row.method == method}, reverse=True)
    lines = [["agent", FLOAT, *(f"{width} bits" for width in bits)]]
    for group in study.groups:
        row = study.row(group, FLOAT, 32)
        cells = [study.row(group, method, width) for width in bits]
        lines.append([group, shown(row), *(shown(cell, marked=True) for cell in cells)])
    return lines


def widths_table(study: Study) -> list[list[str]]:
    """The lowest width that is equivalent to float32, by method."""
    lines = [["agent", *study.methods, "margin"]]
    for group in study.groups:
        found = [study.lowest_equivalent(group, method) for method in study.methods]
        exact = study.row(group, FLOAT, 32)
        margin = "" if exact is None else f"{exact.equivalence.margin:.3g}"
        lines.append([group, *("none" if bits is None else str(bits) for bits in found), margin])
    return lines


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
    star = "*" if marked and row.equivalence.equivalent else ""
    success = "" if row.success_rate is None else f", {row.success_rate:.0%}"
    return f"{row.mean.value:.1f} ± {half:.1f}{star}{success}"


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *body = lines
    return [_line(head), "|" + "---|" * len(head), *map(_line, body)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
