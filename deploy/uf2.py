"""UF2 files: an image in blocks of 512 bytes, each with its address, as bootloaders on USB volumes take them.

The format is Microsoft's (github.com/microsoft/uf2): three magic numbers, flags, address, size, number and count of the
block, the processor's family, and 476 bytes of data, of which 256 are used.
"""

from __future__ import annotations

import struct

from policyport.core.errors import ConfigError

BLOCK_BYTES = 512
PAYLOAD_BYTES = 256
"""One page of flash; the bootloader of the RP2040 takes no other size."""

_BLOCK = struct.Struct("<8I476sI")
_MAGIC = (0x0A324655, 0x9E5D5157)
_LAST_MAGIC = 0x0AB16F30
_HAS_FAMILY = 0x00002000
ERASED = b"\xff"


def uf2_bytes(image: bytes, base: int, family: int) -> bytes:
    """An image as a UF2 file.

    :param image: content of the flash from ``base`` on; its last page is filled with erased bytes
    :param base: address of its first byte, a multiple of 256
    :param family: number of the processor's family
    """
    assert base % PAYLOAD_BYTES == 0, "a page of flash begins on a multiple of its size"
    pages = [image[at : at + PAYLOAD_BYTES].ljust(PAYLOAD_BYTES, ERASED) for at in range(0, len(image), PAYLOAD_BYTES)]
    return b"".join(
        _BLOCK.pack(
            *_MAGIC, _HAS_FAMILY, base + i * PAYLOAD_BYTES, PAYLOAD_BYTES, i, len(pages), family, page, _LAST_MAGIC
        )
        for i, page in enumerate(pages)
    )


def read_uf2(data: bytes) -> tuple[bytes, int, int]:
    """The reverse of :func:`uf2_bytes`.

    :returns: image, filled to whole pages; base; family
    :raises ConfigError: no UF2 file, one that is torn, or not one image of one family
    """
    if not data or len(data) % BLOCK_BYTES:
        raise ConfigError("this is no whole UF2 file", expected="blocks of 512 bytes", got=f"{len(data)} bytes")
    blocks = [_BLOCK.unpack_from(data, at) for at in range(0, len(data), BLOCK_BYTES)]
    base, family = blocks[0][3], blocks[0][7]
    for number, block in enumerate(blocks):
        wanted = (*_MAGIC, _HAS_FAMILY, base + number * PAYLOAD_BYTES, PAYLOAD_BYTES, number, len(blocks), family)
        if block[:8] != wanted or block[9] != _LAST_MAGIC:
            raise ConfigError(
                "a block of this UF2 file is not one of an image",
                where=f"block {number}",
                expected=" ".join(f"{value:x}" for value in (*wanted, _LAST_MAGIC)),
                got=" ".join(f"{value:x}" for value in (*block[:8], block[9])),
            )
    return b"".join(block[8][:PAYLOAD_BYTES] for block in blocks), base, family
