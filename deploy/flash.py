"""The flash stage: an image onto a board, and the board's own word for it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from policyport.core.artifact import Artifact, code_version, open_artifact, write_artifact
from policyport.core.errors import ConfigError, IdentityError, ToolError
from policyport.core.options import to_table
from policyport.deploy.board import Board, Runner, load_board
from policyport.deploy.config import FlashConfig

_ROOT = Path(__file__).resolve().parent.parent
CODE = (_ROOT / "deploy", _ROOT / "firmware_bridge", _ROOT / "core")
"""Source folders that this stage's key depends on."""

Identify = Callable[[Board, Path, str], str]
"""Board, its flash content and its port to the build id that the running firmware reports."""


def flash(image: Path, config: FlashConfig, out: Path, identify: Identify | None = None) -> Artifact:
    """Put a firmware on a board and ask it who it is.

    An emulated board's flash is the file ``flash.bin`` that this writes; a real one is programmed by
    the first of its runners that is installed.

    :param image: folder of a deploy artifact
    :param identify: asks the running firmware for its build id; None asks nobody
    :raises ConfigError: the image was built for another board
    :raises ToolError: no runner is installed, or it failed
    :raises IdentityError: the board runs another build than the one flashed
    """
    built = open_artifact(image, "deploy")
    board = load_board(built.manifest.figures["board"])
    if config.board not in ("", board.name):
        raise ConfigError(
            "the image was built for another board",
            where=image,
            expected=load_board(config.board).name,
            got=board.name,
            cure=f"build it for this one: policyport deploy MODEL --board {config.board}",
        )
    content = built.file("firmware.bin").read_bytes()
    code = code_version(*CODE)
    with write_artifact(out, "flash", inputs={"image": built.key}, config=to_table(config), code=code) as writer:
        (writer.path / "flash.bin").write_bytes(content)
        runner = _program(board, built, config) if config.port else "emulator"
        expected = built.manifest.figures["build_id"]
        if identify is not None and config.verify:
            _verify(identify(board, writer.path / "flash.bin", config.port), expected, config.port or board.name)
        record = {
            "board": board.name,
            "runner": runner,
            "build_id": expected,
            "image_sha256": hashlib.sha256(content).hexdigest(),
            "port": config.port or None,
        }
        (writer.path / "board.json").write_text(json.dumps(record, indent=2) + "\n")
        writer.figures.update(record)
    return open_artifact(out, "flash")


def _verify(got: str, expected: str, where: str) -> None:
    if got != expected:
        raise IdentityError(
            "the board runs another firmware than the one that was flashed",
            where=where,
            expected=f"build {expected}",
            got=f"build {got}",
            cure="check that the runner and the port belong to the same board",
        )


def _program(board: Board, built: Artifact, config: FlashConfig) -> str:
    """Program a real board; the runner's name."""
    runner = _choose(board, config.runner)
    values = {name: str(built.file(f"firmware.{name}").resolve()) for name in ("bin", "hex", "elf")}
    values["base"] = hex(board.flash.base)
    command = [part.format(**values) for part in runner.command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=config.timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ToolError("flashing took too long", where=runner.name, expected=f"{config.timeout_s} s") from error
    if done.returncode != 0:
        last = "\n".join((done.stderr + done.stdout).strip().splitlines()[-8:])
        raise ToolError(
            "the board was not flashed",
            where=" ".join(command),
            got=f"exit code {done.returncode}\n{last}",
            cure="check that the probe is plugged in and nobody else uses it",
        )
    return runner.name


def _choose(board: Board, wanted: str) -> Runner:
    offered = [runner for runner in board.runners if wanted in ("auto", runner.name)]
    for runner in offered:
        if shutil.which(runner.command[0]) is not None:
            return runner
    raise ToolError(
        "no program that flashes this board is installed",
        where=f"{board.name}, runner {wanted}",
        expected=", ".join(runner.name for runner in board.runners) or "none is known: this board exists emulated",
        cure=f"install {offered[0].name}" if offered else "leave --port empty to flash the emulated board",
    )
