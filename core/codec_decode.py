"""Coded parts of a picture back to coded values, in plain Python made quick.

Most values are 0. So a context's sum is not gathered for each value, but what is not 0 adds itself to the sums that it
belongs to: to its right and below, and to later channels of its block. A symbol is first held against that of 0.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import (
    ESCAPE,
    ESCAPE_BITS,
    LARGEST_MAGNITUDE,
    NEIGHBOURS,
    REACH,
    THRESHOLDS,
    CoderModel,
)
from policyport.core.range_coder import MASK, TOP, TOTAL_BITS

Values = NDArray[np.int64]
"""[block rows, block columns, channels]"""

RAW = TOTAL_BITS - ESCAPE_BITS
LAST = (1 << TOTAL_BITS) - 1
HIGHEST = THRESHOLDS[-1]
"""A context's sum counts up to this."""

Table = tuple[int, int, int, list[int]]
"""Of 0's symbol: sum of the frequencies before it, with its own, its own; of all symbols: sums before them."""


def decode_values(chunks: Sequence[bytes], rows: int, columns: int, model: CoderModel) -> Values:
    """What was coded of a picture, 0 in channels of chunks that are not there.

    :param chunks: the first so many, whole; any bytes give values
    """
    values = np.zeros((rows, columns, model.channels), np.int64)
    for (start, stop), data in zip(model.chunk_ranges(), chunks, strict=False):
        part = _Part(model, start, stop)
        known = part.sums_of_earlier(values)
        bytes_of = _Bytes(data)
        above = np.zeros((columns + 2, stop - start), np.int64)
        for row in range(rows):
            sums = known[row] + part.sums_of_above(above)
            values[row, :, start:stop] = np.reshape(part.decode_row(bytes_of, sums.ravel().tolist()), sums.shape)
            above[1:-1] = _sizes(values[row, :, start:stop])
    return values


def _sizes(values: Values) -> Values:
    return np.minimum(np.abs(values), LARGEST_MAGNITUDE)


class _Bytes:
    """A range decoder's state; behind the last byte there are zeros."""

    def __init__(self, data: bytes) -> None:
        self.next: Callable[[], int] = itertools.chain(data[4:], itertools.repeat(0)).__next__
        self.code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
        self.range = MASK


class _Part:
    """The channels of one chunk."""

    def __init__(self, model: CoderModel, start: int, stop: int) -> None:
        self._weights = model.weights[start:stop].astype(np.int64)
        self._references = model.references[start:stop].astype(np.int64)
        self._start, self._count = start, stop - start
        below = np.pad(model.tables.cumsum(axis=1, dtype=np.int64), ((0, 0), (1, 0))).tolist()
        tables: list[Table] = [(sums[REACH], sums[REACH + 1], sums[REACH + 1] - sums[REACH], sums) for sums in below]
        level = np.searchsorted(THRESHOLDS, np.arange(HIGHEST + 1), side="right")
        numbers = model.table_of[start:stop][:, level].tolist()
        self._channels = [([tables[n] for n in row], self._ahead(at)) for at, row in enumerate(numbers)]

    def _ahead(self, channel: int) -> list[tuple[int, int]]:
        """How far behind a value the sums are that its size goes into, and its weights there."""
        found = [(self._count, int(self._weights[channel, 0]))]
        for later, references in enumerate(self._references):
            for reference, weight in zip(references, self._weights[later, NEIGHBOURS:], strict=True):
                if reference - self._start == channel:
                    found.append((later - channel, int(weight)))
        return [(ahead, weight) for ahead, weight in found if weight]

    def sums_of_earlier(self, values: Values) -> Values:
        """What values of earlier chunks add to the sums [rows, columns, channels of this chunk]."""
        sizes = _sizes(values)
        weights = self._weights[:, NEIGHBOURS:] * (self._references < self._start)
        return np.asarray((sizes[..., self._references] * weights).sum(axis=-1), np.int64)

    def sums_of_above(self, sizes: Values) -> Values:
        """What the row above adds to the sums [columns, channels].

        :param sizes: its magnitudes [columns + 2, channels], with a border of zeros
        """
        _, above, above_left, above_right = self._weights[:, :NEIGHBOURS].T
        return sizes[1:-1] * above + sizes[:-2] * above_left + sizes[2:] * above_right

    def decode_row(self, source: _Bytes, sums: list[int]) -> list[int]:
        """The values of a row, column by column.

        :param sums: [columns, channels], of the contexts but for what the row itself adds
        """
        values, at = [0] * len(sums), 0
        sums += [0] * self._count  # to the right of the last column
        next_byte, code, span = source.next, source.code, source.range
        for _ in range(len(values) // self._count):
            for tables, ahead in self._channels:
                total = sums[at]
                low, high, frequency, below = tables[total if total < HIGHEST else HIGHEST]
                unit = span >> TOTAL_BITS
                first = unit * low
                if first <= code < unit * high:
                    code -= first
                    span = unit * frequency
                else:
                    symbol = bisect_right(below, min(code // unit, LAST)) - 1
                    code -= unit * below[symbol]
                    span = unit * (below[symbol + 1] - below[symbol])
                    value = symbol - REACH
                    if symbol == ESCAPE:
                        while span < TOP:
                            code = (code << 8 | next_byte()) & MASK
                            span <<= 8
                        unit = span >> TOTAL_BITS
                        raw = min(code // unit, LAST) >> RAW
                        code -= unit * (raw << RAW)
                        span = unit << RAW
                        value = raw - (1 << ESCAPE_BITS - 1)
                    values[at] = value
                    size = min(abs(value), LARGEST_MAGNITUDE)
                    for further, weight in ahead:
                        sums[at + further] += weight * size
                while span < TOP:
                    code = (code << 8 | next_byte()) & MASK
                    span <<= 8
                at += 1
        source.code, source.range = code, span
        return values
