"""The file of a coded picture, ``.ppc``: a header, then chunks, each with its length and checksum.

    offset  bytes
    0       3      "PPC"
    3       1      version, 1
    4       1      quality, 0 to 15; bit 7: grey
    5       2      width in pixels, little-endian
    7       2      height
    9       4      hash of the model (CoderModel.digest)
    13      2      low half of the CRC-32 of bytes 0 to 12
    15             chunks: length (LEB128), low half of the CRC-32 of the length and the bytes, bytes

A chunk holds some channels of the whole picture, the important ones first. Where the file ends early, or a chunk is not
what was written, the chunks before it are the picture, in less detail.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from policyport.core.codec_model import BLOCK, QUALITIES, CoderModel
from policyport.core.errors import ArtifactError

MAGIC = b"PPC"
VERSION = 1
GREY = 0x80

_HEADER = struct.Struct("<3sBBHH4s")
_CHECK = struct.Struct("<H")
HEADER_BYTES = _HEADER.size + _CHECK.size

LARGEST_SIDE = 65_535
"""Pixels."""


@dataclass(frozen=True)
class Header:
    """What a coded picture is."""

    width: int
    height: int
    quality: int
    grey: bool
    model: bytes

    @property
    def rows(self) -> int:
        """Of blocks."""
        return -(-self.height // BLOCK)

    @property
    def columns(self) -> int:
        """Of blocks."""
        return -(-self.width // BLOCK)

    def pack(self) -> bytes:
        """The header's bytes."""
        mode = self.quality | (GREY if self.grey else 0)
        packed = _HEADER.pack(MAGIC, VERSION, mode, self.width, self.height, self.model)
        return packed + _checksum(packed)


@dataclass(frozen=True)
class CodedPicture:
    """A file that was read: its header and the chunks that are whole."""

    header: Header
    chunks: tuple[bytes, ...]
    missing: int
    """Chunks that are not there or were altered."""

    problem: str = ""
    """Why chunks are missing, empty where none is."""


def pack_picture(header: Header, chunks: list[bytes]) -> bytes:
    """The bytes of a file."""
    parts = [header.pack()]
    for chunk in chunks:
        length = _leb128(len(chunk))
        parts += [length, _checksum(length + chunk), chunk]
    return b"".join(parts)


def unpack_picture(data: bytes, model: CoderModel, where: object) -> CodedPicture:
    """Read a file; chunks from the first on that is not whole are left out.

    :param where: what it was read from, for the error
    :raises ArtifactError: no coded picture, one of another model or version, or nothing of it is whole
    """
    header = _header(data, where)
    if header.model != model.digest():
        raise ArtifactError(
            "a picture coded by another model",
            where=where,
            expected=f"model {model.digest().hex()}",
            got=f"model {header.model.hex()}",
            cure="decode it with the model that it was encoded with: --model",
        )
    chunks: list[bytes] = []
    at, problem = HEADER_BYTES, ""
    while len(chunks) < len(model.chunks) and not problem:
        chunk, at, problem = _chunk(data, at)
        if not problem:
            chunks.append(chunk)
    if not chunks:
        raise ArtifactError("nothing of the picture is whole", where=where, got=problem, cure="send the file again")
    return CodedPicture(header, tuple(chunks), len(model.chunks) - len(chunks), problem)


def _header(data: bytes, where: object) -> Header:
    if data[:3] != MAGIC:
        raise ArtifactError("no coded picture", where=where, expected="a .ppc file", got=f"{data[:8].hex()}...")
    if len(data) < HEADER_BYTES:
        raise ArtifactError("a coded picture that ends in its header", where=where, got=f"{len(data)} bytes")
    _, version, mode, width, height, model = _HEADER.unpack_from(data)
    if version != VERSION:
        raise ArtifactError("a coded picture of another version", where=where, expected=VERSION, got=version)
    quality = mode & ~GREY
    sound = data[_HEADER.size : HEADER_BYTES] == _checksum(data[: _HEADER.size])
    if not sound or not width or not height or quality >= QUALITIES:
        raise ArtifactError("a coded picture whose header was altered", where=where, cure="send the file again")
    return Header(width, height, quality, bool(mode & GREY), model)


def _chunk(data: bytes, at: int) -> tuple[bytes, int, str]:
    """A chunk, where the next begins, and what is wrong with it."""
    length, end = 0, at
    for shift in range(0, 35, 7):
        if end >= len(data):
            return b"", at, "the file ends early"
        byte = data[end]
        end += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    start = end + _CHECK.size
    chunk = data[start : start + length]
    if len(data) < start + length:
        return b"", at, "the file ends early"
    if data[end:start] != _checksum(data[at:end] + chunk):
        return b"", at, "a chunk was altered"
    return chunk, start + length, ""


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _checksum(data: bytes) -> bytes:
    return _CHECK.pack(zlib.crc32(data) & 0xFFFF)
