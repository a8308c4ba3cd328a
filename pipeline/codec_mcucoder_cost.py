"""What MCUCoder's encoder and ours cost on a board, by this compiler: memory, multiply-accumulates, instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport.core.artifact import Artifact, input_key, open_artifact
from policyport.core.codec_model import BLOCK
from policyport.core.errors import ConfigError
from policyport.core.task import Environment, Task
from policyport.deploy.config import DeployConfig
from policyport.deploy.program import Program
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import stage_named

if TYPE_CHECKING:
    from policyport.train.codec.mcucoder import McuEncoder

BOARD = "mps2-an386"

SIZES = ((240, 320), (224, 224))
"""Rows and columns: a camera's picture, and the one that MCUCoder is published with."""

COUNTED_SIZE = (96, 128)
"""Whose instructions are counted: its pixels fit into a frame of the bridge. Of other sizes the network is the same."""

PUBLISHED_RAM_BYTES = 350_000
"""MCUCoder's, as its paper and repository say: of 224x224, input and first layer's output are 351,232 bytes."""


@dataclass(frozen=True)
class EncoderCost:
    """An encoder's cost."""

    parameters: int
    """Weights and biases."""

    macs_per_pixel: float
    instructions_per_pixel: float
    ram_bytes: Mapping[tuple[int, int], int]
    """By rows and columns of the picture."""

    least_ram_bytes: Mapping[tuple[int, int], int]
    """Likewise, with layers run together by rows wherever that takes less."""

    exact: bool
    """Whether the board computed what the reference does."""


def cost_of_mcucoder(folder: Path, say: Say) -> EncoderCost:
    """Of its encoder with weights as they are before training, which cost the same: its activations, nothing else.

    :param folder: gets its files and the stages' artifacts
    :raises ToolError: no compiler or no emulator
    """
    from policyport.deploy.lower import lower

    arenas, least, built = {}, {}, folder / "unbuilt"
    for size in (*SIZES, COUNTED_SIZE):
        quantized = _quantized(size, folder / f"{size[1]}x{size[0]}", say)
        if size == COUNTED_SIZE:
            built = quantized
            continue
        program = lower(quantized / "model.onnx")
        arenas[size], least[size] = arena_bytes(program), least_arena_bytes(program)
    deployed = _stage("deploy", built, DeployConfig(board=BOARD), built.with_name("deploy"), say)
    instructions, exact = _instructions(deployed)
    encoder, pixels = _encoder(), COUNTED_SIZE[0] * COUNTED_SIZE[1]
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return EncoderCost(parameters, encoder.macs_per_pixel, instructions / pixels, arenas, least, exact)


def cost_of_ours(cell: Path, say: Say) -> EncoderCost:
    """Of a codec's encoder: all the RAM of its firmware, with coder, strip of rows, bridge and stack.

    :param cell: folder with its ``quantize`` artifact
    :raises ToolError: no compiler or no emulator
    """
    from policyport.pipeline.codec_figures import on_board

    deployed = {}
    for size in SIZES:
        config = DeployConfig(board=BOARD, picture_width=size[1])
        deployed[size] = _stage("deploy", cell / "quantize", config, cell / f"deploy-{size[1]}", say)
    ram = {size: int(artifact.manifest.figures["ram_bytes"]) for size, artifact in deployed.items()}
    found = on_board(deployed[SIZES[0]])
    parameters = int(open_artifact(cell / "train", "train").manifest.figures["parameters"])
    return EncoderCost(parameters, found.macs_per_pixel, found.instructions_per_pixel, ram, ram, found.same)


def arena_bytes(program: Program) -> int:
    """Of a Cortex-M4's plan: input and activations."""
    from policyport.deploy.codegen_memory import plan_memory

    return plan_memory(program, "dsp", "size").plan.arena_bytes


def least_arena_bytes(program: Program) -> int:
    """The same where layers run together by rows as long as that takes less."""
    from policyport.deploy.fusing import fit

    least = arena_bytes(program)
    while True:
        try:
            least = arena_bytes(fit(program, "dsp", "size", least - 1))
        except ConfigError:
            return least


def _quantized(size: tuple[int, int], folder: Path, say: Say) -> Path:
    """The integers of its encoder for pictures of a size."""
    from policyport.quantize.config import QuantizeConfig

    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "policy.onnx"
    _write(model, *size)
    # How random weights are rounded counts for nothing.
    config = QuantizeConfig(activations="int8", method="nearest")
    return _stage("quantize", model, config, folder / "quantize", say).path


def _encoder() -> McuEncoder:
    import torch
    from policyport.train.codec.mcucoder import McuEncoder

    torch.manual_seed(0)
    return McuEncoder()


def _write(path: Path, rows: int, columns: int) -> None:
    """Write its encoder, with task and observations beside it."""
    from policyport.train.codec.export import write_mcu_encoder
    from policyport.train.codec.mcucoder import CHANNELS
    from policyport.train.codec.photographs import test_photographs

    write_mcu_encoder(_encoder(), path, rows, columns)
    pixels, numbers = 3 * rows * columns, CHANNELS * (rows // BLOCK) * (columns // BLOCK)
    seen = [picture[:rows, :columns].reshape(-1).astype(np.float32) for picture in test_photographs().values()]
    np.savez_compressed(path.with_name("observations.npz"), observations=seen[:-2], held_out=seen[-2:])
    Task(
        kind="codec",
        name="mcucoder",
        environment=Environment("", {}, {}),
        observation_size=pixels,
        observation_low=(0.0,) * pixels,
        observation_high=(255.0,) * pixels,
        output_size=numbers,
        action_rule="clip",
        action_low=(-1e4,) * numbers,
        action_high=(1e4,) * numbers,
        action_shape=(numbers,),
        algorithm="codec",
    ).write(path.with_name("task.json"))


def _instructions(deployed: Artifact) -> tuple[int, bool]:
    """Of one inference on the emulated board, and whether its output is the reference's."""
    from policyport.core.task import Task
    from policyport.deploy import reference
    from policyport.deploy.board import load_board
    from policyport.deploy.firmware import image_file
    from policyport.deploy.program import quantize_input, read_program
    from policyport.firmware_bridge.client import Bridge
    from policyport.hil.rig import EmulatedRig

    program = read_program(deployed.path)
    with np.load(deployed.file("observations.npz")) as stored:
        observations = Task.read(deployed.file("task.json")).check_input(stored["held_out"][:1])
    q = quantize_input(program, observations)
    with EmulatedRig(load_board(BOARD), image_file(deployed)) as rig, Bridge.open(rig.url) as bridge:
        overhead = bridge.hello().counter_overhead_ticks
        inference = bridge.infer(q[0])
    exact = np.array_equal(inference.output, reference.run(program, q)[-1][0])
    return rig.instructions(inference.ticks, overhead), exact


def _stage(name: str, model: Path, config: Any, out: Path, say: Say) -> Artifact:
    """A stage that takes a model alone, unless it is done."""
    stage = stage_named(name)
    return run_stage(stage, {"model": model}, {stage.inputs["model"]: input_key(model)}, config, out, say)
