"""What a layer is expected to take on a core, in instructions and cycles: a table fitted to profiles of the kernels.

For each core and kernel ``kernel_cycles.json`` holds four factors: of a call, of a pixel of the output, of an element
of it, and of the layer's work, which for most kernels is what :mod:`policyport.deploy.kernel_cost` says.
``python -m policyport.pipeline.kernel_profile`` measures them on emulated boards; ``docs/cycle-model.md`` says how far
off they are.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.deploy.kernel_cost import plain_instructions
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Layer, Lookup, Pool

TABLE = Path(__file__).with_name("kernel_cycles.json")

Factors = tuple[float, float, float, float]
"""Of a call, of a pixel of the output, of an element of it, and of the work."""

HELPERS: Mapping[str, Callable[[Layer], int]] = {
    "pp_widen_s8": lambda layer: layer.input.size,
    "pp_narrow_s8": lambda layer: layer.output.size,
    "pp_clamp_s8": lambda layer: layer.output.size,
    "pp_clamp_s16": lambda layer: layer.output.size,
    "pp_lookup_s8": lambda layer: layer.output.size,
    "pp_lookup_s16": lambda layer: layer.output.size,
    "pp_lookup_s8_in_s16": lambda layer: layer.output.size,
    "pp_exchange_s16": lambda layer: 1,
}
"""Kernels that others are followed or preceded by, and how many elements they visit."""


@dataclass(frozen=True)
class Figures:
    """What a kernel takes, or a layer."""

    instructions: float
    cycles: float
    """With memory that never makes the core wait."""


@dataclass(frozen=True)
class Kernel:
    """A row of the table."""

    instructions: Factors
    cycles: Factors
    layers: int
    """How many were profiled."""

    error: float
    """Largest difference from them, in instructions or cycles, as a share."""


@functools.cache
def kernels_of(core: str) -> Mapping[str, Kernel]:
    """The rows of a core by the kernels' names; none of one that was not profiled.

    :param core: as a board names it: ``cortex-m4f``
    """
    rows = json.loads(TABLE.read_text())["cores"].get(core.removesuffix("f"), {})
    return {name: _kernel(row) for name, row in rows.items()}


def _kernel(row: Mapping[str, Any]) -> Kernel:
    return Kernel(_factors(row["instructions"]), _factors(row["cycles"]), row["layers"], row["error"])


def _factors(values: Sequence[float]) -> Factors:
    call, pixel, element, work = values
    return call, pixel, element, work


def layer_figures(layer: Layer, called: Sequence[str], formula: int | None, core: str) -> Figures | None:
    """What a layer is expected to take.

    :param called: the kernels that it calls, one that is called twice named twice
    :param formula: instructions by the kernel's cost, None where it has none
    :returns: None where a kernel is not in the core's table
    """
    rows = kernels_of(core)
    if not rows or not all(name in rows for name in called):
        return None
    seen = [(rows[name], amounts, share) for name, amounts, share in layer_features(layer, called, formula)]
    return Figures(
        sum(share * _sum(row.instructions, amounts) for row, amounts, share in seen),
        sum(share * _sum(row.cycles, amounts) for row, amounts, share in seen),
    )


def _sum(factors: Factors, seen: Factors) -> float:
    return sum(factor * amount for factor, amount in zip(factors, seen, strict=True))


def layer_features(layer: Layer, called: Sequence[str], formula: int | None) -> list[tuple[str, Factors, float]]:
    """What the factors of each kernel of a layer are multiplied with: calls, pixels, elements, work.

    Where several kernels share a layer's rows, each counts as if it did them all, weighed by its share of the calls.

    :param called: as :func:`layer_figures` takes it
    :returns: (kernel, amounts, weight) of each
    """
    counts = Counter(called)
    helpers = [] if isinstance(layer, Lookup) else [name for name in counts if name in HELPERS]
    found = [(name, _visits(HELPERS[name](layer)), 1.0) for name in helpers]
    mains = {name: count for name, count in counts.items() if name not in helpers}
    calls = sum(mains.values())
    target = layer.output
    seen = (float(calls), target.size / target.shape[-1], float(target.size), float(_work(layer, formula, called)))
    return [*found, *((name, seen, count / calls) for name, count in mains.items())]


def _visits(elements: int) -> Factors:
    return 1.0, 1.0, float(elements), float(elements)


def _work(layer: Layer, formula: int | None, called: Sequence[str]) -> float:
    """How much there is to do, in a unit that the kernel's factor turns into instructions or cycles."""
    if isinstance(layer, FullyConnected):
        if formula is not None and called[0].startswith("pp_quads"):
            return formula
        # Rows and inputs are taken by fours; the formulas have in them that an input is widened.
        return math.prod(4 * -(-size // 4) for size in layer.weights.shape)
    if isinstance(layer, Affine):
        assert isinstance(layer, Conv2d)
        return plain_instructions(layer) if formula is None else formula
    if isinstance(layer, Pool):
        return layer.output.size * math.prod(map(min, layer.window.kernel, layer.input.shape))
    return sum(tensor.size for tensor in layer.inputs)
