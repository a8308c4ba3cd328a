"""The study as one self-contained page, with the paper's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policyport.core import page
from policyport.core.drawing import BOARD, FLOAT, INK, MUTED, drawing
from policyport.core.page import Figure, Tile
from policyport.pipeline.quarl_methods import FLOAT as EXACT
from policyport.pipeline.quarl_rows import Study, Weights
from policyport.pipeline.quarl_summary import TRAINED, UNTRAINED, counts_table, summary_table
from policyport.pipeline.quarl_tables import (
    described,
    differences_table,
    plan_table,
    returns_table,
    weights_table,
    widths_table,
)

TEMPLATE = Path(__file__).with_name("quarl.html.j2")

STYLES = ((BOARD, "-o"), (FLOAT, "-s"), (INK, "--^"), (MUTED, ":d"), (BOARD, "--x"), (FLOAT, ":+"))
"""Colour and line of each method."""


def render_page(study: Study) -> str:
    """The page as text."""
    values = {
        "title": "What quantization does to policies",
        "tiles": _tiles(study),
        "curves": [Figure(_returns_plot(study, group), group) for group in study.groups],
        "histograms": [Figure(_weights_plot(found), _words(found)) for found in study.weights],
        "counts": counts_table(study),
        "summary": summary_table(study),
        "untrained": UNTRAINED,
        "trained": TRAINED,
        "plans": plan_table(study),
        "widths": widths_table(study),
        "differences": differences_table(study),
        "weights": weights_table(study),
        "returns": [(method, described(method), returns_table(study, method)) for method in study.methods],
        "basis": {group: plan.margin.basis for group, plan in study.plans.items()},
    }
    return page.render(TEMPLATE, values)


def _tiles(study: Study) -> list[Tile]:
    exact = [row for row in study.rows if row.method == EXACT]
    runs, episodes = sum(row.runs for row in exact), _span([row.episodes for row in exact])
    tiles = [Tile(str(len(exact)), "Agents", f"{runs} trainings, {episodes} episodes each")]
    for method in study.methods:
        found = [bits for group in study.groups if (bits := study.lowest_equivalent(group, method)) is not None]
        tiles.append(Tile(f"{len(found)} of {len(exact)}", method, f"equivalent to float32; lowest {_range(found)}"))
    return tiles


def _span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _range(bits: list[int]) -> str:
    if not bits:
        return "none"
    return f"{_span(bits)} bits"


def _returns_plot(study: Study, group: str) -> str:
    """Mean return over the width of weights; float32 as a line."""
    exact = study.row(group, EXACT, 32)
    assert exact is not None
    widest = max((row.bits for row in study.rows if row.method != EXACT), default=16)

    def draw(axes: Any) -> None:
        axes.axhspan(
            exact.mean.value - exact.equivalence.margin,
            exact.mean.value + exact.equivalence.margin,
            color=MUTED,
            alpha=0.18,
            linewidth=0,
        )
        axes.axhline(exact.mean.value, color=MUTED, linewidth=1)
        for (colour, line), method in zip(STYLES, study.methods, strict=False):
            rows = [row for row in study.rows if row.group == group and row.method == method]
            values = [row.mean.value for row in rows]
            error = [
                [max(0.0, row.mean.value - row.mean.low) for row in rows],
                [row.mean.high - row.mean.value for row in rows],
            ]
            axes.errorbar(
                [row.bits for row in rows],
                values,
                error,
                fmt=line,
                color=colour,
                markersize=4,
                linewidth=1.2,
                label=method,
            )
        axes.set_xscale("log", base=2)
        ticks = [bits for bits in (2, 3, 4, 5, 6, 8, 16, 32) if bits <= widest]
        axes.set_xticks(ticks, [str(bits) for bits in ticks])
        axes.minorticks_off()
        axes.invert_xaxis()
        axes.set_xlabel("bits of a weight")
        axes.set_ylabel("return")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0, fontsize=8, handlelength=1.6)

    return drawing(f"returns-{study.groups.index(group)}", draw)


def _weights_plot(found: Weights) -> str:
    """Histogram of all weights, counts on a logarithmic scale."""

    def draw(axes: Any) -> None:
        axes.stairs(found.counts, found.edges, color=BOARD, fill=True, baseline=0.5)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        axes.set_xlabel("weight")
        axes.set_ylabel("count")

    return drawing("weights-" + "".join(c if c.isalnum() else "-" for c in found.group), draw)


def _words(found: Weights) -> str:
    return f"{found.group}: {found.low:.2f} to {found.high:.2f}, kurtosis {found.kurtosis:.1f}"
