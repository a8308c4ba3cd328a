"""The table at the end of a run: float32 against the board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from policyport.core.artifact import Artifact

if TYPE_CHECKING:
    from rich.table import Table

STYLE = {"held": "green", "failed": "red", "measured": "none"}
"""Verdict to the colour of its sentence."""


def summary_table(artifacts: Mapping[str, Artifact]) -> Table:
    """The same rows as the report's first table.

    :param artifacts: stage to artifact; the hil artifact at least
    """
    from policyport.hil.report.comparison import comparison, verdict, width_label
    from policyport.hil.report.data import gather
    from rich import box
    from rich.table import Table

    evidence = gather(artifacts["hil"].path)
    result = evidence.result
    emulated = f", emulated by {result.board.emulator}" if result.board.emulated else ""
    table = Table(
        title=f"{result.model} on {result.board.name} ({result.board.core}){emulated}\n{width_label(evidence)}",
        caption=f"{verdict(result).state}: {verdict(result).sentence}",
        title_style="bold",
        title_justify="left",
        caption_style=STYLE[verdict(result).state],
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    table.add_column("float32", justify="right", no_wrap=True)
    table.add_column("board", justify="right", no_wrap=True)
    table.add_column("", style="dim")
    for group in comparison(evidence):
        table.add_row(f"[bold]{group.title}[/]")
        for row in group.rows:
            table.add_row(f"  {row.label}", row.float32, row.board, row.note)
    return table
