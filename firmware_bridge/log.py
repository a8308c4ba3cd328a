"""The wire log: every byte of a conversation, with its time since the start."""

from __future__ import annotations

import time
from typing import TextIO


class WireLog:
    """Writes one line per chunk: seconds, direction (``>`` to the board), hex bytes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()

    def write(self, direction: str, data: bytes) -> None:
        """Log a chunk; ``direction`` is ``>`` to the board or ``<`` from it."""
        self._stream.write(f"{time.monotonic() - self._start:.6f} {direction} {data.hex()}\n")
