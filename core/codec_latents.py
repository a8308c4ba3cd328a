"""A picture's quantized numbers to the chunks of a file and back: predictions, contexts, symbols, range coder.

Integers alone, so that the same numbers give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import (
    ESCAPE,
    ESCAPE_BITS,
    LARGEST,
    LARGEST_MAGNITUDE,
    NEIGHBOURS,
    PREDICTED,
    REACH,
    THRESHOLDS,
    CoderModel,
)
from policyport.core.range_coder import TOTAL_BITS, RangeDecoder, RangeEncoder
from policyport.core.semantics import Integers

Numbers = NDArray[np.int64]
"""[block rows, block columns, channels]"""

RAW = TOTAL_BITS - ESCAPE_BITS


def multiplier(step: float, scale: float) -> int:
    """What a number of an encoder's output is multiplied by to become 2^32 steps.

    :param step: in grey levels
    :param scale: of the encoder's output, in grey levels
    """
    return int(np.floor(2.0**32 * scale / step + 0.5))


def quantize_numbers(outputs: Integers, factor: int, offsets: NDArray[np.uint8]) -> Numbers:
    """Quantized numbers: ``sign(y) * min((|y| * factor + offset * 2^24) >> 32, LARGEST)``.

    :param outputs: [..., channels], the encoder's, int16
    """
    y = np.asarray(outputs, np.int64)
    magnitude = (np.abs(y) * factor + (offsets.astype(np.int64) << 24)) >> 32
    return np.asarray(np.sign(y) * np.minimum(magnitude, LARGEST), np.int64)


def quantize_reals(outputs: NDArray[np.floating[Any]], step: float, offsets: NDArray[np.uint8]) -> Numbers:
    """:func:`quantize_numbers` of an encoder that computes in real numbers.

    :param outputs: [..., channels] in grey levels
    :param step: in grey levels
    """
    y = np.asarray(outputs, np.float64)
    magnitude = np.floor(np.abs(y) / step + offsets / 256).astype(np.int64)
    return np.asarray(np.sign(y).astype(np.int64) * np.minimum(magnitude, LARGEST), np.int64)


def median_prediction(left: Numbers, above: Numbers, both: Numbers) -> Numbers:
    """The median of left, above and left + above - above left (LOCO-I)."""
    low, high = np.minimum(left, above), np.maximum(left, above)
    return np.clip(left + above - both, low, high)


def coded_values(q: Numbers) -> Numbers:
    """What is coded: the first channels less their prediction, the others as they are; outside the picture is 0."""
    padded = np.pad(q[..., :PREDICTED], ((1, 0), (1, 0), (0, 0)))
    predicted = median_prediction(padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1])
    return np.concatenate([q[..., :PREDICTED] - predicted, q[..., PREDICTED:]], axis=-1)


def neighbour_magnitudes(values: Numbers) -> tuple[Numbers, Numbers]:
    """Magnitudes at each place, and those to the left, above, above left, above right: the last, [..., NEIGHBOURS]."""
    size = np.minimum(np.abs(values), LARGEST_MAGNITUDE)
    padded = np.pad(size, ((1, 0), (1, 1), (0, 0)))
    around = (padded[1:, :-2], padded[:-1, 1:-1], padded[:-1, :-2], padded[:-1, 2:])
    return size, np.stack(around, axis=-1)


def context_levels(values: Numbers, model: CoderModel) -> Numbers:
    """The level of each number's context, as values [rows, columns, channels]."""
    size, around = neighbour_magnitudes(values)
    weights = model.weights.astype(np.int64)
    total = (around * weights[:, :NEIGHBOURS]).sum(axis=-1)
    for number in range(model.references.shape[1]):
        total += weights[:, NEIGHBOURS + number] * size[..., model.references[:, number]]
    return np.searchsorted(THRESHOLDS, total, side="right")


def encode_numbers(q: Numbers, model: CoderModel) -> list[bytes]:
    """The chunks of a picture.

    :param q: [block rows, block columns, channels], each within LARGEST of 0
    """
    values = coded_values(q)
    channel = np.arange(model.channels)
    table = model.table_of[channel, context_levels(values, model)]
    symbol = np.where(np.abs(values) <= REACH, values + REACH, ESCAPE)
    below = np.concatenate(
        [np.zeros((len(model.tables), 1), np.int64), model.tables.cumsum(axis=1, dtype=np.int64)], axis=1
    )
    first, share = below[table, symbol], model.tables[table, symbol]
    chunks = []
    for start, stop in model.chunk_ranges():
        encoder = RangeEncoder()
        part = (slice(None), slice(None), slice(start, stop))
        rows = zip(*(array[part].ravel().tolist() for array in (first, share, symbol, values)), strict=True)
        for bottom, frequency, what, value in rows:
            encoder.put(bottom, frequency)
            if what == ESCAPE:
                encoder.put(value + (1 << ESCAPE_BITS - 1) << RAW, 1 << RAW)
        chunks.append(encoder.finish())
    return chunks


def decode_numbers(chunks: Sequence[bytes], rows: int, columns: int, model: CoderModel) -> Numbers:
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
        from bisect import bisect_right

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
