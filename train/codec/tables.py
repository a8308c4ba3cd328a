"""The coder's static part from training pictures: contexts by regression, frequency tables by clustering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_latents import (
    Numbers,
    coded_values,
    context_levels,
    multiplier,
    neighbour_magnitudes,
    quantize_numbers,
)
from policyport.core.codec_model import (
    ESCAPE,
    LEVELS,
    NEIGHBOURS,
    PREDICTED,
    QUALITIES,
    REACH,
    REFERENCES,
    SYMBOLS,
    CoderModel,
)

TABLES = 16

UNIT = 64
"""A context's sum over the magnitude that is expected."""

COARSER = 1.25
"""From one quantizer step to the next."""

ROUNDS = 30

FIT_STEPS = (1, 4, 7, 10, 13)
"""Qualities whose numbers contexts and tables are fitted to."""

CHUNK_STARTS = (0, 3, 6, 12, 20, 32, 48)

Counts = NDArray[np.float64]


def fit_coder(outputs: Sequence[NDArray[np.float64]], lowest_step: float, rounding: float) -> CoderModel:
    """The coder of an encoder.

    :param outputs: of each training picture [block rows, block columns, channels], the encoder's in grey levels
    :param lowest_step: the finest quantizer step, in grey levels
    :param rounding: added to a magnitude in steps before it is rounded down, in channels without a prediction
    """
    channels = outputs[0].shape[-1]
    steps = np.round(lowest_step * COARSER ** np.arange(QUALITIES)[::-1], 2)
    offsets = np.full(channels, round(256 * rounding), np.uint8)
    offsets[:PREDICTED] = 128
    scale = max(float(np.abs(picture).max()) for picture in outputs) / 32767
    integers = [np.round(picture / scale).astype(np.int64) for picture in outputs]
    coded = [
        coded_values(quantize_numbers(picture, multiplier(float(steps[quality]), scale), offsets))
        for quality in FIT_STEPS
        for picture in integers
    ]
    weights, references = _contexts(coded)
    chunks = np.array([start for start in CHUNK_STARTS if start < channels], np.uint8)
    empty = np.zeros((channels, LEVELS), np.uint8), np.full((1, SYMBOLS), (1 << 16) // SYMBOLS, np.uint16)
    model = CoderModel(steps, offsets, chunks, weights, references, *empty)
    table_of, tables = _tables(_counts(coded, model))
    fitted = CoderModel(steps, offsets, chunks, weights, references, table_of, tables)
    fitted.check()
    return fitted


def _contexts(coded: Sequence[Numbers]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Weights [channels, NEIGHBOURS + REFERENCES] and references of every channel."""
    seen = [neighbour_magnitudes(values) for values in coded]
    sizes = np.concatenate([size.reshape(-1, size.shape[-1]) for size, _ in seen]).astype(np.float64)
    around = np.concatenate([part.reshape(-1, *part.shape[-2:]) for _, part in seen]).astype(np.float64)
    every = max(1, len(sizes) // 20_000)
    sizes, around = sizes[::every], around[::every]
    channels = sizes.shape[1]
    weights = np.zeros((channels, NEIGHBOURS + REFERENCES), np.uint8)
    references = np.zeros((channels, REFERENCES), np.uint8)
    for channel in range(channels):
        wanted, own = sizes[:, channel], around[:, channel]
        all_before = _regressed(np.concatenate([own, sizes[:, :channel]], axis=1), wanted)
        share = all_before[NEIGHBOURS:] * sizes[:, :channel].std(axis=0)
        chosen = np.sort(np.argsort(-share, kind="stable")[: min(REFERENCES, channel)])
        found = _regressed(np.concatenate([own, sizes[:, chosen]], axis=1), wanted)
        weights[channel, : len(found)] = np.clip(np.round(UNIT * found), 0, 255)
        references[channel, : len(chosen)] = chosen
    return weights, references


def _regressed(features: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights from 0 on whose sum is the expected magnitude; large ones count less, as their spread is larger."""
    from scipy.optimize import nnls

    spread = features.mean(axis=1) + wanted.mean() / 2 + 0.02
    scaled = np.concatenate([features, np.full((len(features), 1), 0.02)], axis=1) / spread[:, None]
    gram, moment = scaled.T @ scaled, scaled.T @ (wanted / spread)
    root = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    found, _ = nnls(root.T, np.linalg.solve(root, moment))
    return np.asarray(found[:-1], np.float64)


def _counts(coded: Sequence[Numbers], model: CoderModel) -> Counts:
    """How often each symbol comes, [channels, LEVELS, SYMBOLS]."""
    channels = model.channels
    counts = np.zeros((channels, LEVELS, SYMBOLS))
    channel = np.arange(channels)
    for values in coded:
        symbol = np.where(np.abs(values) <= REACH, values + REACH, ESCAPE)
        np.add.at(counts, (np.broadcast_to(channel, values.shape), context_levels(values, model), symbol), 1)
    return counts


def _tables(counts: Counts) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Few tables for all contexts, and which each takes: clusters of least bits (k-means under relative entropy)."""
    rows = counts.reshape(-1, SYMBOLS)
    mirrored = np.concatenate([rows[:, ESCAPE - 1 :: -1], rows[:, ESCAPE:]], axis=1)
    rows = rows + mirrored  # a sign is as likely as the other
    total = rows.sum(axis=1)
    size = np.abs(np.arange(SYMBOLS) - REACH)
    order = np.argsort((rows * size).sum(axis=1) / np.maximum(total, 1))
    busy = order[total[order] > 0]
    first = busy[np.linspace(0, len(busy) - 1, min(TABLES, len(busy))).astype(int)]
    centres = _distribution(rows[first])
    for _ in range(ROUNDS):
        nearest = (-rows @ np.log2(centres).T).argmin(axis=1)
        sums = np.stack([rows[nearest == number].sum(axis=0) for number in range(len(centres))])
        centres = _distribution(sums)
    nearest = (-rows @ np.log2(centres).T).argmin(axis=1)
    return nearest.reshape(counts.shape[:2]).astype(np.uint8), np.stack([_frequencies(row) for row in centres])


def _distribution(rows: Counts) -> Counts:
    smoothed = rows + 0.02 + 1e-4 * rows.sum(axis=1, keepdims=True) / SYMBOLS
    return np.asarray(smoothed / smoothed.sum(axis=1, keepdims=True), np.float64)


def _frequencies(share: Counts) -> NDArray[np.uint16]:
    """Shares as frequencies from 1 on that sum to 2^16."""
    whole = np.maximum(1, np.round(share * (1 << 16))).astype(np.int64)
    whole[whole.argmax()] += (1 << 16) - whole.sum()
    return whole.astype(np.uint16)
