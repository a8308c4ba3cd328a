"""Runners: the programs that flash a real board, which of them, and with which command lines.

What a runner does is data in the board's TOML. Before one writes, what is plugged in is held against the board: the
number of probes, and what the runner's own check prints of the chip.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from policyport.core.errors import BoardBusyError, BoardError, ConfigError, ToolError
from policyport.core.install import either, flash_program_install
from policyport.deploy import uf2_volume
from policyport.deploy.board import Board, Runner
from policyport.deploy.uf2 import uf2_bytes
from policyport.deploy.usb_ports import attached_probes

CHECK_SCRIPT, SCRIPT = "check.script", "write.script"
"""Names of the files of commands that some programs want."""

LAST_LINES = 8
"""Of a program's output that an error shows."""


@dataclass(frozen=True)
class Place:
    """Where a real board is."""

    port: str
    """pyserial URL; empty where it is not known: then nobody can ask the board who it is."""

    probe: str
    """Serial number of its probe, or the SSH destination of a board that runs Linux; empty where there is no choice."""

    id: str = ""
    """USB serial number by which its port was found."""

    @property
    def host(self) -> str:
        """Where SSH finds a board that runs Linux: what was named for it, else the host of its port's URL."""
        return self.probe or (urlsplit(self.port).hostname or "" if "://" in self.port else "")


def is_installed(runner: Runner) -> bool:
    """Whether its program is; a volume needs none."""
    return bool(runner.uf2_boards) or shutil.which(runner.command[0]) is not None


def choose_runner(board: Board, wanted: str, place: Place, *, to_run: bool = True) -> Runner:
    """The runner of that name, or the first that is installed and has what it needs.

    :param wanted: name of a runner, or ``auto``
    :param to_run: else the first that has what it needs will do, where none is installed
    :raises ConfigError: the board has no runner of that name, or that one needs a port
    :raises ToolError: none is installed, or the board has none
    """
    if wanted != "auto" and wanted not in [runner.name for runner in board.runners]:
        raise ConfigError(
            f"{board.name} has no such runner",
            where="--runner",
            expected=", ".join(("auto", "emulator", "none", *(runner.name for runner in board.runners))),
            got=wanted,
        )
    offered = [runner for runner in board.runners if wanted in ("auto", runner.name)]
    reachable = [runner for runner in offered if place.port or "{port}" not in runner.command]
    if offered and not reachable:
        raise ConfigError(f"{wanted} flashes by the serial port", where=board.name, cure="name the port with --port")
    if board.linux and not place.host:
        raise ConfigError(
            "the board's name in the network is not known",
            where=board.name,
            cure="name it with --probe USER@HOST, or in the port: --port socket://HOST:3333",
        )
    usable = [runner for runner in reachable if is_installed(runner)] or ([] if to_run else reachable)
    if usable:
        return usable[0]
    programs = [runner.command[0] for runner in reachable]
    raise ToolError(
        "no program that flashes this board is installed",
        where=f"{board.name}, runner {wanted}",
        expected=", ".join(runner.name for runner in reachable) or "none is known: this board exists emulated",
        cure=either(*(cure for program in programs for cure in flash_program_install(program)))
        if programs
        else "leave --port empty to flash the emulated board",
    )


def command_lines(
    board: Board, runner: Runner, files: Mapping[str, Path], place: Place, scripts: Path = Path()
) -> list[list[str]]:
    """The command lines of a runner: its check, where it has one, what writes, what starts that, where it is needed.

    :param files: ``bin``, ``hex`` and ``elf`` to the image in that form, ``unit`` to what Linux starts it by
    :param scripts: folder of the files of :func:`script_files`
    """
    if runner.uf2_boards:
        return [["cp", _uf2_name(board), f"<volume of {' or '.join(runner.uf2_boards)}>"]]
    select = runner.select if place.probe else ()
    lines = []
    for template, script in ((runner.check, CHECK_SCRIPT), (runner.command, SCRIPT), (runner.after, "")):
        values = _values(board, files, place) | {"script": str(scripts / script)}
        parts = [part for item in template for part in (select if item == "{select}" else (item,))]
        lines += [[part.format(**values) for part in parts]] if parts else []
    return lines


def script_files(board: Board, runner: Runner, files: Mapping[str, Path], place: Place) -> dict[str, str]:
    """Name to content of the files that a runner's command lines name; empty where they need none."""
    values = _values(board, files, place)
    scripts = {CHECK_SCRIPT: runner.check_script, SCRIPT: runner.script}
    return {name: "".join(f"{line.format(**values)}\n" for line in lines) for name, lines in scripts.items() if lines}


def _values(board: Board, files: Mapping[str, Path], place: Place) -> dict[str, str]:
    values = {name: str(path) for name, path in files.items()}
    return values | {"base": hex(board.flash.base), "port": place.port, "probe": place.probe, "host": place.host}


def run_runner(board: Board, runner: Runner, files: Mapping[str, Path], place: Place, timeout_s: float) -> None:
    """Check that the right board is there, and put the image on it.

    :raises BoardError: another board is there, several are, or none
    :raises ToolError: the program that writes failed, or took too long
    """
    _require_one_probe(board, place)
    if runner.uf2_boards:
        volume = uf2_volume.choose_volume(board.name, runner.uf2_boards)
        image = uf2_bytes(files["bin"].read_bytes(), board.flash.base, runner.uf2_family)
        uf2_volume.copy_image(image, volume, _uf2_name(board))
        return
    with tempfile.TemporaryDirectory(prefix="policyport-flash-") as scripts:
        for name, text in script_files(board, runner, files, place).items():
            Path(scripts, name).write_text(text)
        lines = command_lines(board, runner, files, place, Path(scripts))
        if runner.check:
            check = lines.pop(0)
            printed = _run(check, timeout_s, BoardError("the board was not found", cure=_cure(board, place)))
            _require_match(board, runner, place, check, printed)
        for line in lines:
            _run(line, timeout_s, ToolError("the board was not flashed", cure=_cure(board, place)))


def _cure(board: Board, place: Place) -> str:
    """What to look at where a program does not reach the board."""
    if board.linux:
        return f"check that this works and asks for no password: ssh {place.host} true"
    return "check that the probe is plugged in and nobody else uses it; policyport boards doctor says more"


def _uf2_name(board: Board) -> str:
    return f"{board.name}.uf2"


def _require_one_probe(board: Board, place: Place) -> None:
    """A program that is told no probe takes the first that it finds, which may be another board's."""
    probes = attached_probes(board)
    if not place.probe and len(probes) > 1:
        raise BoardBusyError(
            "several probes are plugged in that can program this board",
            where=board.name,
            got=", ".join(probe or "one without a serial number" for probe in probes),
            cure="say which with --probe SERIAL, or in a hardware map",
        )


def _require_match(board: Board, runner: Runner, place: Place, check: Sequence[str], printed: str) -> None:
    """What a check printed must be what this board's chip and the named probe make it print."""
    pattern = runner.expect.replace("{probe}", re.escape(place.probe) if place.probe else r"\S+")
    if re.search(pattern, printed, re.IGNORECASE | re.MULTILINE) is None:
        raise BoardError(
            "what is plugged in is not this board; nothing was written",
            where=f"{board.name}: {shlex.join(check)}",
            expected=f"output that matches {pattern}",
            got=_last_lines(printed) or "nothing",
            cure="check which board the probe is wired to, and --probe and --board",
        )


def _run(command: Sequence[str], timeout_s: float, failed: BoardError | ToolError) -> str:
    """Run a program.

    :param failed: what it means where the program fails
    :returns: all that it printed
    :raises BoardError: it failed, where that means a missing board
    :raises ToolError: it failed, or took too long
    """
    where, kind = shlex.join(command), type(failed)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ToolError("flashing took too long", where=where, expected=f"{timeout_s:g} s") from error
    except OSError as error:
        raise ToolError(failed.what, where=where, got=error) from error
    printed = done.stderr + done.stdout
    if done.returncode != 0:
        got = f"exit code {done.returncode}\n{_last_lines(printed)}"
        raise kind(failed.what, where=where, got=got, cure=failed.cure)
    return printed


def _last_lines(printed: str) -> str:
    return "\n".join(printed.strip().splitlines()[-LAST_LINES:])
