"""The files of a benchmark: CSV, Markdown, a picture and one page, all from the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policyport.pipeline.bench_peers import Peers, load_peers
from policyport.pipeline.bench_row import Row
from policyport.pipeline.bench_tables import (
    REFERENCE_CORE,
    YARDSTICK,
    Table,
    cores_table,
    markdown,
    peers_table,
    published_table,
    write_csv,
)

PAGE = "bench.html"
HEADINGS = ("Beside other tools, Cortex-M4", "Every core, instructions", "Beside published results")

NOTES = (
    "One inference. Instructions are counted exactly on an emulated core; cycles are estimated from what was executed,"
    " by a table of the core with memory that never makes it wait: never a time (docs/cycle-model.md). Code is what the"
    f" network calls, without protocol and start-up. The yardstick is {YARDSTICK}; all peers' rows are recorded.",
    "One inference, int8. In brackets the fewest instructions of a recorded peer on that core; empty where the network"
    " does not fit or cannot run.",
    "Cycles for each multiply-accumulate of MLPerf Tiny, closed division: published latency times clock, on hardware"
    " that waits for its flash. Ours is the estimate for the same kind of core without waiting: a comparison of orders,"
    " not a ranking.",
)


def write_files(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write ``bench.csv``, ``bench.md``, ``bench.html`` and, where there is something to draw, ``bench.png``.

    :returns: their paths
    """
    peers = load_peers()
    write_csv(rows, folder / "bench.csv")
    (folder / "bench.md").write_text("# Benchmark\n\n" + page_markdown(rows, peers) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page_html(rows, peers), encoding="utf-8")
    written = [folder / "bench.csv", folder / "bench.md", folder / PAGE]
    if _drawable(rows):
        from policyport.pipeline.bench_plot import write_png

        write_png(rows, peers, folder / "bench.png")
        written.append(folder / "bench.png")
    return written


def tables(rows: Sequence[Row], peers: Peers) -> list[tuple[str, str, Table]]:
    """Heading, note and table of each part; parts without a line are left out."""
    made = (peers_table(rows, peers), cores_table(rows, peers), published_table(rows, peers))
    return [part for part in zip(HEADINGS, NOTES, made, strict=True) if part[2].lines]


def page_markdown(rows: Sequence[Row], peers: Peers) -> str:
    """The tables for people, in Markdown."""
    parts = [provenance(rows)]
    for heading, note, table in tables(rows, peers):
        parts += [f"## {heading}", note, markdown(table)]
    parts += ["## Where the peers' figures come from", *(f"- {name}: {text}." for name, text in peers.sources.items())]
    return "\n\n".join(parts).replace(".\n\n- ", ".\n- ")


def page_html(rows: Sequence[Row], peers: Peers) -> str:
    """The same as one page that needs nothing else."""
    from markupsafe import Markup
    from policyport.core.page import render

    drawing = ""
    if _drawable(rows):
        from policyport.pipeline.bench_plot import plot_svg

        drawing = plot_svg(rows, peers)
    values = {
        "drawing": Markup(drawing),
        "provenance": provenance(rows),
        "parts": tables(rows, peers),
        "sources": peers.sources,
        "failed": [row for row in rows if row.error],
    }
    return render(Path(__file__).with_name("bench.html.j2"), values)


def provenance(rows: Sequence[Row]) -> str:
    """What measured, in one line."""
    emulators = sorted({row.emulator for row in rows if row.emulator})
    compilers = sorted({row.compiler for row in rows if row.compiler})
    equal = sum(row.parity for row in rows)
    return (
        f"{len(rows)} measurements; {', '.join(emulators)}; {', '.join(compilers)};"
        f" in {equal} of {sum(not row.error for row in rows)} every integer of every layer equals the reference."
    )


def _drawable(rows: Sequence[Row]) -> bool:
    return any(not row.error and row.core.removesuffix("f") == REFERENCE_CORE for row in rows)
