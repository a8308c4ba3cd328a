"""A board emulated by ``qemu-system-arm``, under a supervisor that never leaves QEMU behind.

    python -m policyport.hil.qemu_board --board mps2-an386 --flash flash.bin

prints ``pty:/dev/pts/N`` (or ``socket://127.0.0.1:PORT`` with ``--link socket``) and runs until standard
input closes. Time is counted in instructions: ``-icount shift=N`` makes one instruction last 2**N ns of the
board's time, so the same work always takes the same number of timer ticks.
"""

from __future__ import annotations

import functools
import math
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from policyport.core.errors import ToolError
from policyport.core.install import either, pip_install, system_install
from policyport.deploy.board import Board, load_board
from policyport.hil import tcg_plugin
from policyport.hil.emulator_arguments import add_profile, emulator_parser
from policyport.hil.lifeline import die_with_parent, watch_parent

QEMU = "qemu-system-arm"
PTY_LINE = re.compile(r"char device redirected to (/dev/\S+)")


@functools.cache
def machines() -> frozenset[str]:
    """Names of the machines that the installed QEMU models; empty where there is no QEMU."""
    program = shutil.which(QEMU)
    if program is None:
        return frozenset()
    listing = subprocess.run([program, "-M", "help"], capture_output=True, text=True, timeout=30, check=True).stdout
    return frozenset(line.split()[0] for line in listing.splitlines()[1:] if line.split())


def icount_shift(board: Board) -> int:
    """One instruction lasts ``2**shift`` ns: the board's shift, or what makes it last more than four timer ticks.

    A difference of two timer readings is off by less than one tick, and the time of SysTick's exceptions that the
    firmware takes out of it by less than another, so it then rounds to the right count.
    """
    return max(board.qemu_icount_shift, math.floor(math.log2(4e9 / board.clock_hz)) + 1)


def ticks_per_instruction(board: Board) -> float:
    """Ticks of SysTick while one instruction is executed, the mean over whole turns of its 24 bits.

    QEMU reloads the timer after whole nanoseconds, so a turn is up to one shorter than 2**24 ticks of the board's clock
    (``ptimer_reload`` in hw/core/ptimer.c).
    """
    turn_ns = 2**24 * 1_000_000_000 // board.clock_hz
    return 2.0 ** (24 + icount_shift(board)) / turn_ns


def command_line(board: Board, flash: Path, serial: list[str]) -> list[str]:
    """The command that runs a board.

    :param serial: QEMU options for the first serial port
    :raises ToolError: where the installed QEMU lacks the board's machine, or there is no QEMU
    """
    machine = board.qemu_machine
    if machine is None or machine not in machines():
        raise ToolError(
            "QEMU does not model this board" if machines() else f"{QEMU} is not installed",
            where=board.name,
            expected=f"machine {machine}",
            cure=either(*system_install("qemu-system-arm"), f"{pip_install('[rig]')} and --emulator unicorn"),
        )
    return [
        *(QEMU, "-M", machine, "-nodefaults", "-display", "none", "-monitor", "none"),
        *("-icount", f"shift={icount_shift(board)}"),
        *("-device", f"loader,file={flash},addr={board.flash.base:#x},force-raw=on"),
        *serial,
    ]


def serve(board: Board, flash: Path, link: str, profile: Path | None) -> int:
    """Run a board until standard input closes or QEMU ends.

    :param profile: folder with the markers of the regions to profile; None for no profile
    :returns: QEMU's exit code
    """
    more = [] if profile is None else tcg_plugin.plugin_arguments(QEMU, profile)
    if link == "socket":
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            listener.set_inheritable(True)
            serial = [
                "-chardev",
                f"socket,id=host,fd={listener.fileno()},server=on,wait=on,nodelay=on",
                "-serial",
                "chardev:host",
            ]
            print(f"socket://127.0.0.1:{listener.getsockname()[1]}", flush=True)
            return _supervise(command_line(board, flash, serial + more), (listener.fileno(),))
    return _supervise(command_line(board, flash, ["-serial", "pty", *more]), ())


def _supervise(command: list[str], keep_open: tuple[int, ...]) -> int:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=keep_open,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    ) as qemu:
        watch_parent(qemu.kill)
        assert qemu.stdout is not None
        for line in qemu.stdout:
            found = PTY_LINE.search(line)
            if found:
                print(f"pty:{found[1]}", flush=True)
        return qemu.wait()


def main() -> int:
    """Entry point of the process."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = emulator_parser("qemu_board", summary, "content of its flash, from the flash's base on")
    add_profile(parser)
    arguments = parser.parse_args()
    try:
        return serve(load_board(arguments.board), arguments.flash.resolve(), arguments.link, arguments.profile)
    except ToolError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
