"""The rest of the page: headline numbers, figures, memory maps, tables, from the evidence."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from policyport.core.page import Figure, Tile
from policyport.hil.coding_figures import CodingFigures, Rate
from policyport.hil.report import plots
from policyport.hil.report.comparison import action_label, flash_bytes, is_discrete, policy_part, ram_bytes
from policyport.hil.report.data import Evidence
from policyport.hil.report.text import number, percent, recorded, several, size, spread
from policyport.hil.result import Distribution, LoopFigures


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


def tiles(evidence: Evidence) -> list[Tile]:
    """The headline."""
    result = evidence.result
    latency, memory = result.latency.inference, result.memory
    shown = []
    if result.loop is not None:
        loop = result.loop
        shown.append(Tile(spread(loop.board), "return on the board", f"float32 {spread(loop.float32)}"))
        shown.append(Tile(*_action_headline(loop), f"{loop.steps:,} steps, each chosen by the board"))
    if result.recognition is not None:
        found = result.recognition
        shown.append(Tile(f"{found.board_f1:.3f}", "mean F1 on the board", f"float32 {found.float_f1:.3f}"))
        shown.append(Tile(percent(found.agreement), "calls as float32", f"{found.pictures:,} pictures"))
    if result.coding is not None:
        coding = result.coding
        files = f"network and coder, {several(len(coding.files), 'file')} by the board"
        shown.append(Tile(f"{coding.per_pixel:.0f}", f"{result.board.unit} per pixel", files))
        shown.append(Tile(number(coding.compared_bytes), "bytes as the reference's", "all that the board coded"))
        for row in coding.qualities:
            detail = f"{row.board.bits_per_pixel:.3f} bits per pixel, quality {row.quality}"
            shown.append(Tile(f"{row.board.psnr_db:.1f} dB", "PSNR", detail))
    shown.append(Tile(number(latency.p50), f"{result.board.unit} per inference", _range(latency)))
    shown.append(Tile(_parity(evidence), "integers as the reference", "every layer, on the board"))
    shown.append(Tile(recorded(flash_bytes(result)), "flash", policy_part(result, "flash")))
    shown.append(Tile(recorded(ram_bytes(result)), "RAM, stack included", policy_part(result, "ram")))
    shown.append(Tile(size(memory.stack_used_bytes), "stack, painted", f"of {size(memory.stack_bytes)} reserved"))
    sizes = evidence.figures("quantize")
    if "weight_bytes" in sizes:
        detail = f"float32 {size(sizes['float_bytes'])}"
        shown.append(Tile(size(sizes["weight_bytes"]), "weights and biases", detail))
    return shown


def _parity(evidence: Evidence) -> str:
    layers = evidence.result.parity.layers
    return percent(sum(layer.equal for layer in layers) / sum(layer.compared for layer in layers))


def _range(counts: Distribution) -> str:
    if counts.min == counts.max:
        return f"every one of {counts.observations} observations"
    return f"median of {counts.observations}; {counts.min:,} to {counts.max:,}"


def _action_headline(loop: LoopFigures) -> tuple[str, str]:
    """How close the actions are, and what that is: agreement where they are discrete, else the mean error."""
    if is_discrete(loop):
        return percent(loop.agreement), action_label(loop)
    return f"{100 * loop.action_error:.2g} %", "mean action error, of the range"


def figures(evidence: Evidence) -> list[Figure]:
    """The drawings that the evidence allows, in reading order; of counts that are all the same there is none."""
    result = evidence.result
    unit = result.board.unit
    shown = []
    if result.loop is not None:
        loop = result.loop
        svg = plots.returns_plot(loop.first_seed, loop.board_returns, loop.float_returns)
        shown.append(
            Figure(svg, f"Return of each seeded episode of {loop.environment}, board and float32 on the same seeds.")
        )
        if loop.delays:
            shown.append(_delay_figure(loop))
    if result.recognition is not None:
        labels = result.recognition.labels
        columns = [[getattr(label, name) for label in labels] for name in ("name", "board_f1", "float_f1")]
        caption = f"F1 of each label over {result.recognition.pictures:,} held-out pictures."
        shown.append(Figure(plots.recognition_plot(*columns), caption))
    if result.coding is not None:
        columns = [[(rate.bits_per_pixel, rate.psnr_db) for rate in one] for one in _rates(result.coding)]
        caption = f"PSNR over the bits of whole files, means over {several(result.coding.pictures, 'picture')}."
        shown.append(Figure(plots.rates_plot(*columns), caption))
    shown += _curve_figures(evidence)
    counts = [int(count) for count in evidence.columns("latency.csv").get(unit, [])]
    if len(set(counts)) > 1:
        caption = f"{unit.capitalize()} of one inference, over {len(counts)} held-out observations."
        shown.append(Figure(plots.histogram_plot(counts, unit), caption))
    return shown + _layer_figures(evidence)


def _rates(coding: CodingFigures) -> tuple[list[Rate], list[Rate]]:
    """Of the board and of float32, by quality."""
    rows = sorted(coding.qualities, key=lambda row: row.quality)
    return [row.board for row in rows], [row.float32 for row in rows]


def _delay_figure(loop: LoopFigures) -> Figure:
    summaries = [loop.board, *(late.board for late in loop.delays)]
    columns = [[getattr(one, name) for one in summaries] for name in ("mean", "low", "high")]
    svg = plots.delays_plot([0, *(late.delay_steps for late in loop.delays)], *columns)
    return Figure(svg, "Mean return on the board with actions of some steps ago, and its bootstrap interval.")


def _curve_figures(evidence: Evidence) -> list[Figure]:
    curve, algorithm = evidence.columns("curve.csv"), evidence.result.algorithm
    by = f" ({algorithm})" if algorithm else ""
    if curve.get("mean_return"):
        svg = plots.curve_plot(
            curve["steps"], curve["mean_return"], f"environment steps of training{by}", "mean return"
        )
        return [Figure(svg, "Mean return of the float32 policy's evaluations while it was trained.")]
    if curve.get("auc"):
        svg = plots.curve_plot(curve["steps"], curve["auc"], f"batches of training{by}", "mean AUC")
        return [Figure(svg, "Mean area under the curve on the validation pictures while float32 was trained.")]
    return []


def _layer_figures(evidence: Evidence) -> list[Figure]:
    unit, shares, rows = evidence.result.board.unit, evidence.result.latency.layers, layers(evidence)
    svg = plots.share_plot([_short(row.name) for row in shares], [row.count for row in shares], unit)
    shown = [Figure(svg, f"{unit.capitalize()} of each layer; “other” is the call and the copies in and out.")]
    if rows:
        widths = [f"w{row['weight_bits']}, a{row['output_bits']}" for row in rows]
        svg = plots.sqnr_plot([_short(row["name"]) for row in rows], [row["sqnr_db"] for row in rows], widths)
        caption = "Signal to quantization noise of each layer's output; w, a: bits of weights and activations."
        shown.append(Figure(svg, caption))
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


@dataclass(frozen=True)
class Shown:
    """A picture in the page."""

    source: str
    """A data URL."""

    name: str
    detail: str


def pictures(evidence: Evidence) -> list[Shown]:
    """The first coded picture, and what is decoded of it at each quality; empty where none was coded."""
    coding = evidence.result.coding
    if coding is None:
        return []
    first = coding.files[0]
    names = {"original.png": ("original", f"{first.picture}, {first.width} x {first.height} pixels")}
    names |= {f"quality-{row.quality}.png": (f"quality {row.quality}", "decoded") for row in coding.qualities}
    found = {name: evidence.find(f"coded/{name}") for name in names}
    return [Shown(_data_url(path.read_bytes()), *names[name]) for name, path in found.items() if path is not None]


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def exports(evidence: Evidence) -> dict[str, Any]:
    """Agreement of other runtimes on the same integers: ``rows`` and what was ``skipped``; empty where not recorded."""
    return dict(evidence.table("exports.json") or {})
