"""Writes ``frame_cases.json``, the table of streams that the Python and the C decoder both run.

    python tests/firmware_bridge/make_cases.py

A case is a stream in hex and what it yields: frames as [type, sequence, status, payload hex], errors by name.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from cobs import cobs

TABLE = Path(__file__).with_name("frame_cases.json")


def body(payload: bytes, *, version: int = 1, length: int | None = None, flip: int | None = None) -> bytes:
    """A body by hand, so that it can be wrong."""
    size = len(payload) if length is None else length
    covered = bytes([version, 0x02, 7, 0]) + size.to_bytes(2, "little") + payload
    whole = bytearray(covered + zlib.crc32(covered).to_bytes(4, "little"))
    if flip is not None:
        whole[flip // 8] ^= 1 << flip % 8
    return bytes(whole)


def framed(content: bytes) -> bytes:
    """Between delimiters."""
    return b"\0" + bytes(cobs.encode(content)) + b"\0"


def good(payload: bytes) -> list[object]:
    """What a right frame yields."""
    return [0x02, 7, 0, payload.hex()]


def cases() -> dict[str, tuple[bytes, list[object]]]:
    """Name to stream and outcome."""
    run254, run255 = bytes(range(1, 255)), bytes([*range(1, 255), 1])
    one = framed(body(b"abc"))
    long = bytes(1025)
    return {
        "empty payload": (framed(body(b"")), [good(b"")]),
        "zeros": (framed(body(bytes(5))), [good(bytes(5))]),
        "254 bytes without a zero": (framed(body(run254)), [good(run254)]),
        "255 bytes without a zero": (framed(body(run255)), [good(run255)]),
        "largest payload": (framed(body(bytes(range(256)) * 4)), [good(bytes(range(256)) * 4)]),
        "payload too long": (framed(body(long)), ["LENGTH"]),
        "checksum": (framed(body(b"abc", flip=50)), ["CRC"]),
        "version": (framed(body(b"abc", version=2)), ["VERSION"]),
        "length field": (framed(body(b"abc", length=4)), ["LENGTH"]),
        "shorter than a header": (framed(b"\1\2\3"), ["COBS"]),
        "no COBS": (b"\0\x09\x01\0", ["COBS"]),
        "two at once": (one + one, [good(b"abc"), good(b"abc")]),
        "one delimiter between two": (one + one[1:], [good(b"abc"), good(b"abc")]),
        "garbage before": (b"\x55\xaa\x13" + one, ["COBS", good(b"abc")]),
        "unfinished": (one[:-1], []),
        "torn, then whole": (one[:-4] + one, ["COBS", good(b"abc")]),
        "only delimiters": (bytes(9), []),
    }


if __name__ == "__main__":
    rows = [{"name": name, "stream": stream.hex(), "yields": out} for name, (stream, out) in cases().items()]
    TABLE.write_text(json.dumps(rows, indent=1) + "\n")
