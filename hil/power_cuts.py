"""Cuts an emulated board's power at the writes and erases of an update, one after the other, and looks at what is left.

    python -m policyport.hil.power_cuts UPDATE.ppu FACTORY.bin [--every 1] [--seed 0]

For each operation on the flash: the update runs until power goes in the midst of that operation, power comes back, an
image that is whole has to start, and the same update has to go on to its end. What a cut operation leaves is drawn from
the seed: some of the bits for a word; for a sector risen bits, zeros for a part of it, or noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import IdentityError, PolicyportError
from policyport.core.progress import Advance, progress
from policyport.deploy.board import Board, load_board
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.image import ROOM_BYTES, Header, Image, read_images
from policyport.firmware_bridge.updater import update
from policyport.hil.flash_model import PowerSupply
from policyport.hil.inline_board import InlineBoard, PowerLostError


@dataclass(frozen=True)
class PowerCuts:
    """What came of them."""

    operations: int
    """Writes and erases of an update that nothing interrupts."""

    cuts: int
    started_old: int
    """Cuts after which the old image started."""

    started_new: int
    resumed: int
    """Updates that went on from what the board had, and did not begin anew."""

    kept_bytes: int
    """Bytes that these did not send again, all together."""


def count_operations(board: Board, factory: bytes, images: tuple[Image, ...]) -> int:
    """Writes and erases of one whole update."""
    emulated = InlineBoard(board, factory, counts=False)
    update(Bridge(emulated), images, _nobody)
    return emulated.power.operations


def cut_at(
    board: Board, factory: bytes, images: tuple[Image, ...], cuts: Iterable[int], seed: int, advance: Advance
) -> PowerCuts:
    """Cut an update's power at some of its operations.

    :param factory: content of the board's flash before the update: a bootloader, and an image that is confirmed
    :param images: the update's
    :param cuts: numbers of operations, from 1
    :raises IdentityError: another image than the old or the new one started, or one that is not whole
    """
    operations = count_operations(board, factory, images)
    old = _running(InlineBoard(board, factory, counts=False), board)
    started: list[bool] = []
    kept: list[int] = []
    for cut in cuts:
        emulated = InlineBoard(board, factory, PowerSupply(cut, seed * operations + cut), counts=False)
        _update_until_cut(emulated, images, cut)
        emulated.cycle_power()
        running = _running(emulated, board)
        new = running.build_id in {image.header.build_id for image in images}
        if not new and running != old:
            raise IdentityError("an image started that is neither the old nor the new one", where=f"cut {cut}")
        done = update(Bridge(emulated), images, _nobody)
        emulated.cycle_power()
        if _running(emulated, board) != done.image.header:
            raise IdentityError("the update did not come to its end", where=f"cut {cut}")
        started.append(new)
        kept.append(0 if new else done.resumed_at)
        advance(len(started))
    resumed = sum(1 for count in kept if count)
    return PowerCuts(operations, len(started), started.count(False), started.count(True), resumed, sum(kept))


def _nobody(done: float, note: str = "") -> None:
    """Is told of progress."""


def _update_until_cut(emulated: InlineBoard, images: tuple[Image, ...], cut: int) -> None:
    try:
        update(Bridge(emulated), images, _nobody)
    except PowerLostError:
        return
    raise IdentityError("an update ended before its power was cut", where=f"cut {cut}", got=emulated.power.operations)


def _running(emulated: InlineBoard, board: Board) -> Header:
    """Header of the image that runs, whose firmware lies whole in the slot behind it.

    :raises IdentityError: none of the slots holds such an image
    """
    import hashlib

    build_id = Bridge(emulated).hello().build_id
    assert board.bootloader is not None
    for base in board.bootloader.slots:
        content = emulated.content[base - board.flash.base :]
        if content[:4] == b"PPUI" and content[64:80].hex() == build_id:
            header = Header.parse(bytes(content[:128]), f"slot at 0x{base:08x}")
            firmware = bytes(content[ROOM_BYTES : ROOM_BYTES + header.size])
            if hashlib.sha256(firmware).hexdigest() == header.sha256:
                return header
    raise IdentityError("the image that runs is not whole in any slot", got=f"build {build_id}")


def main() -> int:
    """Entry point of the process."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m policyport.hil.power_cuts", description=summary)
    parser.add_argument("update", type=Path, help="update file of policyport sign")
    parser.add_argument("factory", type=Path, help="flash content of policyport sign --factory, of an older version")
    parser.add_argument("--every", type=int, default=1, help="cut at every so many-th operation [default: 1]")
    parser.add_argument("--seed", type=int, default=0, help="of what cut operations leave [default: 0]")
    arguments = parser.parse_args()
    try:
        images, factory = read_images(arguments.update), arguments.factory.read_bytes()
        board = load_board(images[0].header.board)
        cuts = range(1, count_operations(board, factory, images) + 1, max(1, arguments.every))
        with progress("power cuts", len(cuts)) as advance:
            done = cut_at(board, factory, images, cuts, arguments.seed, advance)
    except PolicyportError as error:
        print(f"power_cuts: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"{done.operations} writes and erases, {done.cuts} cuts: the old image started after {done.started_old}, "
        f"the new one after {done.started_new}; every update went on to its end, {done.resumed} from what the board "
        f"had, {done.kept_bytes} bytes not sent again"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
