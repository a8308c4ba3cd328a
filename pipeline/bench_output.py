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
    linux_table,
    markdown,
    peers_table,
    published_table,
    write_csv,
)

PAGE = "bench.html"
HEADINGS = (
    "Beside other tools, Cortex-M4",
    "Every core, instructions",
    "Beside other tools, AArch64 Linux",
    "Beside published results",
)

NOTES = (
    "One inference. Instructions are counted exactly on an emulated core; cycles are estimated from what was executed,"
    " by a table of the core with memory that never makes it wait: never a time (docs/cycle-model.md). Code is what the"
    f" network calls, without protocol and start-up. The yardstick is {YARDSTICK}; all peers' rows are recorded.",
    "One inference, int8. In brackets the fewest instructions of a recorded peer on that core; empty where the network"
    " does not fit or cannot run.",
    "One inference, int8, on one thread, counted exactly in QEMU's user mode. Of the peers, what their libraries"
    " execute, without the Python that calls them; none quantizes its input or output. Dot products are the"
    " instructions that multiply and add four pairs of bytes in each lane; a Cortex-A53 has none. Outputs equal: the"
    " share of the output's values that are the reference's integers.",
    "Cycles for each multiply-accumulate of MLPerf Tiny, closed division: published latency times clock, on hardware"
    " that waits for its flash. Ours is the estimate for the same kind of core without waiting: a comparison of orders,"
    " not a ranking.",
)


def write_files(rows: Sequence[Row], folder: Path, peers: Peers | None = None) -> list[Path]:
    """Write ``bench.csv``, ``bench.md``, ``bench.html`` and, where there is something to draw, ``bench.png``.

    :param peers: what stands beside the rows; what is recorded where it is None
    :returns: their paths
    """
    peers = peers or load_peers()
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
    made = (
        *(peers_table(rows, peers), cores_table(rows, peers)),
        *(linux_table(rows, peers), published_table(rows, peers)),
    )
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
    equal, measured = sum(row.parity for row in rows), sum(not row.error for row in rows)
    seconds = [row.deploy_cpu_s for row in rows if row.deploy_cpu_s is not None]
    slowest = f" No deploy took more than {max(seconds):.1f} processor seconds." if seconds else ""
    return (
        f"{len(rows)} measurements; {', '.join(emulators)}; {', '.join(compilers)};"
        f" in {equal} of {measured} every integer of every layer equals the reference.{slowest}"
    )


def _drawable(rows: Sequence[Row]) -> bool:
    return any(not row.error and row.core.removesuffix("f") == REFERENCE_CORE for row in rows)
