"""The deploy stage: from QDQ ONNX or TFLite to an integer program, its C, and a board's firmware."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import (
    MANIFEST,
    Artifact,
    ArtifactWriter,
    code_version,
    input_key,
    open_artifact,
    write_artifact,
)
from policyport.core.errors import ArtifactError, ConfigError, ParityError, ToolError
from policyport.core.options import to_table
from policyport.deploy.config import DeployConfig
from policyport.deploy.variant import AARCH64_VARIANTS, MICROCONTROLLER_VARIANTS

if TYPE_CHECKING:
    from policyport.core.semantics import Integers
    from policyport.deploy.board import Board
    from policyport.deploy.codegen_memory import Variant
    from policyport.deploy.footprint_page import FootprintMap
    from policyport.deploy.program import Program
    from policyport.deploy.toolchain import Toolchain

_ROOT = Path(__file__).resolve().parent.parent
CODE = (_ROOT / "deploy", _ROOT / "firmware_bridge" / "device", _ROOT / "core")
"""Source folders that this stage's key depends on."""

PARITY_OBSERVATIONS = 256
"""Held-out observations on which the host's C must equal the reference."""

VECTOR_OBSERVATIONS = 8
"""Observations of ``vectors.npz``."""


def deploy(model: Path, config: DeployConfig, out: Path) -> Artifact:
    """Compile a quantized network and build the firmware of a board.

    :param model: folder of a quantize artifact, or a QDQ ``.onnx`` or an int8 ``.tflite``, with ``task.json``
        and ``observations.npz`` beside it or alone: then random inputs stand in for observations
    :raises ConfigError: unknown board, or activations that do not fit ``config.ram`` by any plan
    :raises UnsupportedModelError: an operator or value range outside the integer semantics
    :raises ToolError: no compiler, or it failed
    :raises ParityError: the generated C differs from the reference on this machine
    """
    from policyport.deploy.board import load_board
    from policyport.deploy.toolchain import find_toolchain

    board = load_board(config.board)
    _require_sense(config, board)
    source, key = _source(model)
    toolchain = find_toolchain(config.toolchain, board.linux)
    inputs = {"model": key, "compiler": toolchain.version}
    with write_artifact(out, "deploy", inputs=inputs, config=to_table(config), code=code_version(*CODE)) as writer:
        writer.carry(source.parent)
        _build(source, board, toolchain, config, writer)
    return open_artifact(out, "deploy")


def machine_inputs(config: DeployConfig) -> dict[str, str]:
    """What of this machine the firmware depends on: the compiler that a build would take now, and its version."""
    from policyport.deploy.board import load_board
    from policyport.deploy.toolchain import find_toolchain

    try:
        return {"compiler": find_toolchain(config.toolchain, load_board(config.board).linux).version}
    except (ConfigError, ToolError):
        return {"compiler": "none"}


def model_file(model: Path) -> Path:
    """The file to compile.

    :param model: as :func:`deploy` takes it; what belongs beside a file need not be there
    :raises ArtifactError: neither a quantize folder nor a file
    """
    if (model / MANIFEST).is_file():
        return open_artifact(model, "quantize").file("model.onnx")
    if not model.is_file():
        raise ArtifactError(
            "no model here", where=model, expected="a quantize folder, a QDQ .onnx or an int8 .tflite file"
        )
    return model


def kernels_for(config: DeployConfig) -> Variant:
    """The variant that a configuration means on its board.

    :raises ConfigError: unknown board
    """
    from policyport.deploy.board import load_board

    if config.variant == "auto":
        return load_board(config.board).variant
    return config.variant


def _require_sense(config: DeployConfig, board: Board) -> None:
    """An option that says nothing on this board is not passed over.

    :raises ConfigError: a limit for activations under Linux, or kernels of another family of cores
    """
    if board.linux and config.ram:
        raise ConfigError(
            f"{board.name} runs Linux, and has {board.ram.size >> 20} MiB of RAM: activations need no limit",
            where="[deploy] ram",
            got=config.ram,
            cure="leave it out",
        )
    foreign = MICROCONTROLLER_VARIANTS if board.linux else AARCH64_VARIANTS.values()
    if config.variant in foreign:
        raise ConfigError(
            f"{board.name} is a {board.core}: it does not run these kernels",
            where="[deploy] variant",
            expected=f"auto, c or {board.variant}",
            got=config.variant,
        )


def _source(model: Path) -> tuple[Path, str]:
    """The file to compile, and the key of what it came from."""
    from policyport.deploy.companions import check_companions

    source = model_file(model)
    if source != model:
        return source, open_artifact(model, "quantize").key
    check_companions(model)
    return model, input_key(model)


def _build(source: Path, board: Board, toolchain: Toolchain, config: DeployConfig, writer: ArtifactWriter) -> None:
    from policyport.deploy import reference
    from policyport.deploy.codec_sources import read_coder, write_codec
    from policyport.deploy.codegen import write_sources
    from policyport.deploy.companions import add_companions
    from policyport.deploy.embed import write_manifests
    from policyport.deploy.firmware import PORTS, add_device_sources, build_firmware
    from policyport.deploy.footprint_page import footprint_map
    from policyport.deploy.fusing import fit
    from policyport.deploy.lower import lower
    from policyport.deploy.mlperf import add_mlperf
    from policyport.deploy.program import program_sha256, write_program

    whole = lower(source)
    add_companions(whole, source.stem, writer.path)
    variant = kernels_for(config)
    program = fit(whole, variant, config.optimize, config.ram_bytes)
    write_program(program, writer.path)
    src = writer.path / "src"
    src.mkdir()
    generated = write_sources(program, variant, src, config.optimize)
    if coder := read_coder(writer.path):
        write_codec(program, coder, config.picture_width, src)
    q = _inputs(program, writer.path)[:PARITY_OBSERVATIONS]
    expected = reference.run(whole, q)
    _check_host(program, src, q, {layer.output.name: rows for layer, rows in zip(whole.layers, expected, strict=True)})
    _write_vectors(program, q[:VECTOR_OBSERVATIONS], writer.path / "vectors.npz")
    add_device_sources(src, board)
    if config.mlperf_tiny:
        add_mlperf(src, program, config.mlperf_tiny, board, toolchain)
    firmware = build_firmware(src, board, toolchain, writer.path)
    write_manifests(src, program.name, PORTS[board.uart.driver])
    (writer.path / "footprint.json").write_text(json.dumps(firmware.footprint, indent=2) + "\n")
    found = footprint_map(program, variant, config.optimize, generated, board.core)
    _write_page(found, f"Footprint of {program.name} on {board.name}", writer.path)
    _write_exports(whole, source, q, expected, writer.path)
    writer.tools["compiler"] = toolchain.version
    writer.figures.update(
        board=board.name,
        variant=variant,
        build_id=firmware.build_id,
        model_sha256=program_sha256(program),
        macs=generated.macs,
        **firmware.footprint,
    )


def _inputs(program: Program, folder: Path) -> Integers:
    """Held-out observations as the device gets them, [n, inputs]."""
    import numpy as np
    from policyport.core.task import Task
    from policyport.deploy.program import quantize_input

    with np.load(folder / "observations.npz") as arrays:
        held_out = arrays["held_out"]
    return quantize_input(program, Task.read(folder / "task.json").check_input(held_out))


def _check_host(program: Program, src: Path, q: Integers, expected: Mapping[str, Integers]) -> None:
    """The generated C, compiled for this machine, against the reference, every layer.

    :param q: [n, inputs]
    :param expected: what the reference yields for them, by the activation's name
    :raises ParityError: they differ; the first layer and element are named
    """
    import numpy as np
    from policyport.deploy.host import HostLibrary

    with HostLibrary(src) as library:
        for number, row in enumerate(q):
            for layer, got in zip(program.layers, library.trace(row), strict=True):
                wanted = expected[layer.output.name]
                different = np.flatnonzero(wanted[number] != got)
                if len(different):
                    at = int(different[0])
                    raise ParityError(
                        "the generated C differs from the integer reference on this machine",
                        where=f"layer {layer.name}, element {at}, observation {number}",
                        expected=int(wanted[number][at]),
                        got=int(got[at]),
                    )


def _write_vectors(program: Program, q: Integers, path: Path) -> None:
    import numpy as np
    from policyport.deploy.vectors import model_vectors

    arrays: dict[str, Any] = model_vectors(program, q)
    np.savez_compressed(path, **arrays)


def _write_page(found: FootprintMap, title: str, folder: Path) -> None:
    from policyport.deploy.footprint_page import map_to_table, render_page, to_csv

    (folder / "footprint.html").write_text(render_page(found, title), encoding="utf-8")
    (folder / "footprint_layers.csv").write_text(to_csv(found.layers), encoding="utf-8")
    (folder / "footprint_layers.json").write_text(json.dumps(map_to_table(found), indent=2) + "\n", encoding="utf-8")


def _write_exports(program: Program, source: Path, q: Integers, expected: Sequence[Integers], folder: Path) -> None:
    from policyport.deploy.exports import write_exports

    ours = (source.parent / MANIFEST).is_file()
    table = write_exports(program, None if ours else source, q, expected, folder)
    (folder / "exports.json").write_text(json.dumps(table, indent=2) + "\n")
