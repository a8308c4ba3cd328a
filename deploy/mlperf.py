"""What a firmware that MLPerf Tiny's runner drives has besides: the commands, and what they need to know of the model.

The runner is that of github.com/mlcommons/tiny, benchmark/runner; how a model's bytes become its input is what the
reference submissions there do (benchmark/reference_submissions). docs/mlperf-tiny.md has the commands.
"""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

from policyport.core.errors import ConfigError, ToolError, UnsupportedModelError
from policyport.core.install import either, system_install
from policyport.core.semantics import activation_range
from policyport.deploy.board import Board
from policyport.deploy.layers import Tensor
from policyport.deploy.program import Program
from policyport.deploy.toolchain import Toolchain

COMMANDS = Path(__file__).resolve().parent.parent / "firmware_bridge" / "device" / "mlperf"

PIXELS = ("ic01", "vww01")
"""Models to which the runner sends pixels of 0 to 255: the input is 128 below them."""

FEATURES = ("ad01",)
"""Models to which it sends float32, and of which the result is how far the output is from the input."""

MANTISSA_BITS = 30
"""So that the product with the 17 bits of an output goes in two halves of 15 into 32 bits each."""

LARGEST_RESULT = 2_000_000.0
"""Results are printed as thousandths in 32 bits."""


def add_mlperf(folder: Path, program: Program, model: str, board: Board, toolchain: Toolchain) -> None:
    """Put the runner's commands beside a firmware's sources, in place of what serves the bridge alone.

    :param model: what the runner is told, ``ic01`` say; one that it does not know has its input's integers loaded
    :raises ConfigError: no name of a model
    :raises ToolError: the compiler has no floating point for the core
    :raises UnsupportedModelError: the network does not have the shape of that model, or its results are too large
    """
    if not re.fullmatch(r"[a-z0-9_-]{1,16}", model):
        raise ConfigError(
            "this is no name of a model",
            where="mlperf_tiny",
            expected="ad01, ic01, kws01, vww01, or up to 16 small letters and digits",
            got=model,
        )
    _check_shape(program, model)
    if model in FEATURES and toolchain.name == "zig" and not board.core.endswith("f"):
        raise ToolError(
            f"{model} takes floating point, and zig has none for a core without a unit for it",
            where=board.name,
            cure=either("--toolchain gcc", *system_install("arm-none-eabi-gcc")),
        )
    for path in COMMANDS.iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / "pp_mlperf_model.h").write_text(model_header(program, model))


def _check_shape(program: Program, model: str) -> None:
    given, taken = program.output, program.input
    if model in (*PIXELS, *FEATURES) and taken.bits != 8:
        raise UnsupportedModelError(f"{model} has an input of 8 bits", where=program.name, got=f"{taken.bits} bits")
    if model in FEATURES and given.size != taken.size:
        raise UnsupportedModelError(
            f"the output of {model} is compared with its input",
            where=program.name,
            expected=f"{taken.size} outputs",
            got=given.size,
        )
    largest = max(abs(end - given.zero_point) for end in activation_range(given.bits)) * given.scale
    if largest >= LARGEST_RESULT:
        raise UnsupportedModelError(
            "results too large for MLPerf's format", where=program.name, expected="below 2,000,000", got=largest
        )


def model_header(program: Program, model: str) -> str:
    """``pp_mlperf_model.h``: what the commands need to know of the model."""
    low, high = program.input.low, program.input.high
    mantissa, shift = thousandths(program.output)
    return (
        "/* Written by the build: which model MLPerf Tiny's runner is told, and how its numbers are meant. */\n"
        "#ifndef PP_MLPERF_MODEL_H\n#define PP_MLPERF_MODEL_H\n\n"
        f'#define PP_MLPERF_MODEL "{model}"\n'
        f"#define PP_MLPERF_FLOAT {int(model in FEATURES)}\n"
        f"#define PP_MLPERF_FLIP {0x80 if model in PIXELS else 0}u\n"
        f"#define PP_MLPERF_INPUT_SCALE {program.input.scale!r}f\n"
        f"#define PP_MLPERF_INPUT_ZERO_POINT ({program.input.zero_point})\n"
        f"#define PP_MLPERF_INPUT_LOW ({low})\n"
        f"#define PP_MLPERF_INPUT_HIGH {high}\n"
        f"#define PP_MLPERF_OUTPUT_SCALE {program.output.scale!r}f\n"
        f"#define PP_MLPERF_OUTPUT_ZERO_POINT ({program.output.zero_point})\n"
        f"#define PP_MLPERF_THOUSANDTHS {mantissa} /* thousandths = integer * this >> shift */\n"
        f"#define PP_MLPERF_SHIFT {shift}\n\n"
        "#endif\n"
    )


def thousandths(tensor: Tensor) -> tuple[int, int]:
    """A tensor's scale in thousandths as ``mantissa * 2**-shift``, 30 bits of it; the shift is at least 1."""
    fraction, exponent = math.frexp(1000.0 * tensor.scale)
    shift = min(MANTISSA_BITS - exponent, 62)
    return round(fraction * 2.0 ** (exponent + shift)), shift
