"""A board that runs Linux, its program in QEMU's user mode, under a supervisor that never leaves QEMU behind.

    python -m policyport.hil.qemu_user_board --board raspberrypi3 --flash firmware.elf

prints ``pty:/dev/pts/N`` (or ``socket://127.0.0.1:PORT`` with ``--link socket``) and runs until standard input closes.
The program is the board's own; the kernel is this machine's. A plugin counts instructions, and the program reads it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from policyport.core.errors import ToolError
from policyport.core.install import either, system_install
from policyport.deploy.board import Board, load_board
from policyport.hil import tcg_plugin
from policyport.hil.emulator_arguments import emulator_parser
from policyport.hil.lifeline import die_with_parent, watch_parent

QEMU = "qemu-aarch64"

COUNT_BYTES = 8
"""Of the count of instructions."""


def is_installed() -> bool:
    """Whether programs of such boards run here."""
    return sys.platform == "linux" and shutil.which(QEMU) is not None


def command_line(board: Board, program: Path, count_file: Path) -> list[str]:
    """The command that runs a program, standard input and output its line to the host.

    :raises ToolError: QEMU's user mode is not installed, or takes no plugin
    """
    if not is_installed():
        raise ToolError(f"{QEMU} is not installed", where=board.name, cure=either(*system_install(QEMU)))
    counting = tcg_plugin.counter_arguments(QEMU, count_file)
    return [QEMU, "-cpu", board.core, *counting, str(program), "--count", str(count_file)]


def serve(board: Board, image: Path, link: str) -> int:
    """Run a program until standard input closes or it ends.

    :param image: the program
    :returns: QEMU's exit code
    """
    with tempfile.TemporaryDirectory(prefix="policyport-linux-") as scratch:
        program, count_file = Path(scratch) / "firmware.elf", Path(scratch) / "count"
        shutil.copyfile(image, program)
        program.chmod(0o700)  # an artifact's file need not be executable
        count_file.write_bytes(bytes(COUNT_BYTES))
        command = command_line(board, program, count_file)
        if link == "socket":
            return _supervise([*command, "--listen", "127.0.0.1:0"], None)  # it prints its URL itself
        import pty
        import tty

        ours, theirs = pty.openpty()
        tty.setraw(theirs)  # held open, so that the line outlasts a host that closes it
        print(f"pty:{os.ttyname(theirs)}", flush=True)
        return _supervise(command, ours)


def _supervise(command: list[str], line: int | None) -> int:
    """Run a command.

    :param line: its standard input and output; None for none and this process's own
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if line is None else line,
        stdout=line,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    ) as qemu:
        watch_parent(qemu.kill)
        return qemu.wait()


def main() -> int:
    """Entry point of the process."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = emulator_parser("qemu_user_board", summary, "its program, firmware.elf")
    arguments = parser.parse_args()
    try:
        return serve(load_board(arguments.board), arguments.flash.resolve(), arguments.link)
    except ToolError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
