"""The benchmark as a drawing: instructions of every network, ours and the recorded peers', on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.pipeline.bench_peers import Peers
from policyport.pipeline.bench_row import Row
from policyport.pipeline.bench_tables import REFERENCE_CORE, YARDSTICK, by_network, core_name

WIDTH_IN = 9.0
BAR_IN = 0.19
GAP_BARS = 1.4
"""Space between two networks, in bars."""


@dataclass(frozen=True)
class Bar:
    """One bar."""

    place: float
    instructions: int
    label: str
    colour: str
    """``ours``, ``yardstick`` or ``other``."""


def bars(rows: Sequence[Row], peers: Peers) -> tuple[list[Bar], list[tuple[float, str]]]:
    """The bars of the Cortex-M4, and the networks' names with their places."""
    drawn, names, place = [], [], 0.0
    for label, group in by_network(rows, REFERENCE_CORE):
        names.append((place - 0.9, label))
        entries = [(row.instructions, f"policyport, {row.variant}", "ours") for row in group if not row.error]
        for peer in peers.of(group[0].network, REFERENCE_CORE):
            entries.append((peer.instructions, peer.tool, "yardstick" if peer.tool == YARDSTICK else "other"))
        for instructions, tool, colour in sorted(entries):
            drawn.append(Bar(place, instructions, f"{tool}: {instructions:,}", colour))
            place += 1
        place += GAP_BARS
    return drawn, names


def draw(axes: Any, rows: Sequence[Row], peers: Peers, colours: dict[str, str]) -> None:
    """Draw on axes.

    :param colours: of ``ours``, ``yardstick``, ``other``, ``text``
    """
    drawn, names = bars(rows, peers)
    low = min(bar.instructions for bar in drawn) / 2
    high = max(bar.instructions for bar in drawn)
    axes.barh(
        [bar.place for bar in drawn],
        [bar.instructions - low for bar in drawn],
        left=low,
        height=0.78,
        color=[colours[bar.colour] for bar in drawn],
    )
    axes.set_xscale("log")
    axes.set_xlim(low, high * 30)
    for bar in drawn:
        axes.text(bar.instructions * 1.06, bar.place, bar.label, va="center", ha="left", fontsize=7.5)
    for place, name in names:
        axes.text(low, place, name, va="center", ha="left", fontsize=9, fontweight="bold", color=colours["text"])
    axes.set_ylim(drawn[-1].place + 0.8, -1.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"instructions of one inference, Cortex-{core_name(REFERENCE_CORE)}, logarithmic")
    axes.grid(axis="x")


def height_in(rows: Sequence[Row], peers: Peers) -> float:
    """Height of the drawing."""
    drawn, _ = bars(rows, peers)
    return 0.9 + BAR_IN * (drawn[-1].place + 2.4)


def plot_svg(rows: Sequence[Row], peers: Peers) -> str:
    """The drawing as an SVG element for a page, in the page's colours."""
    from policyport.core import drawing as plots

    colours = {"ours": plots.BOARD, "yardstick": plots.FLOAT, "other": plots.MUTED, "text": plots.INK}
    return plots.drawing(
        "peers", lambda axes: draw(axes, rows, peers, colours), height_in(rows, peers), width_in=WIDTH_IN
    )


def write_png(rows: Sequence[Row], peers: Peers, path: Path) -> None:
    """The drawing as a picture on white."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = {"ours": "#2458b8", "yardstick": "#c2570c", "other": "#9aa4b1", "text": "#1b1f24"}
    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#dfe3e8"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, height_in(rows, peers)), layout="constrained")
        draw(figure.add_subplot(), rows, peers, colours)
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=160, metadata={"Software": None})
