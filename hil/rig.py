"""Rigs: a board, real or emulated, as something with a serial port.

A rig owns whatever makes the port exist. What the ticks of the firmware's counter mean is also its
business: on an emulated board they are instructions, on a real one processor cycles.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from policyport.core.closing import Closing
from policyport.core.errors import BoardFaultError, BoardTimeoutError, ToolError
from policyport.core.install import either, pip_install, system_install
from policyport.deploy.board import Board
from policyport.hil import qemu_board, qemu_user_board, unicorn_board
from policyport.hil.result import Unit
from policyport.hil.supervised import Supervised

START_TIMEOUT_S = 30.0
"""How long an emulator may take until it names its port."""

STOP_TIMEOUT_S = 5.0
"""How long an emulator may take to end by itself before it is killed."""

GRACE_S = 0.5
"""How long an emulator whose board faulted may take to write its last words and end."""


class Rig(Protocol):
    """A board whose port can be opened."""

    url: str
    """What pyserial opens."""

    emulated: bool
    emulator: str
    """``qemu``, ``qemu-user``, ``unicorn``, or empty on a real board."""

    unit: Unit
    """What :meth:`instructions` returns: ``cycles`` on a real board, ``nanoseconds`` where it has but a clock."""

    def __enter__(self) -> Rig:
        """Start it."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop it."""

    def instructions(self, ticks: int, overhead: int) -> int:
        """A measurement of ``ticks`` less the counter's own ``overhead`` (both in ticks), in :attr:`unit`."""
        ...

    def learn_counter(self, counter: str) -> None:
        """Take note of the counter that the firmware has, as its HELLO names it."""

    def check_alive(self) -> None:
        """Ask after a request went unanswered: return where the board can still run.

        :raises BoardFaultError: its emulator has ended; the error holds its last words
        """


class SerialRig(Closing):
    """A real board, or anything else that somebody else runs, at a pyserial URL."""

    emulated = False
    emulator = ""

    def __init__(self, board: Board, url: str) -> None:
        self.board = board
        self.url = url
        self.unit: Unit = "cycles"

    def close(self) -> None:
        """Nothing to stop."""

    def instructions(self, ticks: int, overhead: int) -> int:
        """Cycles, or nanoseconds: one per tick."""
        return ticks - overhead

    def learn_counter(self, counter: str) -> None:
        """A clock's ticks are nanoseconds, an emulator's, of a program that somebody else runs in one, instructions."""
        units: dict[str, Unit] = {"clock": "nanoseconds", "emulator": "instructions"}
        self.unit = units.get(counter, "cycles")

    def check_alive(self) -> None:
        """A real board cannot be looked at from here."""


class EmulatedRig(Closing):
    """A board in an emulator that this process starts, and that ends with it.

    :param flash_bin: the content of the board's flash, from its base on; under Linux the program
    :param emulator: ``qemu``, ``unicorn``, or ``auto``: QEMU where it is installed and knows the board
    :param link: ``pty`` or ``socket``; pseudo terminals do not exist on Windows
    :param profile: folder with the markers of the regions to profile; None for no profile
    :param keep: what the firmware writes into its flash stays in ``flash_bin``; in Unicorn alone
    :raises ToolError: where no emulator is installed that models the board
    """

    emulated = True
    unit: Unit = "instructions"

    def __init__(
        self,
        board: Board,
        flash_bin: Path,
        emulator: str = "auto",
        link: str = "socket" if sys.platform == "win32" else "pty",
        profile: Path | None = None,
        keep: bool = False,
    ) -> None:
        self.board = board
        self.emulator = choose_emulator(board, emulator)
        self.url = ""
        self._flash_bin = flash_bin
        if profile is not None and board.linux:
            raise ToolError("programs under Linux are not profiled here", where=board.name)
        self._more = ["--link", link, *(() if profile is None else ("--profile", str(profile.resolve())))]
        self._more += ["--keep"] if keep else []
        self._supervised: Supervised | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> EmulatedRig:
        """Start the emulator and wait until it names its port.

        :raises ToolError: it ended, or named no port in time
        """
        module = f"policyport.hil.{self.emulator.replace('-', '_')}_board"
        arguments = [module, "--board", self.board.name, "--flash", str(self._flash_bin), *self._more]
        with contextlib.ExitStack() as undo:
            self._supervised = undo.enter_context(Supervised(arguments, STOP_TIMEOUT_S))
            self.url = self._read_url(self._supervised)
            self._undo = undo.pop_all()
        return self

    def close(self) -> None:
        """Stop the emulator; returns once its process is gone. Does nothing the second time."""
        self._supervised = None
        self._undo.close()

    def instructions(self, ticks: int, overhead: int) -> int:
        """Executed instructions; QEMU's timer ticks more than four times in one, Unicorn's counters once."""
        per_instruction = qemu_board.ticks_per_instruction(self.board) if self.emulator == "qemu" else 1.0
        return round(ticks / per_instruction) - round(overhead / per_instruction)

    def learn_counter(self, counter: str) -> None:
        """An emulator counts what it is made to."""

    def check_alive(self) -> None:
        """See :class:`Rig`."""
        if self._supervised is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._supervised.process.wait(GRACE_S)
            where, said = f"{self.board.name} in {self.emulator}", self._supervised.last_words()
            raise BoardFaultError("the emulated board ended", where=where, got=said)

    def _read_url(self, supervised: Supervised) -> str:
        where = f"{self.board.name} in {self.emulator}"
        try:
            line = supervised.first_line(START_TIMEOUT_S)
        except queue.Empty:
            raise BoardTimeoutError(
                "the emulator did not name its port", where=where, expected=f"within {START_TIMEOUT_S:.0f} s"
            ) from None
        if not line:
            supervised.process.wait(STOP_TIMEOUT_S)
            raise ToolError("the emulator ended at its start", where=where, got=supervised.last_words())
        return line.removeprefix("pty:")


def choose_emulator(board: Board, emulator: str) -> str:
    """``qemu``, ``unicorn``, or ``qemu-user`` for a board that runs Linux: what ``emulator`` (``auto``, ``qemu``,
    ``unicorn``) means on this machine.

    :raises ToolError: not installed, or it does not model the board
    """
    if board.linux:
        return _user_mode(board, emulator)
    qemu = board.qemu_machine in qemu_board.machines()
    unicorn = importlib.util.find_spec("unicorn") is not None and unicorn_board.core_model(board) is not None
    if emulator in ("auto", "qemu") and qemu:
        return "qemu"
    if emulator in ("auto", "unicorn") and unicorn:
        return "unicorn"
    if emulator == "unicorn" and unicorn_board.core_model(board) is None:
        raise ToolError("Unicorn does not model this board", where=board.name, cure="use QEMU: --emulator qemu")
    if emulator == "qemu" and qemu_board.machines():
        raise ToolError("QEMU does not model this board", where=board.name, expected=f"machine {board.qemu_machine}")
    programs = {"qemu": "qemu-system-arm on PATH", "unicorn": "the Python package unicorn"}
    raise ToolError(
        "no emulator for this board is installed" if emulator == "auto" else f"{emulator} is not installed",
        where=board.name,
        expected=programs.get(emulator, " or ".join(programs.values())),
        cure=either(
            *([] if emulator == "qemu" else [pip_install("[rig]")]),
            *([] if emulator == "unicorn" else system_install("qemu-system-arm")),
        ),
    )


def _user_mode(board: Board, emulator: str) -> str:
    if emulator == "unicorn":
        raise ToolError("Unicorn runs no Linux programs", where=board.name, cure="use QEMU: --emulator qemu")
    if not qemu_user_board.is_installed():
        raise ToolError(
            "no emulator for this board is installed",
            where=board.name,
            expected=f"{qemu_user_board.QEMU} on PATH, on Linux",
            cure=either(*system_install(qemu_user_board.QEMU)),
        )
    return "qemu-user"


def open_rig(board: Board, flash_bin: Path, *, port: str = "", emulator: str = "auto") -> Rig:
    """The rig that runs a board: the real one at ``port``, an emulated one where that is empty.

    :param port: pyserial URL, or ``labgrid:PLACE``
    :raises ToolError: as :class:`EmulatedRig`, or labgrid is not installed
    """
    from policyport.hil.labgrid_rig import PREFIX, LabgridRig

    if port.startswith(PREFIX):
        return LabgridRig(board, port)
    return SerialRig(board, port) if port else EmulatedRig(board, flash_bin, emulator)
