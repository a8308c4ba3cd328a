"""The image coder's decoder as its description reads: each context gathered, each symbol searched for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from policyport.core.codec_latents import Numbers
from policyport.core.codec_model import (
    ESCAPE,
    ESCAPE_BITS,
    LARGEST,
    LARGEST_MAGNITUDE,
    PREDICTED,
    REACH,
    THRESHOLDS,
    CoderModel,
)
from policyport.core.range_coder import MASK, TOP, TOTAL_BITS

RAW = TOTAL_BITS - ESCAPE_BITS


class RangeDecoder:
    """Bytes to symbols; behind the last byte there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 4
        self._code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
        self._range = MASK
        self._unit = 0

    def peek(self) -> int:
        """Which frequency the code falls on: the symbol's ``below`` is at most this, and that of the next is larger."""
        self._unit = self._range >> TOTAL_BITS
        return min(self._code // self._unit, (1 << TOTAL_BITS) - 1)

    def take(self, below: int, frequency: int) -> None:
        """Go past the symbol that :meth:`peek` fell on."""
        self._code -= self._unit * below
        self._range = self._unit * frequency
        while self._range < TOP:
            byte = self._data[self._at] if self._at < len(self._data) else 0
            self._at += 1
            self._code = (self._code << 8 | byte) & MASK
            self._range = self._range << 8 & MASK


def plainly_decoded(chunks: Sequence[bytes], rows: int, columns: int, model: CoderModel) -> Numbers:
    """The numbers of a picture, 0 in channels of chunks that are not there.

    :param chunks: the first so many, whole; any bytes give numbers
    """
    state = _Decoding(model, rows, columns)
    for (start, stop), data in zip(model.chunk_ranges(), chunks, strict=False):
        decoder = RangeDecoder(data)
        for row in range(1, rows + 1):
            for column in range(1, columns + 1):
                for channel in range(start, stop):
                    state.read(decoder, row, column, channel)
    return np.array(state.numbers, np.int64)[1:, 1:-1]


class _Decoding:
    """Numbers and magnitudes so far, with a border of zeros above, left and right."""

    def __init__(self, model: CoderModel, rows: int, columns: int) -> None:
        self.numbers = [[[0] * model.channels for _ in range(columns + 2)] for _ in range(rows + 1)]
        self._sizes = [[[0] * model.channels for _ in range(columns + 2)] for _ in range(rows + 1)]
        self._weights = model.weights.tolist()
        self._references = model.references.tolist()
        self._table_of = model.table_of.tolist()
        self._below = [[0, *table] for table in model.tables.cumsum(axis=1).tolist()]

    def read(self, decoder: RangeDecoder, row: int, column: int, channel: int) -> None:
        """One number."""
        here, above = self._sizes[row], self._sizes[row - 1]
        around = here[column - 1], above[column], above[column - 1], above[column + 1]
        seen = [*(place[channel] for place in around), *(here[column][c] for c in self._references[channel])]
        total = sum(weight * size for weight, size in zip(self._weights[channel], seen, strict=True))
        level = sum(total >= threshold for threshold in THRESHOLDS)
        value = self._symbol(decoder, self._below[self._table_of[channel][level]])
        here[column][channel] = min(abs(value), LARGEST_MAGNITUDE)
        if channel < PREDICTED:
            value += self._prediction(row, column, channel)
        self.numbers[row][column][channel] = max(-LARGEST, min(LARGEST, value))

    def _symbol(self, decoder: RangeDecoder, below: list[int]) -> int:
        symbol = bisect_right(below, decoder.peek()) - 1
        decoder.take(below[symbol], below[symbol + 1] - below[symbol])
        if symbol != ESCAPE:
            return symbol - REACH
        raw = decoder.peek() >> RAW
        decoder.take(raw << RAW, 1 << RAW)
        return raw - (1 << ESCAPE_BITS - 1)

    def _prediction(self, row: int, column: int, channel: int) -> int:
        left = self.numbers[row][column - 1][channel]
        above = self.numbers[row - 1][column][channel]
        both = self.numbers[row - 1][column - 1][channel]
        return sorted((left, above, left + above - both))[1]
