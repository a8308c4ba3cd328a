"""Parity: every integer of every layer, on the board and in the reference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from policyport.core.errors import ParityError
from policyport.core.progress import Advance
from policyport.core.semantics import Integers
from policyport.deploy import reference
from policyport.deploy.program import Program
from policyport.hil.result import LayerParity, Mismatch, ParityFigures

if TYPE_CHECKING:
    from policyport.firmware_bridge.client import Bridge


def compare(bridge: Bridge, program: Program, q: Integers, advance: Advance) -> ParityFigures:
    """Trace a board over inputs and compare with the reference.

    :param q: [n, inputs]
    """
    compared = np.zeros(len(program.layers), np.int64)
    equal = np.zeros(len(program.layers), np.int64)
    first: Mismatch | None = None
    expected = reference.run(program, q)
    for number, row in enumerate(q):
        for index, (layer, wanted, got) in enumerate(zip(program.layers, expected, bridge.trace(row), strict=True)):
            want = wanted[number]
            same = want == got.values
            compared[index] += same.size
            equal[index] += int(same.sum())
            if first is None and not same.all():
                at = int(np.flatnonzero(~same)[0])
                first = Mismatch(number, index, layer.name, at, int(want[at]), int(got.values[at]))
        advance(number + 1)
    layers = tuple(
        LayerParity(layer.name, layer.output.size, layer.output.bits, int(total), int(same))
        for layer, total, same in zip(program.layers, compared, equal, strict=True)
    )
    return ParityFigures(len(q), first is None, layers, first)


def write(figures: ParityFigures, path: Path) -> None:
    """Write ``parity.json``."""
    path.write_text(json.dumps(dataclasses.asdict(figures), indent=2) + "\n")


def require_equal(figures: ParityFigures, path: Path) -> None:
    """Refuse a board whose integers differ.

    :param path: where the whole comparison was written
    :raises ParityError: names the first differing layer and index
    """
    first = figures.first_mismatch
    if first is not None:
        raise ParityError(
            "the board's integers differ from the reference",
            where=f"observation {first.observation}, layer {first.layer} ({first.layer_name}), index {first.index}",
            expected=first.expected,
            got=first.got,
            cure=f"layers before it are equal; all layers are in {path}",
        )
