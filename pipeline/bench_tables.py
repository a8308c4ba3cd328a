"""The benchmark as tables: CSV with everything, Markdown for people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.pipeline.bench_peers import Peers
from policyport.pipeline.bench_row import Row

CORE_NAMES = {
    "cortex-m0": "M0",
    "cortex-m0plus": "M0+",
    "cortex-m3": "M3",
    "cortex-m4": "M4",
    "cortex-m7": "M7",
    "cortex-m33": "M33",
    "cortex-m55": "M55",
    "cortex-a53": "A53",
    "cortex-a76": "A76",
}

LINUX_CORES = ("cortex-a53", "cortex-a76")
"""Of Linux boards, without and with instructions for dot products of bytes."""

REFERENCE_CORE = "cortex-m4"
"""The core on which most peers are recorded."""

COLUMNS = (
    *("network", "label", "board", "core", "variant", "emulator", "compiler", "macs"),
    *("instructions", "instructions_max", "cycles", "instructions_per_mac", "cycles_per_mac"),
    *("code_bytes", "constant_bytes", "arena_bytes", "stack_bytes", "parity", "deploy_cpu_s", "error"),
)
"""Of the CSV file, the runtimes' agreement behind them."""

YARDSTICK = "TensorFlow Lite Micro + CMSIS-NN"
"""The tool whose instructions the others are compared with."""


@dataclass(frozen=True)
class Table:
    """Text in rows and columns."""

    head: tuple[str, ...]
    lines: list[tuple[str, ...]]
    text_columns: int
    """The first so many columns are text, the others numbers."""


def core_name(core: str) -> str:
    """``M4`` for ``cortex-m4f``."""
    return CORE_NAMES.get(core.removesuffix("f"), core)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line per measurement."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*COLUMNS, "runtimes"])
        for row in rows:
            runtimes = "; ".join(f"{name} {share:.4f}" for name, share in row.runtimes.items())
            writer.writerow([*(_cell(getattr(row, column)) for column in COLUMNS), runtimes])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def peers_table(rows: Sequence[Row], peers: Peers) -> Table:
    """Each network on the Cortex-M4, every tool in a line."""
    head = (
        *("network", "tool", "instructions", "per MAC", "yardstick / this", "cycles, estimated"),
        *("per MAC", "code, B", "constants or model, B", "arena, B", "stack, B"),
    )
    lines: list[tuple[str, ...]] = []
    for label, group in by_network(rows, REFERENCE_CORE):
        recorded = peers.of(group[0].network, REFERENCE_CORE)
        yardstick = next((peer.instructions for peer in recorded if peer.tool == YARDSTICK), None)
        for row in group:
            numbers: tuple[str, ...] = (row.error, *[""] * 8)
            if not row.error:
                own = (row.code_bytes, row.constant_bytes, row.arena_bytes, row.stack_bytes)
                numbers = _numbers(row.instructions, row.cycles, row.macs, yardstick, own)
            lines.append((label, f"policyport, {row.variant}", *numbers))
        for peer in recorded:
            sizes = (peer.code_bytes, peer.model_bytes, peer.arena_bytes, peer.stack_bytes)
            numbers = _numbers(peer.instructions, peer.cycles, peers.networks[peer.network].macs, yardstick, sizes)
            lines.append((label, peer.tool, *numbers))
    return Table(head, lines, 2)


def _numbers(
    instructions: int, cycles: int | None, macs: int, yardstick: int | None, sizes: Sequence[int | None]
) -> tuple[str, ...]:
    fewer = "" if yardstick is None else f"{yardstick / instructions:.2f}"
    counts = (count(instructions), ratio(instructions, macs), fewer, count(cycles), ratio(cycles, macs))
    return *counts, *map(count, sizes)


def summary_table(rows: Sequence[Row], peers: Peers) -> Table:
    """Each network in int8 on the Cortex-M4 beside the yardstick, where that is recorded, in a line."""
    head = (
        *("network, int8", "instructions", "yardstick", "times fewer", "cycles per MAC, estimated", "yardstick"),
        *("flash, B", "yardstick", "arena and stack, B", "yardstick"),
    )
    lines: list[tuple[str, ...]] = []
    for label, group in by_network(rows, REFERENCE_CORE):
        row = group[0]
        for peer in peers.of(row.network, REFERENCE_CORE):
            if peer.tool != YARDSTICK or row.error:
                continue
            own = (row.code_bytes + row.constant_bytes, row.arena_bytes + row.stack_bytes)
            flash, ram = ((peer.code_bytes, peer.model_bytes), (peer.arena_bytes, peer.stack_bytes))
            lines.append(
                (
                    *(label, count(row.instructions), count(peer.instructions)),
                    f"{peer.instructions / row.instructions:.1f}",
                    *(ratio(row.cycles, row.macs), ratio(peer.cycles, row.macs)),
                    *(count(own[0]), _sum(flash), count(own[1]), _sum(ram)),
                )
            )
    return Table(head, lines, 1)


def _sum(parts: tuple[int | None, int | None]) -> str:
    first, second = parts
    return "" if first is None or second is None else count(first + second)


def cores_table(rows: Sequence[Row], peers: Peers) -> Table:
    """Instructions of each network on each core, in int8, and the fewest of a peer where one is recorded."""
    first = rows[0].variant if rows else ""
    cores = list(dict.fromkeys(row.core for row in rows))
    networks = list(dict.fromkeys(row.label for row in rows))
    found = {(row.label, row.core): row for row in rows if row.variant == first}
    lines = [(name, *(_on_core(found.get((name, core)), peers) for core in cores)) for name in networks]
    return Table(("network", *map(core_name, cores)), lines, 1)


def _on_core(row: Row | None, peers: Peers) -> str:
    if row is None or row.error:
        return ""
    recorded = peers.of(row.network, row.core)
    return count(row.instructions) + (f" (peer {count(recorded[0].instructions)})" if recorded else "")


def linux_table(rows: Sequence[Row], peers: Peers) -> Table:
    """Each network in int8 on the cores of Linux boards, every tool in a line.

    Nothing where neither a board of ours with such a core was measured nor a peer beside it: other rows are about
    other chips.
    """
    head = ("network", "core", "tool", "instructions", "per MAC", "this / policyport", "dot products", "outputs equal")
    lines: list[tuple[str, ...]] = []
    own: dict[tuple[str, str], Row] = {}
    networks: dict[str, Row] = {}
    for row in rows:
        networks.setdefault(row.network, row)
        if row.core in LINUX_CORES and not row.error:
            own.setdefault((row.network, row.core), row)  # of the first variant
    if not own and not peers.measured:
        return Table(head, lines, 3)
    for network, any_row in networks.items():
        macs = peers.networks[network].macs if network in peers.networks else any_row.macs
        for core in LINUX_CORES:
            place = (any_row.label, f"Cortex-{core_name(core)}")
            ours = own.get((network, core))
            if ours is not None:
                counts = (count(ours.instructions), ratio(ours.instructions, macs), "1.00", "")
                lines.append((*place, f"policyport, {ours.variant}", *counts, share(1.0 if ours.parity else None)))
            for peer in peers.of(network, core):
                times = f"{peer.instructions / ours.instructions:.2f}" if ours is not None else ""
                counts = (count(peer.instructions), ratio(peer.instructions, macs), times, count(peer.dot_products))
                lines.append((*place, peer.tool, *counts, share(peer.agreement)))
    return Table(head, lines, 3)


def published_table(rows: Sequence[Row], peers: Peers) -> Table:
    """Published latencies as cycles for each multiply-accumulate, ours estimated on the same kinds of core."""
    networks = list(dict.fromkeys(entry.network for entry in peers.published))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row.network in networks and row.cycles is not None:
            place = ("policyport", f"Cortex-{core_name(row.core)}, estimated")
            lines.setdefault(place, {}).setdefault(row.network, ratio(row.cycles, row.macs))  # of the first variant
    for entry in peers.published:
        place = (f"{entry.who}, {entry.software}, {entry.round}", f"{entry.board}, Cortex-{core_name(entry.core)}")
        lines.setdefault(place, {})[entry.network] = ratio(entry.cycles, peers.networks[entry.network].macs)
    head = ("who", "board", *(peers.networks[name].label for name in networks))
    return Table(head, [(*place, *(cells.get(name, "") for name in networks)) for place, cells in lines.items()], 2)


def by_network(rows: Sequence[Row], core: str) -> list[tuple[str, list[Row]]]:
    """The rows of a core grouped by network, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.core.removesuffix("f") == core:
            groups.setdefault(row.label, []).append(row)
    return list(groups.items())


def markdown(table: Table) -> str:
    """A table in Markdown, numbers to the right."""
    rule = ("---" if i < table.text_columns else "---:" for i in range(len(table.head)))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (table.head, rule, *table.lines))


def count(value: int | None) -> str:
    """Thousands apart; empty for nothing."""
    return "" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """In percent, never rounded up to all; empty for nothing."""
    if value is None:
        return ""
    return "all" if value == 1 else f"{min(100 * value, 99.99):.2f} %"


def ratio(value: int | None, macs: int) -> str:
    """For each multiply-accumulate."""
    return f"{value / macs:.2f}" if value and macs else ""
