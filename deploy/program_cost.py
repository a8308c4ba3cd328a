"""What each layer of a program takes of a board, without compiling: constants in flash, instructions, and the arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.codegen import layer_code
from policyport.deploy.codegen_memory import plan_memory
from policyport.deploy.codegen_text import BYTES, Constants
from policyport.deploy.kernel_cost_core import Core
from policyport.deploy.program import Program


@dataclass(frozen=True)
class LayerCost:
    """What one layer takes."""

    name: str
    flash_bytes: int
    """Weights as its kernel reads them, biases, multipliers, tables; one of several layers counts to the first."""

    instructions: int
    """Of one inference, by :mod:`policyport.deploy.kernel_cost_core`."""


@dataclass(frozen=True)
class ProgramCost:
    """What a program takes."""

    layers: tuple[LayerCost, ...]
    end_instructions: int
    """Of taking the input and giving the output."""

    arena_bytes: int


class _Counted(Constants):
    """Constants that are counted and not written."""

    def array(self, ctype: str, name: str, values: Integers | Sequence[int], comment: str, size: str = "") -> str:
        """Nothing, of so many bytes."""
        self.flash_bytes += np.asarray(values).size * BYTES[ctype]
        return ""


def program_cost(program: Program, core: Core) -> ProgramCost:
    """What deploy would make of a program for a core."""
    memory, constants = plan_memory(program, core.variant, core.optimize), _Counted()
    found = []
    for number, (layer, instructions) in enumerate(
        zip(program.layers, core.layer_instructions(program), strict=True), start=1
    ):
        before = constants.flash_bytes
        layer_code(number, layer, memory, constants, core.variant, core.optimize)
        found.append(LayerCost(layer.name, constants.flash_bytes - before, instructions))
    return ProgramCost(tuple(found), core.end_instructions(program), memory.plan.arena_bytes)
