"""Measures what each kernel takes on each core, for the estimates of :mod:`policyport.deploy.kernel_cycles`.

``python -m policyport.pipeline.kernel_profile FILE`` builds small programs for an emulated board of each core, profiles
every layer, fits the factors of each kernel and writes them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.errors import ToolError
from policyport.deploy.board import Board, load_board
from policyport.deploy.codegen import Optimize, write_sources
from policyport.deploy.codegen_memory import plan_memory
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.footprint_page import kernel_formula
from policyport.deploy.kernel_cycles import HELPERS, TABLE, Factors, layer_features
from policyport.deploy.layers import Layer, Lookup
from policyport.deploy.program import Program
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import random_inputs
from policyport.hil.cycle_model import estimate_cycles
from policyport.hil.cycle_rules import rules_of
from policyport.hil.execution_profile import sum_by_function
from policyport.hil.profiler import profile_firmware
from policyport.pipeline.kernel_programs import kernel_programs

BOARDS = ("microbit", "pico", "mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505")
"""One of each core that has timing rules."""

DIGITS = 6
"""Of a factor."""

BY_SIZE = 0.25
"""The power of a layer's count by which its error weighs: networks spend their time in large layers."""


@dataclass(frozen=True)
class Measured:
    """A profiled layer."""

    layer: Layer
    called: tuple[str, ...]
    formula: int | None
    """Instructions by its kernel's cost."""

    instructions: int
    cycles: int
    instructions_by_function: Mapping[str, int]
    cycles_by_function: Mapping[str, int]


@dataclass(frozen=True)
class Sample:
    """A kernel in a profiled layer."""

    amounts: Factors
    instructions: int
    cycles: int


def profile_layers(board: Board, emulator: str = "auto") -> Iterator[Measured]:
    """What the layers of the programs take on a board's core; of those whose activations fit in half of its RAM.

    :raises ToolError: no compiler, emulator or disassembler
    """
    ways: tuple[Optimize, ...] = ("size", "speed") if board.dsp else ("size",)
    for optimize, program in itertools.product(ways, kernel_programs()):
        if 2 * plan_memory(program, board.variant, optimize).plan.arena_bytes > board.ram.size:
            continue
        yield from profile_program(program, board, optimize, emulator)


def profile_program(program: Program, board: Board, optimize: Optimize, emulator: str = "auto") -> list[Measured]:
    """What each layer of a program takes on a board's core.

    :raises ToolError: no compiler, emulator or disassembler
    """
    rules = rules_of(board)
    if rules is None:
        raise ToolError("no timing rules for this core", where=board.core)
    with tempfile.TemporaryDirectory(prefix="policyport-kernels-") as name:
        src, out = Path(name) / "src", Path(name) / "out"
        src.mkdir()
        out.mkdir()
        generated = write_sources(program, board.variant, src, optimize)
        add_device_sources(src, board)
        built = build_firmware(src, board, find_toolchain("auto", board.linux), out)
        q = random_inputs(program, 4, np.random.default_rng(0))[3]
        profile = profile_firmware(board, built.elf, built.bin, q, len(program.layers), emulator)
    empty = sum(estimate_cycles(profile.overhead, profile.code, rules).values())
    found = []
    for layer, (called,), trace in zip(program.layers, generated.called, profile.layers, strict=True):
        counts = sum_by_function(trace.counts, profile.code)
        timed = estimate_cycles(trace, profile.code, rules)
        cycles = sum(timed.values()) - empty
        _, formula = kernel_formula(layer, board.variant, optimize)
        by_function = sum_by_function(timed, profile.code)
        found.append(Measured(layer, called, formula, profile.instructions(trace), cycles, counts, by_function))
    return found


def samples_of(measured: Measured) -> Iterator[tuple[str, Sample]]:
    """The helpers of a layer by what is executed in them, and its one other kernel by all the rest."""
    instructions, cycles, mains = measured.instructions, measured.cycles, []
    for kernel, amounts, _ in layer_features(measured.layer, measured.called, measured.formula):
        if kernel in HELPERS and not isinstance(measured.layer, Lookup):
            own, own_cycles = measured.instructions_by_function[kernel], measured.cycles_by_function[kernel]
            instructions, cycles = instructions - own, cycles - own_cycles
            yield kernel, Sample(amounts, own, own_cycles)
        else:
            mains.append((kernel, amounts))
    if len(mains) == 1:
        ((kernel, amounts),) = mains
        yield kernel, Sample(amounts, instructions, cycles)


def fit_kernels(measured: Iterable[Measured]) -> dict[str, dict[str, Any]]:
    """A row for each kernel, as ``kernel_cycles.json`` has them."""
    by_kernel: defaultdict[str, list[Sample]] = defaultdict(list)
    for each in measured:
        for kernel, sample in samples_of(each):
            by_kernel[kernel].append(sample)
    return {kernel: _row(found) for kernel, found in sorted(by_kernel.items())}


def _row(samples: Sequence[Sample]) -> dict[str, Any]:
    amounts = np.array([sample.amounts for sample in samples])
    instructions, error = fit_factors(amounts, np.array([float(sample.instructions) for sample in samples]))
    cycles, error_of_cycles = fit_factors(amounts, np.array([float(sample.cycles) for sample in samples]))
    worst = round(max(error, error_of_cycles), 4)
    return {"instructions": instructions, "cycles": cycles, "layers": len(samples), "error": worst}


def fit_factors(amounts: Any, counts: Any) -> tuple[list[float], float]:
    """Factors, none of them negative, whose sums differ least from counts, as shares of these; more of larger ones.

    :param amounts: [n, 4]
    :param counts: [n], positive
    :returns: the factors [4], and the largest difference as a share
    """
    weight = (counts / counts.max()) ** BY_SIZE
    scaled, best = amounts / counts[:, None], (np.inf, np.zeros(amounts.shape[1]))
    for size in range(1, amounts.shape[1] + 1):
        for columns in itertools.combinations(range(amounts.shape[1]), size):
            part, *_ = np.linalg.lstsq(weight[:, None] * scaled[:, columns], weight, rcond=None)
            factors = np.zeros(amounts.shape[1])
            factors[list(columns)] = part
            loss = float(((weight * (scaled @ factors - 1)) ** 2).sum())
            if part.min() >= 0 and loss < best[0] - 1e-12:
                best = loss, factors
    rounded = [float(f"{factor:.{DIGITS}g}") for factor in best[1]]
    return rounded, float(np.abs(scaled @ np.array(rounded) - 1).max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m policyport.pipeline.kernel_profile", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=TABLE, help="where to write the table")
    parser.add_argument("--boards", nargs="+", default=BOARDS, help="one of each core that is measured anew")
    options = parser.parse_args(arguments)
    table: dict[str, Any] = json.loads(options.file.read_text()) if options.file.is_file() else {"cores": {}}
    for name in options.boards:
        board = load_board(name)
        rows = fit_kernels(profile_layers(board))
        table["cores"][board.core.removesuffix("f")] = rows
        table["compiler"] = find_toolchain("auto", False).version
        options.file.write_text(_as_text(table))
        print(f"{board.core}: {len(rows)} kernels, the worst fit {max(row['error'] for row in rows.values()):.1%}")
    return 0


def _as_text(table: Mapping[str, Any]) -> str:
    """The table as JSON, a kernel on each line."""
    cores = []
    for core, rows in sorted(table["cores"].items()):
        lines = [f"  {json.dumps(name)}: {json.dumps(rows[name], sort_keys=True)}" for name in sorted(rows)]
        cores.append(f" {json.dumps(core)}: {{\n" + ",\n".join(lines) + "\n }")
    return f'{{\n"compiler": {json.dumps(table["compiler"])},\n"cores": {{\n' + ",\n".join(cores) + "\n}\n}\n"


if __name__ == "__main__":
    sys.exit(main())
