"""Measured tables of the page on updates: `python -m policyport.pipeline.update_figures docs/update.md`.

Builds the bootloader and two releases of a firmware with the smallest network, installs the second on the emulated
board, and cuts the power at every write and erase of that; all for each board that has a bootloader: some minutes, or
less with ``--every``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from policyport.core.progress import progress
from policyport.deploy.board import Board, board_names, load_board
from policyport.deploy.bootloader import (
    STACK_BYTES,
    BuiltBootloader,
    bootloader_ram,
    build_bootloader,
    factory_content,
    slots_of,
)
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources
from policyport.deploy.toolchain import Toolchain, find_toolchain
from policyport.deploy.vectors import Spec, random_program
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.image import FLAGS, Image
from policyport.firmware_bridge.keys import PrivateKey, new_key, read_private
from policyport.firmware_bridge.updater import update
from policyport.hil.inline_board import InlineBoard
from policyport.hil.power_cuts import PowerCuts, count_operations, cut_at
from policyport.pipeline.figures import write_blocks
from policyport.pipeline.update_command import build_images

STACK_PAINT = b"\xc5"

Table = Mapping[str, str]
"""What was measured, to the figure."""


@dataclass(frozen=True)
class Releases:
    """What is measured: a board as it leaves the factory, and an update."""

    bootloader: BuiltBootloader
    factory: bytes
    old: tuple[Image, ...]
    new: tuple[Image, ...]


def build_releases(board: Board, toolchain: Toolchain, folder: Path) -> Releases:
    """Two releases of a firmware with a network of two inputs and two outputs.

    :param folder: an empty one, for sources and the key
    """
    src = folder / "src"
    src.mkdir()
    write_sources(random_program(Spec((2, 2), (8, 8), ("",)), np.random.default_rng(5)), "dsp", src)
    add_device_sources(src, board)
    new_key(folder / "key")
    key: PrivateKey = read_private(folder / "key")
    old, new = (build_images(src, board, version, key, toolchain) for version in (1, 2))
    bootloader = build_bootloader(board, [key.public_bytes], toolchain)
    return Releases(bootloader, factory_content(board, bootloader, old[0].slot_content(FLAGS[:3])), old, new)


def map_table(boards: Sequence[Board]) -> str:
    """What lies where in the flash of each board, as Markdown."""
    lines = ["| board | what | from | bytes |", "|---|---|---|---:|"]
    for board in boards:
        slots = slots_of(board)
        rows = [("bootloader", board.flash.base, slots.size)]
        rows += [(f"slot {number}", base, slots.slot_bytes) for number, base in enumerate(slots.slots)]
        lines += [f"| `{board.name}` | {what} | 0x{base:08x} | {count:,} |" for what, base, count in rows]
    return "\n".join(lines)


def sizes(board: Board, releases: Releases) -> Table:
    """What the bootloader takes, and what a start costs."""
    emulated = InlineBoard(board, releases.factory)
    first = emulated.run()
    used = _stack_used(emulated, board)
    update(Bridge(emulated), releases.new, lambda done, note="": None)
    emulated.cycle_power()
    second = emulated.run()
    return {
        "flash of the bootloader, with one key": f"{releases.bootloader.flash_bytes:,} B of {slots_of(board).size:,}",
        "static RAM of the bootloader, free again once an image runs": f"{releases.bootloader.ram_bytes:,} B",
        "deepest use of its stack while it checks an image": f"{used:,} B of {STACK_BYTES:,}",
        "firmware with the smallest network, without header": f"{releases.old[0].header.size:,} B",
        "instructions from power to the firmware's first frame, one slot confirmed": f"{first:,}",
        "the same, both slots confirmed": f"{second:,}",
    }


def _stack_used(emulated: InlineBoard, board: Board) -> int:
    """Bytes of the bootloader's stack that are not as they were painted."""
    stack = emulated.memory(bootloader_ram(board).base, STACK_BYTES)
    return STACK_BYTES - (len(stack) - len(stack.lstrip(STACK_PAINT)))


def cuts(done: PowerCuts) -> Table:
    """What came of the power cuts."""
    rows = {
        "writes and erases of the update": done.operations,
        "cuts, one in each update, each in another of them": done.cuts,
        "an image that is whole started afterwards": done.started_old + done.started_new,
        "of these, the old one": done.started_old,
        "the same update went on to its end, and the new image stayed": done.cuts,
        "of these, from what the board had already": done.resumed,
    }
    return {what: f"{count:,}" for what, count in rows.items()}


def table(columns: Mapping[str, Table]) -> str:
    """A column for each board, as Markdown."""
    lines = [f"| | {' | '.join(f'`{name}`' for name in columns)} |", f"|---|{'---:|' * len(columns)}"]
    first = next(iter(columns.values()))
    lines += [f"| {what} | {' | '.join(column[what] for column in columns.values())} |" for what in first]
    return "\n".join(lines)


def measure(board: Board, every: int) -> tuple[Table, Table]:
    """The sizes of a board's bootloader, and what came of a cut at every so many-th operation."""
    with tempfile.TemporaryDirectory(prefix="policyport-update-") as folder:
        releases = build_releases(board, find_toolchain(), Path(folder))
    chosen = range(1, count_operations(board, releases.factory, releases.new) + 1, every)
    with progress(f"power cuts on {board.name}", len(chosen)) as advance:
        survived = cut_at(board, releases.factory, releases.new, chosen, 0, advance)
    return sizes(board, releases), cuts(survived)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of a Markdown file."""
    parser = argparse.ArgumentParser(
        prog="python -m policyport.pipeline.update_figures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:NAME --> markers")
    parser.add_argument("--every", type=int, default=1, help="cut at every so many-th operation [default: 1]")
    given = parser.parse_args(arguments)
    boards = [board for board in map(load_board, board_names()) if board.bootloader is not None]
    with ProcessPoolExecutor(len(boards)) as pool:  # as far as there are cores
        done = list(pool.map(measure, boards, repeat(max(1, given.every))))
    measured, survived = ({board.name: both[i] for board, both in zip(boards, done, strict=True)} for i in (0, 1))
    toolchain = find_toolchain()
    made_by = f"{toolchain.version}; emulated, instructions counted, no time."
    blocks = {"map": map_table(boards), "size": f"{table(measured)}\n\n{made_by}", "cuts": table(survived)}
    write_blocks(given.pages, blocks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
