"""The host's side of an update: a signed image into the slot that is not in use, its first start, its confirmation.

Nothing is remembered here: where a transfer goes on is for the board to say, so the same call after a power cut,
or from another machine, resumes it.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from policyport.core.errors import (
    BoardError,
    BoardTimeoutError,
    ConfigError,
    IdentityError,
    ProtocolError,
    RefusedError,
    UsageError,
)
from policyport.core.progress import Advance
from policyport.firmware_bridge.image import FORMAT, Header, Image
from policyport.firmware_bridge.messages import Identity, Type

OFFSET = struct.Struct("<I")
WRITE = struct.Struct("<II")
"""Offset, CRC-32 of the data that follows."""

_STATUS = struct.Struct("<HHI32s")
_SLOT = struct.Struct("<IBBBx")
_HEADER_BYTES = 128

SLOW_S = 30.0
"""How long a board may take to erase a slot, or to check an image: seconds, on real flash."""

START_S = 75.0
"""How long until a firmware announces itself: where the new one hangs the old one, once the watchdog has bitten."""

UNKNOWN_REQUEST, FLASH_FAILED, BAD_HASH = 1, 23, 25
REFUSED_IMAGE = range(16, 23)
"""Statuses of BOOT_BEGIN that say what is wrong with the image."""

Answer = TypeVar("Answer")


class Board(Protocol):
    """What an update needs of a board: a :class:`policyport.firmware_bridge.client.Bridge` is one."""

    def hello(self) -> Identity:
        """Who is there."""
        ...

    def request(self, kind: int, payload: bytes, timeout_s: float | None = None) -> bytes:
        """One round trip."""
        ...

    def restart(self, kind: int, timeout_s: float | None = None) -> None:
        """A request after which a firmware starts and announces itself."""
        ...


@dataclass(frozen=True)
class Slot:
    """A slot, as BOOT_STATUS describes it."""

    base: int
    ready: bool
    tried: bool
    confirmed: bool
    abandoned: bool
    valid: bool
    """Whether its header, signature and hash hold."""

    in_use: bool
    """Whether it is started at a reset."""

    header: Header | None
    """None where it holds no header."""


@dataclass(frozen=True)
class BootStatus:
    """What the bootloader says of the board."""

    board: str
    chunk_bytes: int
    """Most data that a BOOT_WRITE may carry."""

    slot_bytes: int
    slots: tuple[Slot, ...]

    @classmethod
    def parse(cls, payload: bytes) -> BootStatus:
        """Read a BOOT_STATUS reply.

        :raises ProtocolError: it does not read as one
        """
        row_bytes = _SLOT.size + _HEADER_BYTES
        if len(payload) <= _STATUS.size or (len(payload) - _STATUS.size) % row_bytes:
            raise ProtocolError("the bootloader's status does not read as one", got=payload.hex())
        form, chunk, slot_bytes, board = _STATUS.unpack_from(payload)
        if form != FORMAT:
            raise ProtocolError("a bootloader for another format of images", expected=FORMAT, got=form)
        rows = [payload[at : at + row_bytes] for at in range(_STATUS.size, len(payload), row_bytes)]
        return cls(board.rstrip(b"\0").decode(), chunk, slot_bytes, tuple(_slot(row) for row in rows))


def _slot(row: bytes) -> Slot:
    base, flags, valid, in_use = _SLOT.unpack_from(row)
    ready, tried, confirmed, abandoned = (bool(flags >> bit & 1) for bit in range(4))
    try:
        header = Header.parse(row[_SLOT.size :], f"slot at 0x{base:08x}")
    except UsageError:
        header = None
    return Slot(base, ready, tried, confirmed, abandoned, bool(valid), bool(in_use), header)


@dataclass(frozen=True)
class Outcome:
    """What an update did."""

    image: Image
    """The one that runs and is confirmed."""

    resumed_at: int
    """Bytes that the board had already."""

    sent_bytes: int


def update(
    board: Board, images: tuple[Image, ...], advance: Advance, check: Callable[[Image], None] | None = None
) -> Outcome:
    """Install, start and confirm one of an update file's images: the one for the slot that is not in use.

    :param advance: is told the bytes that the board has
    :param check: looks at the new firmware while it runs, before it is confirmed; raising leaves it unconfirmed
    :raises ConfigError: the board has no bootloader, or refuses the image: unsigned, altered, not newer, not for it
    :raises IdentityError: the new image did not start; the old one goes on
    :raises BoardError: no answer; the same call resumes
    """
    running = _running_build(board)
    installed = next((image for image in images if image.header.build_id == running), None)
    if installed is not None:  # a run before this one ended between its start and its confirmation, or after both
        _confirm(board, installed, check)
        return Outcome(installed, installed.header.size, 0)
    status = enter(board)
    try:
        image = _choose(status, images)
        offset = _transfer(board, image, status.chunk_bytes, advance)
    except (UsageError, ProtocolError):
        _leave(board)
        raise
    _start(board, image)
    _confirm(board, image, check)
    return Outcome(image, offset, image.header.size - offset)


def enter(board: Board) -> BootStatus:
    """Have the board restart into its bootloader, if it is not there, and ask how its slots stand.

    :raises ConfigError: its firmware knows no bootloader
    """
    try:
        board.request(Type.BOOT_ENTER, b"")
    except RefusedError as error:
        if error.status != UNKNOWN_REQUEST:
            raise
        raise ConfigError(
            "the firmware on this board was not put there by a bootloader",
            got="BOOT_ENTER is unknown to it",
            cure="write a factory image once, by policyport sign --factory and a debug probe: docs/update.md",
        ) from error
    return BootStatus.parse(board.request(Type.BOOT_STATUS, b""))


def _running_build(board: Board) -> str:
    """Build id of the firmware that runs, empty where that is the bootloader."""
    try:
        return board.hello().build_id
    except RefusedError:
        return ""


def _choose(status: BootStatus, images: tuple[Image, ...]) -> Image:
    """The image for a slot that is not in use.

    :raises ConfigError: there is none, or the file is for another board
    """
    wrong = [image.header.board for image in images if image.header.board != status.board]
    if wrong:
        raise ConfigError("the update is for another board", expected=status.board, got=wrong[0])
    free = [slot.base for slot in status.slots if not slot.in_use]
    fitting = [image for image in images if any(0 < image.header.address - base < status.slot_bytes for base in free)]
    if not fitting:
        raise ConfigError(
            "the update holds no image for the free slot",
            expected=" or ".join(f"one behind 0x{base:08x}" for base in free),
            got=", ".join(f"0x{image.header.address:08x}" for image in images),
            cure="build it with policyport sign, which links it for both slots",
        )
    return fitting[0]


def _transfer(board: Board, image: Image, chunk_bytes: int, advance: Advance) -> int:
    """Send what the board lacks of an image; where it resumed."""
    try:
        return _send(board, image, chunk_bytes, advance)
    except RefusedError as error:
        if error.status not in (FLASH_FAILED, BAD_HASH):
            raise
    return _send(board, image, chunk_bytes, advance)  # what a cut had left was given up: from the beginning


def _send(board: Board, image: Image, chunk_bytes: int, advance: Advance) -> int:
    begun = _offset(_asked_with(image, lambda: board.request(Type.BOOT_BEGIN, image.header_bytes, SLOW_S)))
    at = begun
    while at < image.header.size:
        advance(at)
        data = image.firmware[at : at + chunk_bytes // 4 * 4]
        at = _offset(board.request(Type.BOOT_WRITE, WRITE.pack(at, zlib.crc32(data)) + data))
    advance(at)
    board.request(Type.BOOT_FINISH, b"", SLOW_S)
    return begun


def _asked_with(image: Image, ask: Callable[[], Answer]) -> Answer:
    """What the board answers to an image.

    :raises ConfigError: it refuses the image
    """
    try:
        return ask()
    except RefusedError as error:
        if error.status not in REFUSED_IMAGE:
            raise
        header = image.header
        raise ConfigError(
            "the board refuses this image",
            where=f"version {header.version} for {header.board}, key {header.key}",
            got=error.got,
            cure="see docs/update.md; the firmware that was there goes on",
        ) from error


def _leave(board: Board) -> None:
    """Have the firmware that was there go on; a board without any stays in its bootloader."""
    with contextlib.suppress(BoardError):
        board.restart(Type.BOOT_START)


def _offset(reply: bytes) -> int:
    if len(reply) != OFFSET.size:
        raise ProtocolError("the bootloader's offset does not read as one", got=reply.hex())
    offset: int = OFFSET.unpack(reply)[0]
    return offset


def _start(board: Board, image: Image) -> None:
    """Start the new image, for a trial.

    :raises IdentityError: something else started
    """
    try:
        board.restart(Type.BOOT_START, START_S)
    except RefusedError as error:  # the reply was lost, and a firmware has started since
        if error.status != UNKNOWN_REQUEST:
            raise
    _expect(board, image, "the new image did not start: the bootloader went back to the old one")


def _confirm(board: Board, image: Image, check: Callable[[Image], None] | None) -> None:
    if check is not None:
        check(image)
    board.restart(Type.BOOT_CONFIRM, START_S)
    _expect(board, image, "the new image was not confirmed: the bootloader went back to the old one")


def _expect(board: Board, image: Image, what: str) -> None:
    try:
        running = _running_build(board)
    except BoardTimeoutError as error:
        raise BoardTimeoutError(
            "the new image does not answer",
            where=f"version {image.header.version}",
            cure="the board goes back to the old one within a minute, or when it is reset; then try again",
        ) from error
    if running != image.header.build_id:
        raise IdentityError(what, expected=f"build {image.header.build_id}", got=f"build {running or 'none'}")
