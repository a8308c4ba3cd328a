"""The emulated board that needs nothing but the ``unicorn`` wheel, as a process of its own.

    python -m policyport.hil.unicorn_board --board mps2-an386 --flash flash.bin

prints ``pty:/dev/pts/N`` (or ``socket://127.0.0.1:PORT`` with ``--link socket``) and then runs the flash's
content like the board would, until standard input closes. A processor fault ends it with a line on
standard error and exit code :data:`FAULT_EXIT`.

What is modelled: the core's instructions, flash, RAM, the UART as a polled driver sees it, DWT CYCCNT,
SysTick and reset requests; where a bootloader was written for the board also the controller of its flash and its
watchdog. Of the exceptions SysTick's alone is taken, where the core has no CYCCNT; WFI waits for the host's next
byte, so an idle board uses no processor time.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

from policyport.core.errors import ToolError
from policyport.deploy.board import Board, load_board
from policyport.hil.block_recorder import BlockRecorder
from policyport.hil.cortex_m import CoreFault, CortexM, Memory
from policyport.hil.emulator_arguments import add_profile, emulator_parser
from policyport.hil.flash_model import FLASHES
from policyport.hil.host_link import Link, PtyLink, SocketLink, Wire
from policyport.hil.lifeline import watch_parent
from policyport.hil.system_registers import CPUID_OF_CORE
from policyport.hil.uart_models import UARTS

FAULT_EXIT = 3
"""Exit code after a processor fault."""


def core_model(board: Board) -> str | None:
    """The core that Unicorn runs for a board, ``cortex-m4`` say; None where it has no model of it."""
    core = board.core.removesuffix("f").removesuffix("plus")
    return core if core in CPUID_OF_CORE and board.uart.driver in UARTS else None


def open_flash(board: Board, path: Path, keep: bool) -> Any:
    """Content of a board's flash, as long as the flash: mutable bytes.

    :param path: file with what it holds from its base on; the rest is erased
    :param keep: changes go into the file, which becomes as long as the flash
    """
    content = path.read_bytes()
    erased = b"\xff" * (board.flash.size - len(content))
    if not keep:
        return bytearray(content + erased)
    with path.open("r+b") as stream:
        stream.seek(0, os.SEEK_END)
        stream.write(erased)
        stream.flush()
        return mmap.mmap(stream.fileno(), board.flash.size)


def serve(board: Board, flash: Any, link: Link, profile: Path | None) -> None:
    """Run a board until the process ends.

    :param flash: content of the flash, mutable bytes
    :param profile: folder with the markers of the regions to profile; None for no profile
    :raises CoreFault: the firmware did something that the processor cannot
    """
    core = core_model(board)
    if core is None:
        raise ToolError("Unicorn does not model this board", where=board.name, cure="use QEMU: --emulator qemu")
    wire = Wire(link)
    vectors = board.flash.base + board.boot_bytes
    memory = Memory(board.flash.base, board.flash.size, vectors, board.ram.base, board.ram.size, board.uart.base)
    recorder = None if profile is None else BlockRecorder(profile)
    slots = board.bootloader
    controller = None if slots is None else FLASHES[slots.driver](flash, slots.sectors)
    processor = CortexM(
        core,
        memory,
        bytes(flash),
        lambda: UARTS[board.uart.driver](wire),
        recorder,
        controller,
        0 if slots is None else board.clock_hz,
    )
    while True:
        try:
            processor.run()
        finally:
            wire.flush()
        if processor.reset_requested:
            processor.reset()
        else:
            began_s = time.monotonic()
            wire.idle(processor.watchdog_seconds_left())
            processor.sleep(time.monotonic() - began_s)


def main() -> int:
    """Entry point of the process."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = emulator_parser("unicorn_board", summary, "content of its flash, from the flash's base on")
    add_profile(parser)
    parser.add_argument(
        "--keep", action="store_true", help="keep in FLASH what is written into the flash [default: no]"
    )
    arguments = parser.parse_args()
    watch_parent(lambda: os._exit(0))
    link: Link = SocketLink() if arguments.link == "socket" else PtyLink()
    print(link.url if arguments.link == "socket" else f"pty:{link.url}", flush=True)
    try:
        board = load_board(arguments.board)
        serve(board, open_flash(board, arguments.flash, arguments.keep), link, arguments.profile)
    except CoreFault as fault:
        print(f"processor fault on {arguments.board}: {fault}", file=sys.stderr, flush=True)
        return FAULT_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main())
