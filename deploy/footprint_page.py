"""The footprint page of a deploy: per layer its work, its weights and its kernel; the arena over time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from policyport.core.page import Figure, render
from policyport.deploy.arena_map import Stay, peak_step, picture, stays
from policyport.deploy.candidates import PLAIN, candidates
from policyport.deploy.codegen import rows_text
from policyport.deploy.codegen_memory import Variant, plan_memory, scratch_bytes
from policyport.deploy.fusing import extra_instructions
from policyport.deploy.layers import Affine, Layer, Strips
from policyport.deploy.program import Program


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
    """By the formulas of the kernels' costs; None where there is none. Of layers by rows, those of its parts that have
    one, and what the strips cost."""

    share_estimated: float | None = None
    """Of the instructions of all layers that have an estimate."""


@dataclass(frozen=True)
class FootprintMap:
    """What the page shows, and the files beside it hold."""

    layers: tuple[LayerFootprint, ...]
    arena: tuple[Stay, ...]
    arena_bytes: int
    peak_step: int


def footprint_map(program: Program, variant: Variant, optimize: str) -> FootprintMap:
    """Every layer and every buffer of a program.

    :param optimize: ``size`` or ``speed``
    """
    memory = plan_memory(program, variant, optimize)
    buffers = stays(program, memory, scratch_bytes(program, variant, optimize))
    rows = tuple(_row(i, layer, variant, optimize) for i, layer in enumerate(program.layers, start=1))
    return FootprintMap(_with_shares(rows), buffers, memory.plan.arena_bytes, peak_step(buffers))


def _with_shares(rows: Sequence[LayerFootprint]) -> tuple[LayerFootprint, ...]:
    known = [row.instructions_estimated for row in rows if row.instructions_estimated is not None]
    return tuple(
        row
        if row.instructions_estimated is None
        else replace(row, share_estimated=row.instructions_estimated / sum(known))
        for row in rows
    )


def _row(number: int, layer: Layer, variant: Variant, optimize: str) -> LayerFootprint:
    kind = type(layer).__name__
    if isinstance(layer, Strips):
        rows = [_row(number, part, variant, optimize) for part in layer.layers]
        kernels = " then ".join(row.kernel or row.kind for row in rows)
        name = f"{layer.name}, {rows_text(layer)} at a time"
        costs = [row.instructions_estimated for row in rows if row.instructions_estimated is not None]
        cost = sum(costs) + extra_instructions(layer) if costs else None
        return LayerFootprint(number, name, kind, kernels, layer.macs, sum(row.weights for row in rows), None, cost)
    if not isinstance(layer, Affine):
        return LayerFootprint(number, layer.name, kind, "", layer.macs, 0, None, None)
    kernel, cost = PLAIN, None
    if variant != "c":
        chosen = next(candidate for candidate in candidates(layer, optimize, variant) if candidate.chosen)
        kernel, cost = chosen.name, chosen.instructions
    return LayerFootprint(
        number, layer.name, kind, kernel, layer.macs, int(layer.weights.size), layer.weight_bits, cost
    )


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
    header = ["layer", "name", "kind", "kernel", "MACs", "weights", "bits", "instructions, estimated", "share"]
    rows = [[_word(value) for value in asdict(row).values()] for row in found.layers]
    figure = Figure(picture(found.arena, found.arena_bytes), caption)
    template = Path(__file__).with_name("footprint.html.j2")
    return render(template, {"title": title, "header": header, "rows": rows, "figure": figure})


def _word(value: str | int | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value
