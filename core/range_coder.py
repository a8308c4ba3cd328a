"""A range coder of bytes: static frequencies of 16 bits in, bytes out, in integers alone.

Carry is held back in one byte and a count of 0xFF behind it, as in G. N. N. Martin's coder and LZMA's. The encoder
multiplies and never divides.
"""

from __future__ import annotations

TOTAL_BITS = 16
"""The frequencies of an alphabet sum to two to this."""

TOP = 1 << 24
"""A range below this is widened by a byte."""

MASK = 0xFFFFFFFF


class RangeEncoder:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = MASK
        self._held = -1  # the byte that a carry may still change; none before the first
        self._ones = 0
        self._bytes = bytearray()

    def put(self, below: int, frequency: int) -> None:
        """Code a symbol.

        :param below: sum of the frequencies of the symbols before it
        :param frequency: its own, from 1 on
        """
        unit = self._range >> TOTAL_BITS
        self._low += unit * below
        self._range = unit * frequency
        while self._range < TOP:
            self._range = self._range << 8 & MASK
            self._shift()

    def finish(self) -> bytes:
        """The bytes of all symbols: as few as leave no doubt, zeros behind them being understood."""
        last = self._low + self._range - 1
        for zeros in (24, 16, 8, 0):
            value = last >> zeros << zeros
            if value >= self._low:
                self._low = value
                break
        for _ in range(5):
            self._shift()
        return bytes(self._bytes).rstrip(b"\0")

    def _shift(self) -> None:
        """Move the highest byte of ``low`` out."""
        if self._low < 0xFF000000 or self._low > MASK:
            carry = self._low >> 32
            if self._held >= 0:
                self._bytes.append(self._held + carry & 0xFF)
            self._bytes.extend(bytes([0xFF + carry & 0xFF]) * self._ones)
            self._ones = 0
            self._held = self._low >> 24 & 0xFF
        else:
            self._ones += 1
        self._low = self._low << 8 & MASK
