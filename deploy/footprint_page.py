"""The footprint page of a deploy: per layer its kernel, its weights and what it takes; the arena over time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from policyport.core.page import Figure, render
from policyport.deploy.arena_map import Stay, peak_step, picture, stays
from policyport.deploy.called import Called
from policyport.deploy.candidates import PLAIN, candidates
from policyport.deploy.codegen import Generated, rows_text
from policyport.deploy.codegen_memory import Variant, scratch_bytes
from policyport.deploy.fusing import extra_instructions
from policyport.deploy.kernel_cycles import kernels_of, layer_figures
from policyport.deploy.layers import Affine, Layer, Strips
from policyport.deploy.program import Program

ESTIMATES = ("instructions, estimated", "cycles, estimated", "share")
"""The last columns of the table."""


@dataclass(frozen=True)
class LayerFootprint:
    """One layer's row."""

    layer: int
    name: str
    kind: str
    kernel: str
    macs: int
    weights: int
    """How many, biases not counted."""

    weight_bits: int | None
    instructions_estimated: int | None
    """By the table of the core, else by the formula of the kernel's cost; None where there is neither.
    Of layers by rows, those of its parts, and what the strips cost."""

    cycles_estimated: int | None
    """With memory that never makes the core wait; None where the table has none."""

    share_estimated: float | None = None
    """Of the cycles of all layers that have some, or on a core without cycles of the instructions."""


@dataclass(frozen=True)
class FootprintMap:
    """What the page shows, and the files beside it hold."""

    layers: tuple[LayerFootprint, ...]
    arena: tuple[Stay, ...]
    arena_bytes: int
    peak_step: int
    note: str
    """What the estimates are, and how far off."""


def footprint_map(program: Program, variant: Variant, optimize: str, generated: Generated, core: str) -> FootprintMap:
    """Every layer and every buffer of a program.

    :param optimize: ``size`` or ``speed``
    :param generated: its C, by the same variant
    :param core: whose cycles are estimated, as a board names it
    """
    memory = generated.memory
    buffers = stays(program, memory, scratch_bytes(program, variant, optimize))
    rows = [
        _row(number, layer, called, variant, optimize, core)
        for number, (layer, called) in enumerate(zip(program.layers, generated.called, strict=True), start=1)
    ]
    return FootprintMap(_with_shares(rows), buffers, memory.plan.arena_bytes, peak_step(buffers), _note(rows, core))


def _with_shares(rows: Sequence[LayerFootprint]) -> tuple[LayerFootprint, ...]:
    costs = [row.cycles_estimated for row in rows]
    if all(cost is None for cost in costs):
        costs = [row.instructions_estimated for row in rows]
    total = sum(cost for cost in costs if cost is not None)
    return tuple(
        replace(row, share_estimated=None if cost is None else cost / total if total else 0.0)
        for row, cost in zip(rows, costs, strict=True)
    )


def _note(rows: Sequence[LayerFootprint], core: str) -> str:
    """The sums, what of them is missing, and where they come from."""
    counts = [row.instructions_estimated for row in rows if row.instructions_estimated is not None]
    cycles = [row.cycles_estimated for row in rows if row.cycles_estimated is not None]
    sums = f"{sum(counts):,} instructions" + (f" and {sum(cycles):,} cycles" if cycles else "")
    missing = len(rows) - (len(cycles) if cycles else len(counts))
    said = f"The layers take about {sums}" + (f", {missing} of {len(rows)} not counted" if missing else "") + ". "
    if not kernels_of(core):
        return f"{said}Instructions by the formulas of the kernels' costs; there is no table of cycles of the {core}."
    return (
        f"{said}Estimates by profiles of the kernels on an emulated {core} whose memory never makes it wait; "
        "a measurement (policyport hil) counts exactly. How far off they are: docs/cycle-model.md."
    )


def _row(number: int, layer: Layer, called: Called, variant: Variant, optimize: str, core: str) -> LayerFootprint:
    kind = type(layer).__name__
    if isinstance(layer, Strips):
        rows = [
            _row(number, part, (kernels,), variant, optimize, core)
            for part, kernels in zip(layer.layers, called, strict=True)
        ]
        kernels = " then ".join(row.kernel or row.kind for row in rows)
        name = f"{layer.name}, {rows_text(layer)} at a time"
        weights = sum(row.weights for row in rows)
        return LayerFootprint(number, name, kind, kernels, layer.macs, weights, None, *_together(layer, rows))
    weights, bits = (int(layer.weights.size), layer.weight_bits) if isinstance(layer, Affine) else (0, None)
    kernel, formula = kernel_formula(layer, variant, optimize)
    figures = layer_figures(layer, called[0], formula, core)
    instructions, cycles = (formula, None) if figures is None else (figures.instructions, figures.cycles)
    return LayerFootprint(
        number,
        layer.name,
        kind,
        kernel,
        layer.macs,
        weights,
        bits,
        _whole(instructions),
        _whole(cycles),
    )


def kernel_formula(layer: Layer, variant: Variant, optimize: str) -> tuple[str, int | None]:
    """The kernel of a layer with weights, empty of others, and its instructions by its cost, None where it has none.

    :param optimize: ``size`` or ``speed``
    """
    if not isinstance(layer, Affine):
        return "", None
    if variant == "c":
        return PLAIN, None
    chosen = next(candidate for candidate in candidates(layer, optimize, variant) if candidate.chosen)
    return chosen.name, chosen.instructions


def _together(layer: Strips, rows: Sequence[LayerFootprint]) -> tuple[int | None, int | None]:
    """Instructions and cycles of layers by rows, those of parts without any left out; strips cost as many cycles for
    each instruction as the parts."""
    counts = [row.instructions_estimated for row in rows if row.instructions_estimated is not None]
    if not counts:
        return None, None
    instructions = sum(counts) + extra_instructions(layer)
    cycles = [row.cycles_estimated for row in rows if row.cycles_estimated is not None]
    if len(cycles) < len(rows):
        return instructions, None
    return instructions, round(sum(cycles) * instructions / sum(counts))


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def map_to_table(found: FootprintMap) -> dict[str, Any]:
    """The same as JSON types."""
    return asdict(found)


def to_csv(rows: Sequence[LayerFootprint]) -> str:
    """One line per layer, its fields as columns; an unknown figure is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [field.name for field in fields(LayerFootprint)]
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return stream.getvalue()


def render_page(found: FootprintMap, title: str) -> str:
    """One self-contained HTML page."""
    caption = (
        f"Activations and scratch (the second colour) by step and address; the peak, {found.arena_bytes:,} B, "
        f"is at step {found.peak_step}. Rectangles of one place and overlapping steps are operators in place; where "
        "one covers a part of another, it is written over what its layer has read."
    )
    header = ["layer", "name", "kind", "kernel", "MACs", "weights", "bits", *ESTIMATES]
    rows = [[_word(value) for value in asdict(row).values()] for row in found.layers]
    figure = Figure(picture(found.arena, found.arena_bytes), caption)
    template = Path(__file__).with_name("footprint.html.j2")
    return render(template, {"title": title, "note": found.note, "header": header, "rows": rows, "figure": figure})


def _word(value: str | int | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value
