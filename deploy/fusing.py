"""A program that fits into less memory: neighbouring layers run together, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from policyport.core.errors import ConfigError
from policyport.deploy.codegen_memory import overlaps_of, plan_memory, scratch_bytes, storages_of
from policyport.deploy.layers import Strips
from policyport.deploy.planner import live_by_step
from policyport.deploy.program import Program
from policyport.deploy.strips import Move, row_bytes, runs_by_rows, schedule, stepped_rows
from policyport.deploy.variant import Variant

ROWS = (1, 2, 4, 8)
"""Rows in each step, as they are tried."""

LONGEST = 12
"""Layers that run together, at most."""

CALL_INSTRUCTIONS, MOVED_BYTES = 150, 2
"""Estimates of what strips cost: instructions of a call with few rows, bytes moved in an instruction."""

TRIED = 12
"""Plans that are searched for, of those that may fit."""


@dataclass(frozen=True)
class Plan:
    """A program with some of its layers together."""

    program: Program
    live_bytes: tuple[int, ...]
    """Of each step, the most first: the arena does not go below that."""

    instructions: int
    """Estimate of what the strips take more than whole layers."""


def fit(program: Program, variant: Variant, optimize: str, ram_bytes: int | None) -> Program:
    """The program as it is where its arena fits, else with the layers together whose strips cost least.

    :param ram_bytes: what the arena may take; None for any size
    :raises ConfigError: no plan is small enough; the smallest is named
    """
    if ram_bytes is None:
        return program
    arena = plan_memory(program, variant, optimize).plan.arena_bytes
    smallest = arena
    while arena > ram_bytes:
        plans = [_plan(other, variant, optimize) for other in _fusions(program)]
        for plan in _likely(plans, ram_bytes):
            if plan_memory(plan.program, variant, optimize).plan.arena_bytes <= ram_bytes:
                return plan.program
        best = min(plans, key=lambda plan: (plan.live_bytes, plan.instructions), default=None)
        if best is None or best.live_bytes >= _live(program, variant, optimize):
            raise ConfigError(
                "no plan of the activations fits",
                where="--ram",
                expected=f"at most {ram_bytes:,} bytes",
                got=f"{smallest:,} bytes needed",
                cure=f"--ram {smallest}, or a smaller network or picture",
            )
        program = best.program
        arena = plan_memory(program, variant, optimize).plan.arena_bytes
        smallest = min(smallest, arena)
    return program


def _likely(plans: list[Plan], ram_bytes: int) -> list[Plan]:
    """Those that may fit, the cheapest first."""
    fitting = [plan for plan in plans if plan.live_bytes[0] <= ram_bytes]
    return sorted(fitting, key=lambda plan: (plan.instructions, plan.live_bytes))[:TRIED]


def _plan(program: Program, variant: Variant, optimize: str) -> Plan:
    strips = [layer for layer in program.layers if isinstance(layer, Strips)]
    return Plan(program, _live(program, variant, optimize), sum(extra_instructions(layer) for layer in strips))


def _live(program: Program, variant: Variant, optimize: str) -> tuple[int, ...]:
    scratch, overlaps = scratch_bytes(program, variant, optimize), overlaps_of(program, variant, optimize)
    return live_by_step(program, storages_of(program, variant), scratch, overlaps)


def extra_instructions(layer: Strips) -> int:
    """Estimate of what strips take more than whole layers."""
    actions = [action for step in schedule(layer).steps for action in step]
    moved = sum(a.rows * row_bytes(layer.layers[a.part].output) for a in actions if isinstance(a, Move))
    return CALL_INSTRUCTIONS * len(actions) + moved // MOVED_BYTES


def _fusions(program: Program) -> Iterator[Program]:
    """The program with each run of layers together that may be, by each number of rows in a step."""
    for first in range(len(program.layers)):
        for last in range(first + 1, min(first + LONGEST, len(program.layers))):
            if not runs_by_rows(program.layers[last]) or not runs_by_rows(program.layers[first]):
                break
            if _closed(program, first, last):
                for rows in ROWS:
                    if rows < stepped_rows(program.layers[last]):
                        yield fused(program, first, last, rows)


def _closed(program: Program, first: int, last: int) -> bool:
    """Whether what some layers but the last yield is read by others of them, and by nothing else."""
    inside = {layer.output.name for layer in program.layers[first:last]}
    outside = (*program.layers[:first], *program.layers[last + 1 :])
    read = {operand.name for layer in program.layers[first : last + 1] for operand in layer.inputs}
    read_outside = {program.output.name, *(operand.name for layer in outside for operand in layer.inputs)}
    return inside <= read and not inside & read_outside


def fused(program: Program, first: int, last: int, rows: int) -> Program:
    """The program with some layers together.

    :param first: index of the first of them
    :param last: index of the last
    :param rows: of the last one's output in each step, or of the image whose mean it is
    """
    parts = program.layers[first : last + 1]
    yielded = {part.output.name for part in parts}
    read = {tensor.name: tensor for part in parts for tensor in part.inputs if tensor.name not in yielded}
    together = Strips(parts[-1].name, tuple(read.values()), parts[-1].output, parts, rows)
    return replace(program, layers=(*program.layers[:first], together, *program.layers[last + 1 :]))
