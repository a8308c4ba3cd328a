"""``policyport study deployment``: policies of three sizes as float32 and as integers on ARM cores.

The deployment study of QuaRL (Krishnan et al., arXiv 1910.01055) had a Raspberry Pi 3b and a drone's task. Here the
core of that board and a Cortex-M4F are emulated: figures are instructions, never seconds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import Artifact, input_key
from policyport.core.errors import ParityError
from policyport.core.task import Task
from policyport.pipeline.emulated_function import FAST_FLOAT, Built, Core, build, call, cortex_a53, cortex_m4f
from policyport.pipeline.float_code import write_float_sources
from policyport.pipeline.quarl_cell import Episode, play_episodes, success_rate
from policyport.pipeline.recipe import Recipe
from policyport.pipeline.run import Asked, Say, run_recipe, run_stage
from policyport.pipeline.stages import stage_named
from policyport.quantize.source import Source, open_source

FLOAT = "float32"

Width = Literal["int8", "int16"]

WIDTHS: tuple[Width, ...] = ("int8", "int16")
"""Of activations; weights have 8 bits in both, the nearest."""

INFERENCES = 3
"""Observations whose inference is counted, and compared; the count is the largest."""

FLOAT_TOLERANCE = 1e-4
"""Largest difference of a float32 output from numpy's, as a share of the largest output: sums in another order."""

FIRST_SEED = 20_000
"""Episode i is reset with this seed plus i: none of training or calibration."""


@dataclass(frozen=True)
class Play:
    """How a policy of some precision flies."""

    mean_return: float
    success_rate: float | None
    """None where the environment knows no success."""


@dataclass(frozen=True)
class Row:
    """A policy of a precision on a core."""

    policy: str
    core: str
    precision: str
    parameters: int
    instructions: int
    flash_bytes: int
    ram_bytes: int
    fits: bool
    """Whether the core's board has that flash."""

    speed_up: float
    """Instructions of float32 on the same core by those of this."""

    play: Play


@dataclass(frozen=True)
class _Code:
    """A policy of one precision: its C, and what it must compute."""

    write: Callable[[Core, Path], None]
    inputs: NDArray[Any]
    """[INFERENCES, inputs] as the C takes them."""

    outputs: NDArray[Any]
    """[INFERENCES, outputs] as numpy has them."""

    tolerance: float
    flags: tuple[str, ...]
    play: Play


def study_deployment(recipe: Recipe, folder: Path, episodes: int, say: Say, done: Callable[[Row], None]) -> list[Row]:
    """Train the policies of a recipe and of its variants, quantize each, and measure all on both cores.

    :param folder: of the recipe's run; what is done there is not done again
    :param done: is told of each row
    :raises UnsupportedModelError: a policy that is not fully connected layers with ReLU
    :raises ToolError: a compiler or the emulator is not installed
    :raises ParityError: a core computes something else than the reference
    """
    cores = (cortex_m4f(), cortex_a53())
    rows = []
    for member in (recipe, *recipe.variants):
        place = folder if member is recipe else folder / member.name
        trained = run_recipe(member, place, say, Asked(until="train")).artifacts["train"]
        for row in _rows(member.name, trained, place / "deployment", cores, episodes, say):
            rows.append(row)
            done(row)
    return rows


def _rows(name: str, trained: Artifact, place: Path, cores: tuple[Core, ...], episodes: int, say: Say) -> Iterator[Row]:
    source = open_source(trained.path)
    codes = {FLOAT: _float_code(source, episodes)}
    for width in WIDTHS:
        codes[width] = _integer_code(trained, width, place, episodes, say)
    for core in cores:
        exact = 0
        for precision, code in codes.items():
            built, instructions = _measure(core, code)
            exact = exact or instructions
            yield Row(
                policy=name,
                core=core.title,
                precision=precision,
                parameters=source.graph.parameters,
                instructions=instructions,
                flash_bytes=built.flash_bytes,
                ram_bytes=built.ram_bytes,
                fits=built.flash_bytes <= core.flash_bytes,
                speed_up=exact / instructions,
                play=code.play,
            )


def _float_code(source: Source, episodes: int) -> _Code:
    graph, seen = source.graph, source.held_out[:INFERENCES]
    outputs = graph.evaluate(seen)
    return _Code(
        write=lambda _, folder: write_float_sources(graph, folder),
        inputs=graph.enter(seen).astype(np.float32),
        outputs=outputs,
        tolerance=FLOAT_TOLERANCE * float(np.abs(outputs).max()),
        flags=FAST_FLOAT,
        play=_play(graph.evaluate, source.task, episodes),
    )


def _integer_code(trained: Artifact, width: Width, place: Path, episodes: int, say: Say) -> _Code:
    from policyport.deploy import reference
    from policyport.deploy.codegen import write_sources
    from policyport.deploy.host import HostLibrary
    from policyport.deploy.lower import lower
    from policyport.deploy.program import dequantize_output, quantize_input
    from policyport.quantize.config import QuantizeConfig

    config = QuantizeConfig(activations=width, method="nearest")
    inputs, keys = {"model": trained.path}, {"train": input_key(trained.path)}
    quantized = run_stage(stage_named("quantize"), inputs, keys, config, place / width, say)
    program = lower(quantized.file("model.onnx"))
    q = quantize_input(program, open_source(trained.path).held_out[:INFERENCES])
    with tempfile.TemporaryDirectory(prefix="policyport-deployment-") as folder:
        write_sources(program, "c", Path(folder))
        with HostLibrary(Path(folder)) as library:
            play = _play(
                lambda seen: dequantize_output(program, library.infer(quantize_input(program, seen))),
                Task.read(quantized.file("task.json")),
                episodes,
            )

    def write(core: Core, folder: Path) -> None:
        write_sources(program, core.variant, folder)

    return _Code(
        write=write,
        inputs=q.astype(f"int{program.input.bits}"),
        outputs=reference.run(program, q)[-1].astype(f"int{program.output.bits}"),
        tolerance=0.0,
        flags=(),
        play=play,
    )


def _play(outputs: Callable[[NDArray[np.float32]], NDArray[np.float32]], task: Task, episodes: int) -> Play:
    played: list[Episode] = play_episodes(outputs, task, FIRST_SEED, episodes)
    rate = success_rate(played)
    return Play(float(np.mean([episode.total for episode in played])), rate)


def _measure(core: Core, code: _Code) -> tuple[Built, int]:
    """Build, call and compare.

    :returns: the program, and its largest count of instructions
    """
    with tempfile.TemporaryDirectory(prefix="policyport-deployment-") as name:
        folder = Path(name)
        code.write(core, folder)
        built = build(core, folder, code.flags)
        most = 0
        for value, expected in zip(code.inputs, code.outputs, strict=True):
            ran = call(built, value, expected)
            difference = np.abs(ran.output.astype(np.float64) - expected.astype(np.float64))
            if not difference.max() <= code.tolerance:
                raise ParityError(
                    "an emulated core computes something else than the reference",
                    where=f"{core.title}, output {int(difference.argmax())}",
                    expected=expected[int(difference.argmax())],
                    got=ran.output[int(difference.argmax())],
                )
            most = max(most, ran.instructions)
    return replace(built, elf=Path(built.elf.name)), most


def to_json(rows: list[Row]) -> str:
    """The rows as JSON."""
    return json.dumps({"schema": 1, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"


def to_markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| policy | parameters | core | precision | instructions | speed-up | flash, B | RAM, B | success | return |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        success = "" if row.play.success_rate is None else f"{row.play.success_rate:.1%}"
        flash = f"{row.flash_bytes:,}" + ("" if row.fits else " (does not fit)")
        lines.append(
            f"| {row.policy} | {row.parameters:,} | {row.core} | {row.precision} | {row.instructions:,} "
            f"| {row.speed_up:.2f} | {flash} | {row.ram_bytes:,} | {success} | {row.play.mean_return:.2f} |"
        )
    return "\n".join(lines) + "\n"
