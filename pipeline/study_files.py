"""What studies leave beside JSON and Markdown: rows as CSV, and one self-contained page of tables and curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core import page
from policyport.core.drawing import BOARD, FLOAT, INK, MUTED, drawing
from policyport.core.page import Figure

TEMPLATE = Path(__file__).with_name("tables.html.j2")

STYLES = ((BOARD, "-o"), (FLOAT, "-s"), (INK, "--^"), (MUTED, ":d"), (BOARD, "--x"), (FLOAT, ":v"), (INK, "-.+"))
"""Colour and line of each curve of a figure, in order."""


@dataclass(frozen=True)
class Curve:
    """A line of a figure."""

    label: str
    places: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] = ()
    """Ends of an interval about each value; empty for none."""

    high: Sequence[float] = ()


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """A line for each record, under the first one's keys."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def curves(name: str, lines: Sequence[Curve], labels: tuple[str, str], *, falling: bool = False) -> str:
    """Curves over common places, as an SVG element.

    :param name: of the figure, unlike any other on its page
    :param labels: of both axes
    :param falling: from the largest place to the smallest, as widths go
    """

    def draw(axes: Any) -> None:
        for number, line in enumerate(lines):
            colour, style = STYLES[number % len(STYLES)]
            axes.plot(line.places, line.values, style, color=colour, label=line.label)
            if line.low:
                axes.vlines(line.places, line.low, line.high, color=colour, linewidth=1)
        axes.set_xticks(sorted({place for line in lines for place in line.places}))
        if falling:
            axes.invert_xaxis()
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.grid(axis="y")
        axes.legend(fontsize=7)

    return drawing(name, draw)


def render(title: str, note: str, tables: Sequence[tuple[str, list[list[str]]]], figures: Sequence[Figure]) -> str:
    """The page as text.

    :param tables: each a heading and its lines, the first of them the head
    """
    return page.render(TEMPLATE, {"title": title, "note": note, "tables": tables, "figures": figures})
