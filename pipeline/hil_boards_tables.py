"""The table over several boards: what a verb measured on each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policyport.hil.report.comparison import flash_bytes, ram_bytes
from policyport.hil.report.text import percent, recorded, size, spread
from policyport.hil.result import Result
from policyport.pipeline.fleet import Job, Outcome, results

Column = Callable[[Result], str]
"""What a cell says of a board's result."""


def _emulator(result: Result) -> str:
    return result.board.emulator if result.board.emulated else "real"


def _integers(result: Result) -> str:
    equal, compared = (sum(getattr(layer, name) for layer in result.parity.layers) for name in ("equal", "compared"))
    return f"{equal:,} of {compared:,}"


def _loop(show: Callable[[Any], str]) -> Column:
    return lambda result: "" if result.loop is None else show(result.loop)


BOARD: Mapping[str, Column] = {"kind": lambda r: r.board.name, "core": lambda r: r.board.core, "run by": _emulator}

LATENCY: Mapping[str, Column] = {
    "unit": lambda r: r.board.unit,
    "p50": lambda r: f"{r.latency.inference.p50:,}",
    "p99": lambda r: f"{r.latency.inference.p99:,}",
    "max": lambda r: f"{r.latency.inference.max:,}",
}
MEMORY: Mapping[str, Column] = {
    "flash": lambda r: recorded(flash_bytes(r)),
    "RAM": lambda r: recorded(ram_bytes(r)),
    "stack": lambda r: size(r.memory.stack_used_bytes),
}
PARITY: Mapping[str, Column] = {
    "integers as the reference": _integers,
    "layers": lambda r: str(len(r.parity.layers)),
    "observations": lambda r: f"{r.parity.observations:,}",
}
LOOP: Mapping[str, Column] = {
    "return": _loop(lambda loop: spread(loop.board)),
    "float32": _loop(lambda loop: spread(loop.float32)),
    "actions as float32": _loop(lambda loop: percent(loop.agreement)),
    "success": _loop(lambda loop: "" if loop.board_success is None else percent(loop.board_success)),
    "steps": _loop(lambda loop: f"{loop.steps:,}"),
}
RESENDS: Mapping[str, Column] = {"resends": lambda r: f"{r.link.resends:,}"}

COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "bench": {**BOARD, **LATENCY, **MEMORY},
    "parity": {**BOARD, **PARITY, **RESENDS},
    "loop": {**BOARD, **LOOP, **RESENDS},
    "all": {**BOARD, "p50": LATENCY["p50"], **MEMORY, "parity": _integers, "return": LOOP["return"]},
}
"""Verb to its table's columns; that of ``trace`` has a row for each layer instead."""


def as_rows(outcomes: Sequence[Outcome], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Every board's outcome as plain values: for JSON."""
    found = dict(results(outcomes))
    return [
        {
            "name": outcome.name,
            "board": found[outcome.name].board.name if outcome.name in found else job.place.board,
            "port": job.place.port,
            "result": str(outcome.measured / "result.json") if outcome.measured is not None else None,
            "error": None if outcome.error is None else str(outcome.error),
            "exit_code": 0 if outcome.error is None else outcome.error.exit_code,
            "figures": _figures(found[outcome.name]) if outcome.name in found else {},
        }
        for outcome, job in zip(outcomes, jobs, strict=True)
    ]


def _figures(result: Result) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "emulated": result.board.emulated,
        f"{result.board.unit}_p50": result.latency.inference.p50,
        f"{result.board.unit}_max": result.latency.inference.max,
        "flash_bytes": flash_bytes(result),
        "ram_bytes": ram_bytes(result),
        "stack_used_bytes": result.memory.stack_used_bytes,
        "parity_equal": result.parity.equal,
        "resends": result.link.resends,
    }
    return figures if result.loop is None else {**figures, "mean_return": result.loop.board.mean}


def print_table(verb: str, outcomes: Sequence[Outcome]) -> None:
    """One table of all boards."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads, lines = _trace(outcomes) if verb == "trace" else _table(COLUMNS[verb], outcomes)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place == 0 else "right")
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


def _table(columns: Mapping[str, Column], outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    found = dict(results(outcomes))
    lines = [
        [outcome.name, *(show(found[outcome.name]) if outcome.name in found else "" for show in columns.values())]
        for outcome in outcomes
    ]
    for line, outcome in zip(lines, outcomes, strict=True):
        line.append("" if outcome.error is None else outcome.error.what)
    return ["", *columns, ""], lines


def _trace(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """A line for each layer, a column for each board."""
    found = dict(results(outcomes))
    layers = {name: {row.name: f"{row.count:,}" for row in result.latency.layers} for name, result in found.items()}
    order = list(dict.fromkeys(layer for counts in layers.values() for layer in counts))
    lines = [[layer, *(layers[name].get(layer, "") for name in found)] for layer in order]
    whole = [f"{result.latency.inference.p50:,}" for result in found.values()]
    heads = [f"{name}, {result.board.unit}" for name, result in found.items()]
    return ["layer", *heads], [*lines, ["whole inference, p50", *whole]]
