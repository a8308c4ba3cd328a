"""Signed firmware images, and the file that holds one for each slot: docs/update.md has every byte.

``device/boot/pp_image.h`` is the same in C.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import ArtifactError
from policyport.firmware_bridge.keys import PrivateKey, key_id

MAGIC = b"PPUI"
BOARD_NAME = slice(32, 64)
"""Of a header: the name, then zeros."""

FORMAT = 1
SIGNATURE_BYTES = 64
ROOM_BYTES = 512
"""From a slot's begin to the firmware: header, flags, and room to align the vectors."""

FLAGS_AT, FLAG_STRIDE = 256, 32
FLAGS = (b"REDY", b"TRIE", b"CONF", b"ABDE")
"""Whole, tried, confirmed, abandoned: what stands in a slot's flag words once they are set."""

_HEADER = struct.Struct("<4sI8sIII4x32s16s32s16x")
HEADER_BYTES = _HEADER.size + SIGNATURE_BYTES

_FILE = struct.Struct("<4sHH")
FILE_MAGIC = b"PPUF"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Header:
    """What is signed."""

    board: str
    """Name of the board, at most 31 bytes of UTF-8."""

    address: int
    """Where the firmware's first byte lies in flash."""

    version: int
    """Grows with each release; a board takes no image that is not newer than the one it confirmed."""

    size: int
    """Bytes of the firmware, a multiple of 4."""

    build_id: str
    """Hex of 16 bytes: what the firmware answers a HELLO with."""

    sha256: str
    """Hex: of the firmware."""

    key: str
    """Hex of 8 bytes: the beginning of the public key that signed it."""

    def pack(self) -> bytes:
        """The signed part of a header, 128 bytes."""
        texts = bytes.fromhex(self.key), bytes.fromhex(self.build_id), bytes.fromhex(self.sha256)
        key, build, digest = texts
        board = self.board.encode()
        return _HEADER.pack(MAGIC, FORMAT, key, self.size, self.address, self.version, board, build, digest)

    @classmethod
    def parse(cls, data: bytes, where: object) -> Header:
        """Read the signed part of a header.

        :param where: named in errors
        :raises ArtifactError: no header, or one of another format
        """
        if len(data) < _HEADER.size or not data.startswith(MAGIC):
            raise ArtifactError("no image header", where=where, expected="PPUI", got=data[:4])
        _, form, key, size, address, version, board, build, digest = _HEADER.unpack_from(data)
        if form != FORMAT:
            raise ArtifactError("an image of another format", where=where, expected=FORMAT, got=form)
        name = board.rstrip(b"\0").decode(errors="replace")
        return cls(name, address, version, size, build.hex(), digest.hex(), key.hex())


@dataclass(frozen=True)
class Image:
    """A signed firmware for one slot."""

    header: Header
    signature: bytes
    firmware: bytes

    @property
    def header_bytes(self) -> bytes:
        """Header with its signature, 192 bytes: what BOOT_BEGIN sends and what lies at the slot's begin."""
        return self.header.pack() + self.signature

    def slot_content(self, flags: tuple[bytes, ...] = ()) -> bytes:
        """What a slot holds with this image in it.

        :param flags: of :data:`FLAGS`, those that are set
        """
        room = bytearray(self.header_bytes.ljust(ROOM_BYTES, b"\xff"))
        for flag in flags:
            at = FLAGS_AT + FLAG_STRIDE * FLAGS.index(flag)
            room[at : at + len(flag)] = flag
        return bytes(room) + self.firmware


def sign_image(firmware: bytes, key: PrivateKey, *, board: str, address: int, version: int, build_id: str) -> Image:
    """A signed image of a firmware; it is padded to whole words.

    :param address: where its first byte will lie in flash
    :param build_id: hex of 16 bytes
    :raises ToolError: the package cryptography is missing
    """
    padded = firmware + b"\xff" * (-len(firmware) % 4)
    digest = hashlib.sha256(padded).hexdigest()
    header = Header(board, address, version, len(padded), build_id, digest, key_id(key.public_bytes))
    return Image(header, key.sign(header.pack()), padded)


def write_images(path: Path, images: tuple[Image, ...]) -> None:
    """Write an update file: the same firmware, linked for each slot."""
    parts = [_FILE.pack(FILE_MAGIC, FORMAT, len(images))]
    for image in images:
        content = image.header_bytes + image.firmware
        parts += [_LENGTH.pack(len(content)), content]
    path.write_bytes(b"".join(parts))


def read_images(path: Path) -> tuple[Image, ...]:
    """Read an update file; signatures are for the board to check, hashes are checked here.

    :raises ArtifactError: no such file, a file of another kind, or a torn one
    """
    if not path.is_file():
        raise ArtifactError("no such file", where=path, cure="policyport sign makes one of a deploy folder")
    data = path.read_bytes()
    if len(data) < _FILE.size or not data.startswith(FILE_MAGIC):
        raise ArtifactError("this is no update file", where=path, expected="PPUF", got=data[:4])
    _, form, count = _FILE.unpack_from(data)
    if form != FORMAT:
        raise ArtifactError("an update file of another format", where=path, expected=FORMAT, got=form)
    images, at = [], _FILE.size
    for _ in range(count):
        length = _LENGTH.unpack_from(data, at)[0] if at + _LENGTH.size <= len(data) else 0
        content = data[at + _LENGTH.size : at + _LENGTH.size + length]
        if length < HEADER_BYTES or len(content) != length:
            raise ArtifactError("a torn update file", where=path, expected=f"{length} bytes", got=len(content))
        images.append(_read_image(content, path))
        at += _LENGTH.size + length
    return tuple(images)


def _read_image(content: bytes, path: Path) -> Image:
    header = Header.parse(content, path)
    image = Image(header, content[_HEADER.size : HEADER_BYTES], content[HEADER_BYTES:])
    if image.header_bytes != content[:HEADER_BYTES] or len(image.firmware) != header.size:
        raise ArtifactError("an image whose header does not describe it", where=path, expected=header.size)
    got = hashlib.sha256(image.firmware).hexdigest()
    if got != header.sha256:
        raise ArtifactError("an altered image", where=path, expected=f"SHA-256 {header.sha256}", got=got)
    return image
