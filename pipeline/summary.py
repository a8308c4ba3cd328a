"""The table at the end of a run: float32 against the board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from policyport.core.artifact import Artifact

if TYPE_CHECKING:
    from rich.table import Table


def summary_table(artifacts: Mapping[str, Artifact]) -> Table:
    """The same rows as the report's first table.

    :param artifacts: stage to artifact; the hil artifact at least
    """
    from policyport.hil.report.data import gather
    from policyport.hil.report.views import comparison, width_label
    from rich import box
    from rich.table import Table

    evidence = gather(artifacts["hil"].path)
    result = evidence.result
    emulated = f", emulated by {result.board.emulator}" if result.board.emulated else ""
    table = Table(
        title=f"{result.model} on {result.board.name} ({result.board.core}){emulated}",
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    table.add_column("float32", justify="right")
    table.add_column(f"{width_label(evidence)}, on the board", justify="right")
    for row in comparison(evidence):
        table.add_row(row.label, row.float32, row.board)
    return table
