"""A picture's quantized numbers to the chunks of a file and back: predictions, contexts, symbols, range coder.

Integers alone, so that the same numbers give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_decode import RAW, decode_values
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
from policyport.core.range_coder import RangeEncoder
from policyport.core.semantics import Integers

Numbers = NDArray[np.int64]
"""[block rows, block columns, channels]"""


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
    values = decode_values(chunks, rows, columns, model)
    for channel in range(PREDICTED):
        values[..., channel] = _with_predictions(values[..., channel].tolist())
    return np.clip(values, -LARGEST, LARGEST)


def _with_predictions(differences: list[list[int]]) -> list[list[int]]:
    """The numbers of a channel, each held to the largest before it predicts others.

    :param differences: to their predictions, by rows
    """
    above = [0] * (len(differences[0]) + 1)
    rows = []
    for row in differences:
        here = [0]
        for column, value in enumerate(row):
            left, up = here[column], above[column + 1]
            guess = sorted((left, up, left + up - above[column]))[1]
            here.append(max(-LARGEST, min(LARGEST, guess + value)))
        above = here
        rows.append(here[1:])
    return rows
