"""Frames on a byte stream: ``00 COBS(body) 00``, body = header, payload, CRC-32.

docs/bridge-protocol.md has every byte; ``device/pp_frame.c`` is the same in C.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cobs import cobs
from policyport.core.errors import ProtocolError

PROTOCOL_VERSION = 1
HEADER = struct.Struct("<BBBBH")
"""Version, type, sequence number, status, payload length."""

CRC = struct.Struct("<I")
LONGEST_ENCODED = 1 << 17
"""Bytes between two delimiters beyond which a stream is noise."""


class FrameError(enum.IntEnum):
    """Why the bytes between two delimiters are no frame; the numbers are those of ``pp_frame.h``."""

    COBS = 2
    LENGTH = 3
    CRC = 4
    VERSION = 5


@dataclass(frozen=True)
class Frame:
    """One message."""

    type: int
    sequence: int
    status: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """A frame as it goes over the line, both delimiters included.

    :raises ProtocolError: a payload longer than its length field can say
    """
    if len(frame.payload) > 0xFFFF:
        raise ProtocolError("payload too long for a frame", expected="at most 65535 bytes", got=len(frame.payload))
    body = HEADER.pack(PROTOCOL_VERSION, frame.type, frame.sequence, frame.status, len(frame.payload)) + frame.payload
    return b"\0" + bytes(cobs.encode(body + CRC.pack(zlib.crc32(body)))) + b"\0"


def decode(encoded: bytes) -> Frame | FrameError:
    """The frame between two delimiters, or why there is none."""
    try:
        body = bytes(cobs.decode(encoded))
    except cobs.DecodeError:
        return FrameError.COBS
    if len(body) < HEADER.size + CRC.size:
        return FrameError.COBS
    covered, checksum = body[: -CRC.size], CRC.unpack(body[-CRC.size :])[0]
    if zlib.crc32(covered) != checksum:
        return FrameError.CRC
    version, kind, sequence, status, length = HEADER.unpack_from(covered)
    if version != PROTOCOL_VERSION:
        return FrameError.VERSION
    payload = covered[HEADER.size :]
    return Frame(kind, sequence, status, payload) if len(payload) == length else FrameError.LENGTH


class Decoder:
    """Takes bytes in any chunks, yields frames and errors as they end."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame | FrameError]:
        """Every frame or error that ends in ``data``; an unfinished one is kept."""
        *complete, rest = (bytes(self._pending) + data).split(b"\0")
        self._pending = bytearray(rest)
        for encoded in complete:
            if encoded:
                yield decode(encoded)
        if len(self._pending) > LONGEST_ENCODED:
            self._pending.clear()
            yield FrameError.LENGTH
