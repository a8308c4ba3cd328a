"""Pictures to an image encoder on a board: rows of pixels out, the coded parts back."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import BLOCK
from policyport.core.errors import ObservationError, ProtocolError
from policyport.core.progress import Advance
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.messages import Type

_BEGIN = struct.Struct("<HHB")
_AT = struct.Struct("<I")
_ANSWER = struct.Struct("<II")
"""Ticks, whether there is more."""

_RUN = 0x80
_COUNT = struct.Struct("<I")
_LONGEST_RUN = 1 << 20


@dataclass(frozen=True)
class CodedParts:
    """What a board made of a picture."""

    parts: list[bytes]
    """Of the file, without zeros at their ends."""

    ticks: int
    """Of the board's counter: network and coder of all blocks, its overhead subtracted."""


def encode_on_board(
    bridge: Bridge, picture: NDArray[np.uint8], quality: int, parts: int, advance: Advance | None = None
) -> CodedParts:
    """Send a picture's rows, and receive what the board codes of them.

    :param picture: [rows, columns, 3]
    :param parts: of the file
    :param advance: is told the rows that were sent
    :raises ObservationError: the picture is wider than the firmware's rows
    :raises ProtocolError: the board runs no image encoder, or answers with what does not read
    """
    height, width = picture.shape[:2]
    try:
        bridge.request(Type.CODEC_BEGIN, _BEGIN.pack(width, height, quality))
    except ProtocolError as error:
        raise ObservationError(
            "the board does not take this picture",
            expected="a firmware with an image encoder, and a width that it was built for",
            got=f"{width} x {height} pixels, quality {quality}; {error}",
            cure="policyport deploy --picture-width, of what policyport train codec made",
        ) from error
    data = np.ascontiguousarray(picture, np.uint8).reshape(-1).tobytes()
    strip = BLOCK * width * 3
    room = bridge.hello().max_payload - _AT.size
    got, ticks, at = bytearray(), 0, 0
    while at < len(data):
        end = min(at + room, (at // strip + 1) * strip, len(data))
        reply = bridge.request(Type.CODEC_ROWS, _AT.pack(at) + data[at:end])
        at = end
        while True:
            spent, more = _read(reply)
            ticks += spent
            got += reply[_ANSWER.size :]
            if not more:
                break
            reply = bridge.request(Type.CODEC_MORE, b"")
        if advance is not None:
            advance(at // (width * 3))
    return CodedParts(_parts(bytes(got), parts), ticks)


def _read(reply: bytes) -> tuple[int, bool]:
    if len(reply) < _ANSWER.size:
        raise ProtocolError("the board's answer to rows of a picture does not read as one", got=reply.hex())
    ticks, more = _ANSWER.unpack_from(reply)
    return ticks, bool(more)


def _parts(records: bytes, count: int) -> list[bytes]:
    """Records ``part, byte`` or ``part | 0x80, byte, times`` as the parts' bytes."""
    parts = [bytearray() for _ in range(count)]
    at = 0
    while at < len(records):
        run = bool(records[at] & _RUN)
        end = at + 2 + run * _COUNT.size
        part = records[at] & ~_RUN
        if end > len(records) or part >= count:
            raise ProtocolError("coded bytes that do not read as records", where=f"byte {at}", got=len(records))
        times = _COUNT.unpack_from(records, at + 2)[0] if run else 1
        if times > _LONGEST_RUN:
            raise ProtocolError("a run of coded bytes that is too long", where=f"byte {at}", got=times)
        parts[part].extend(records[at + 1 : at + 2] * times)
        at = end
    return [bytes(part).rstrip(b"\0") for part in parts]
