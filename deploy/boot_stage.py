"""The first stage in the flash of an RP2040, which its boot ROM runs only where its checksum holds."""

from __future__ import annotations

from pathlib import Path

STAGE_BYTES = 256
CHECKED_BYTES = 252
"""Of the stage; its checksum follows them, little-endian."""

_POLYNOMIAL = 0x04C11DB7


def checksum(data: bytes) -> int:
    """CRC-32 as the boot ROM computes it: from all ones, highest bit first (RP2040 data sheet, 2.8.1.3)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (_POLYNOMIAL if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def seal(elf: Path, base: int) -> None:
    """Write the checksum into the stage at the beginning of an ELF's flash.

    :param base: address of the flash
    """
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        segments = [s for s in ELFFile(stream).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_paddr"] == base]
    (segment,) = segments
    assert segment["p_filesz"] > STAGE_BYTES, "the stage and the firmware are one segment"
    content = bytearray(elf.read_bytes())
    begin = segment["p_offset"]
    crc = checksum(bytes(content[begin : begin + CHECKED_BYTES]))
    content[begin + CHECKED_BYTES : begin + STAGE_BYTES] = crc.to_bytes(4, "little")
    elf.write_bytes(content)
