"""The report's numbers as text: tiles, tables and figures, from the evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policyport.hil.report import plots
from policyport.hil.report.data import Evidence
from policyport.hil.result import Distribution, LoopFigures, Result
from policyport.hil.statistics import Summary

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    label: str
    float32: str
    board: str


@dataclass(frozen=True)
class Figure:
    """A drawing and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Part:
    """One part of a memory."""

    name: str
    size_bytes: int
    share: float


@dataclass(frozen=True)
class MemoryMap:
    """A memory and its parts, the policy's first."""

    name: str
    total_bytes: int
    parts: tuple[Part, ...]


def percent(share: float) -> str:
    """``99.8 %``; 100 only where it is exactly all."""
    text = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    return f"{text} %" if share == 1 or text != "100" else "99.99 %"


def number(value: float) -> str:
    """Thousands apart by commas; as many decimals as the size deserves."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def size(count_bytes: float) -> str:
    """Bytes, exact."""
    return f"{int(count_bytes):,} B"


FILTERS: dict[str, Callable[..., str]] = {"percent": percent, "number": number, "size": size}


def spread(summary: Summary) -> str:
    """``497.3 ± 4.1``: mean and standard deviation over the episodes."""
    return f"{summary.mean:.1f} ± {summary.std:.1f}"


def width_label(evidence: Evidence) -> str:
    """``int8`` where weights and activations have 8 bits, else both widths."""
    activations = max((layer.bits for layer in evidence.result.parity.layers), default=8)
    inner = [layer.bits for layer in evidence.result.parity.layers[:-1]] or [activations]
    return "int8" if max(inner) == activations == 8 else f"int8 weights, int{activations} activations"


def tiles(evidence: Evidence) -> list[Tile]:
    """The headline."""
    result = evidence.result
    parity, latency, memory = result.parity, result.latency.inference, result.memory
    shown = []
    if result.loop is not None:
        loop = result.loop
        detail = f"float32 {spread(loop.float32)}, {loop.episodes} seeded episodes"
        shown.append(Tile(spread(loop.board), "return on the board", detail))
        shown.append(Tile(*_action_headline(loop), f"{loop.steps:,} steps, each chosen by the board"))
    values = sum(layer.compared for layer in parity.layers)
    equal = "equal" if parity.equal else "not equal"
    shown.append(Tile(equal, "to the integer reference", f"{values:,} values of {len(parity.layers)} layers"))
    shown.append(Tile(number(latency.p50), f"{result.board.unit} per inference", _range(latency)))
    shown.append(Tile(_recorded(flash_bytes(result)), "flash", _policy_part(result, "flash")))
    shown.append(Tile(_recorded(ram_bytes(result)), "RAM, stack included", _policy_part(result, "ram")))
    shown.append(Tile(size(memory.stack_used_bytes), "stack, painted", f"of {size(memory.stack_bytes)} reserved"))
    sizes = evidence.figures("quantize")
    if "weight_bytes" in sizes:
        detail = f"float32 {size(sizes['float_bytes'])}"
        shown.append(Tile(size(sizes["weight_bytes"]), "weights and biases", detail))
    return shown


def _range(counts: Distribution) -> str:
    if counts.min == counts.max:
        return f"every one of {counts.observations} observations"
    return f"median of {counts.observations}; {counts.min:,} to {counts.max:,}"


def comparison(evidence: Evidence) -> list[Row]:
    """float32 against the board, row by row; the terminal's table too."""
    result = evidence.result
    rows = _loop_rows(result)
    for layer in result.parity.layers:
        same = "equal" if layer.equal == layer.compared else "differ"
        rows.append(Row(f"parity, {layer.name} (int{layer.bits})", "", f"{layer.equal:,} of {layer.compared:,} {same}"))
    latency = result.latency.inference
    for name in ("min", "p50", "p95", "p99", "max"):
        rows.append(Row(f"{result.board.unit} per inference, {name}", "", f"{getattr(latency, name):,}"))
    memory = result.memory
    flash, ram = flash_bytes(result), ram_bytes(result)
    rows.append(Row("flash", "", _with_part(flash, result, "flash")))
    rows.append(Row("RAM, stack included", "", _with_part(ram, result, "ram")))
    rows.append(Row("stack, painted", "", f"{size(memory.stack_used_bytes)} of {size(memory.stack_bytes)}"))
    sizes = evidence.figures("quantize")
    if "float_bytes" in sizes:
        rows.append(Row("model size (weights, biases)", size(sizes["float_bytes"]), size(sizes["weight_bytes"])))
    return rows


def _loop_rows(result: Result) -> list[Row]:
    if result.loop is None:
        return []
    loop = result.loop
    test = loop.equivalence
    verdict = "equivalent" if test.equivalent else "not shown equivalent"
    rows = [
        Row(f"mean return, {loop.episodes} episodes", spread(loop.float32), spread(loop.board)),
        Row(f"return within ±{number(test.margin)} of float32", "", f"{verdict} ({test.difference:+.2f})"),
        Row(_agreement_label(loop), "", percent(loop.agreement)),
    ]
    if not _discrete(loop):
        rows.append(Row("mean action error, of the range", "", f"{100 * loop.action_error:.3g} %"))
    return rows


def _discrete(loop: LoopFigures) -> bool:
    """Whether actions are equal or not: their error is then the share that differs."""
    return abs(loop.action_error - (1 - loop.agreement)) < 1e-9


def _action_headline(loop: LoopFigures) -> tuple[str, str]:
    """How close the actions are, and what that is: agreement where they are discrete, else the mean error."""
    if _discrete(loop):
        return percent(loop.agreement), "actions as float32"
    return f"{100 * loop.action_error:.2g} %", "mean action error, of the range"


def _agreement_label(loop: LoopFigures) -> str:
    return "actions as float32" if _discrete(loop) else "actions within 1 % of float32's"


def flash_bytes(result: Result) -> int:
    """Flash of the whole firmware; 0 where it was not recorded."""
    return int(result.footprint.get("flash_bytes", 0))


def ram_bytes(result: Result) -> int:
    """RAM of the whole firmware, stack included; 0 where it was not recorded."""
    return int(result.footprint.get("ram_bytes", 0))


def _policy_part(result: Result, memory: str) -> str:
    part = result.footprint.get(f"policy_{memory}_bytes")
    return "" if part is None else f"of it the policy {size(part)}"


def _with_part(total: int, result: Result, memory: str) -> str:
    return ", ".join(text for text in (_recorded(total), _policy_part(result, memory)) if text)


def _recorded(count_bytes: int) -> str:
    return size(count_bytes) if count_bytes else NOT_RECORDED


def figures(evidence: Evidence) -> list[Figure]:
    """The drawings that the evidence allows, in reading order."""
    result = evidence.result
    unit = result.board.unit
    shown = []
    if result.loop is not None:
        loop = result.loop
        svg = plots.returns_plot(loop.first_seed, loop.board_returns, loop.float_returns)
        shown.append(
            Figure(svg, f"Return of each seeded episode of {loop.environment}, board and float32 on the same seeds.")
        )
    counts = [int(count) for count in evidence.columns("latency.csv").get(unit, [])]
    if counts:
        caption = f"{unit.capitalize()} of one inference, over {len(counts)} held-out observations."
        shown.append(Figure(plots.histogram_plot(counts, unit), caption))
    shares = result.latency.layers
    svg = plots.share_plot([_short(row.name) for row in shares], [row.count for row in shares], unit)
    shown.append(Figure(svg, f"{unit.capitalize()} of each layer; “other” is the call and the copies in and out."))
    rows = layers(evidence)
    if rows:
        widths = [f"w{row['weight_bits']}, a{row['output_bits']}" for row in rows]
        svg = plots.sqnr_plot([_short(row["name"]) for row in rows], [row["sqnr_db"] for row in rows], widths)
        caption = "Signal to quantization noise of each layer's output; w, a: bits of weights and activations."
        shown.append(Figure(svg, caption))
    curve = evidence.columns("curve.csv")
    if curve.get("steps"):
        svg = plots.curve_plot(curve["steps"], curve["mean_return"], result.algorithm)
        shown.append(Figure(svg, "Mean return of the float32 policy's evaluations while it was trained."))
    return shown


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"…{name[-13:]}"


def layers(evidence: Evidence) -> list[dict[str, Any]]:
    """Rows of ``layers.json``; empty where it was not recorded."""
    table = evidence.table("layers.json")
    return list(table["layers"]) if table else []


def memory_maps(evidence: Evidence) -> list[MemoryMap]:
    """Flash and RAM by what they hold; empty where the footprint does not say."""
    result = evidence.result
    sizes, used = result.footprint, result.memory.stack_used_bytes
    if not {"policy_code_bytes", "policy_constant_bytes", "bridge_flash_bytes", "bridge_ram_bytes"} <= sizes.keys():
        return []
    flash = {
        "policy: code": sizes["policy_code_bytes"],
        "policy: weights and tables": sizes["policy_constant_bytes"],
        "bridge and start-up": sizes["bridge_flash_bytes"],
    }
    ram = {
        "policy: activations": sizes["arena_bytes"],
        "stack: used": used,
        "stack: never touched": sizes["stack_bytes"] - used,
        "bridge: buffers": sizes["bridge_ram_bytes"],
    }
    return [_memory_map("Flash", flash), _memory_map("RAM", ram)]


def _memory_map(name: str, parts: dict[str, int]) -> MemoryMap:
    total = sum(parts.values())
    return MemoryMap(name, total, tuple(Part(part, count, count / total) for part, count in parts.items()))


def exports(evidence: Evidence) -> dict[str, Any]:
    """Agreement of other runtimes on the same integers: ``rows`` and what was ``skipped``; empty where not recorded."""
    return dict(evidence.table("exports.json") or {})
