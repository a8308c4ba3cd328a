"""The flash stage: an image onto a board, and the board's own word for it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from policyport.core.artifact import Artifact, code_version, open_artifact, write_artifact
from policyport.core.errors import ConfigError, IdentityError
from policyport.core.options import to_table
from policyport.core.port_lock import PortLock
from policyport.deploy.board import Board, load_board
from policyport.deploy.config import FlashConfig
from policyport.deploy.firmware import UNIT, image_file
from policyport.deploy.hardware_map import find_entry, port_now
from policyport.deploy.runners import Place, choose_runner, command_lines, is_installed, run_runner, script_files

_ROOT = Path(__file__).resolve().parent.parent
CODE = (_ROOT / "deploy", _ROOT / "firmware_bridge", _ROOT / "core")
"""Source folders that this stage's key depends on."""

EMULATOR = "emulator"
"""The runner of an emulated board, whose flash is a file."""

UNTOUCHED = "none"
"""The runner of a real board that keeps what is on it, which is asked all the same."""

Identify = Callable[[Board, Path, str, float], str]
"""Board, its flash content, its port and seconds to wait for that, to the build id that the board reports."""


def flash(
    image: Path, config: FlashConfig, out: Path, identify: Identify | None = None, installed: Sequence[str] = ()
) -> Artifact:
    """Put a firmware on a board and ask it who it is.

    An emulated board's flash, or its program under Linux, is the file ``flash.bin`` that this writes; a real one is
    programmed by the first of its runners that is installed, or not at all where its runner is ``none``. A real board
    whose port is not known cannot be asked.

    :param image: folder of a deploy artifact
    :param identify: asks the running firmware for its build id; None asks nobody
    :param installed: build ids that are as good as the image's: of the update that was installed since
    :raises ConfigError: the image was built for another board
    :raises BoardError: another board is plugged in, several, or none; or its port is busy
    :raises ToolError: no runner is installed, or it failed
    :raises IdentityError: the board runs another build than the one flashed
    """
    built, board = open_image(image, config)
    content = image_file(built).read_bytes()
    code = code_version(*CODE)
    with write_artifact(out, "flash", inputs={"image": built.key}, config=to_table(config), code=code) as writer:
        (writer.path / "flash.bin").write_bytes(content)
        wanted, place = find_place(board, config)
        runner = wanted if wanted in (EMULATOR, UNTOUCHED) else _program(board, built, wanted, place, config)
        expected = built.manifest.figures["build_id"]
        if identify is not None and config.verify and (place.port or runner == EMULATOR):
            got = identify(board, writer.path / "flash.bin", place.port, config.wait_s)
            _verify(got, (expected, *installed), place.port or board.name)
            expected = got
        record = {
            "board": board.name,
            "runner": runner,
            "build_id": expected,
            "image_sha256": hashlib.sha256(content).hexdigest(),
            "port": place.port or None,
            "board_id": place.id or None,
        }
        (writer.path / "board.json").write_text(json.dumps(record, indent=2) + "\n")
        writer.figures.update(record)
    return open_artifact(out, "flash")


def open_image(image: Path, config: FlashConfig) -> tuple[Artifact, Board]:
    """A deploy artifact and the board that it is for.

    :raises ConfigError: it was built for another board than the configuration names
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
    return built, board


def find_place(board: Board, config: FlashConfig) -> tuple[str, Place]:
    """The runner that is asked for, ``auto`` or ``emulator``, and where the board is; flags win over the hardware map.

    :raises ConfigError: the hardware map does not know the board
    :raises BoardError: it is not plugged in
    """
    runner, place = config.runner, Place(config.port, config.probe)
    if config.hardware_map is not None:
        entry = find_entry(config.hardware_map, board.name, config.board_id)
        port, id = (place.port, "") if place.port else (port_now(board.name, entry.id, entry.serial), entry.id)
        place = Place(port, place.probe or entry.probe_id, id)
        runner = entry.runner if runner == "auto" else runner
    elif runner == "auto" and not (place.port or place.probe):
        runner = EMULATOR
    return runner, Place("", "") if runner == EMULATOR else place


def plan(image: Path, config: FlashConfig) -> list[str]:
    """The command lines that :func:`flash` would run, as a shell takes them; nothing is run.

    Where no program is installed they are those of the first runner, and say so.

    :raises ConfigError: as :func:`flash`
    :raises ToolError: no program is known that flashes the board
    """
    built, board = open_image(image, config)
    wanted, place = find_place(board, config)
    if wanted == EMULATOR:
        return [f"# {board.name} is emulated: its flash is a copy of {image_file(built)}"]
    if wanted == UNTOUCHED:
        return [f"# {board.name} keeps what is on it"]
    runner = choose_runner(board, wanted, place, to_run=False)
    missing = [] if is_installed(runner) else [f"# {runner.command[0]} is not installed"]
    scripts = script_files(board, runner, _files(built), place)
    shown = [f"# {name}: {'; '.join(text.splitlines())}" for name, text in scripts.items()]
    return missing + shown + [shlex.join(line) for line in command_lines(board, runner, _files(built), place)]


def _program(board: Board, built: Artifact, wanted: str, place: Place, config: FlashConfig) -> str:
    """Program a real board, its port locked against whoever would measure meanwhile; the runner's name."""
    runner = choose_runner(board, wanted, place)
    lock = PortLock(place.port) if place.port else None
    if lock is not None:
        lock.acquire(config.wait_s)
    try:
        run_runner(board, runner, _files(built), place, config.timeout_s)
    finally:
        if lock is not None:
            lock.release()
    return runner.name


def _files(built: Artifact) -> dict[str, Path]:
    names = {"bin": "firmware.bin", "hex": "firmware.hex", "elf": "firmware.elf", "unit": UNIT}
    return {kind: built.file(name).resolve() for kind, name in names.items() if name in built.manifest.files}


def _verify(got: str, expected: Sequence[str], where: str) -> None:
    if got not in expected:
        raise IdentityError(
            "the board runs another firmware than the one that was flashed",
            where=where,
            expected=f"build {' or '.join(expected)}",
            got=f"build {got}",
            cure="check that the runner and the port belong to the same board; --installed names an update's file",
        )
