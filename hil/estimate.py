"""The cycle estimate of a deployed network: one profiled inference, its layers and its functions."""

from __future__ import annotations

from pathlib import Path

from policyport.core.errors import ToolError
from policyport.core.semantics import Integers
from policyport.deploy.board import Board
from policyport.deploy.program import Program
from policyport.hil.cycle_model import estimate_cycles
from policyport.hil.cycle_rules import Rules, rules_of
from policyport.hil.execution_profile import sum_by_function
from policyport.hil.profiler import Profile, Trace, profile_firmware
from policyport.hil.result import EstimateFigures, FunctionEstimate, LayerEstimate

OTHER = "other"
"""What belongs to no layer: the call, copies of input and output."""


def estimate(board: Board, elf: Path, flash_bin: Path, program: Program, q: Integers, emulator: str) -> EstimateFigures:
    """Profile one inference and apply the rules of the board's core.

    :param elf: the firmware with its symbols
    :param flash_bin: the same as the board's flash holds it
    :param q: [inputs], integers of the input's width
    :param emulator: who runs the board
    :raises ToolError: no rules for this core, no disassembler, or an emulator that cannot profile
    """
    rules = rules_of(board)
    if rules is None:
        raise ToolError("no timing rules for this core", where=board.core)
    profile = profile_firmware(board, elf, flash_bin, q, len(program.layers), emulator)
    whole = estimate_cycles(profile.inference, profile.code, rules)
    empty = sum(estimate_cycles(profile.overhead, profile.code, rules).values())
    cycles = sum(whole.values()) - empty
    return EstimateFigures(
        rules=rules.source,
        instructions=profile.instructions(profile.inference),
        cycles=cycles,
        wait_factor_low=board.wait_states.low,
        wait_factor_high=board.wait_states.high,
        wait_source=board.wait_states.source,
        layers=_layers(program, profile, rules, cycles, empty),
        functions=_functions(profile, profile.inference, whole),
    )


def _layers(program: Program, profile: Profile, rules: Rules, total: int, empty: int) -> tuple[LayerEstimate, ...]:
    rows = []
    for layer, trace in zip(program.layers, profile.layers, strict=True):
        cycles = sum(estimate_cycles(trace, profile.code, rules).values()) - empty
        weights = getattr(layer, "weights", None)
        size = 0 if weights is None else int(weights.size)
        rows.append(
            LayerEstimate(layer.name, layer.macs, size, profile.instructions(trace), cycles, _share(cycles, total))
        )
    instructions = profile.instructions(profile.inference) - sum(row.instructions for row in rows)
    rest = total - sum(row.cycles for row in rows)
    return (*rows, LayerEstimate(OTHER, 0, 0, instructions, rest, _share(rest, total)))


def _functions(profile: Profile, trace: Trace, cycles: dict[int, int]) -> tuple[FunctionEstimate, ...]:
    counted = sum_by_function(trace.counts, profile.code)
    estimated = sum_by_function(cycles, profile.code)
    return tuple(FunctionEstimate(name, count, estimated[name]) for name, count in counted.items())


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
