"""The Karhunen-Loève transform of 8x8 blocks: where encoders and decoders start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import BLOCK
from policyport.core.codec_picture import blocks_of

SAMPLED_BLOCKS = 60_000


def sampled_blocks(pictures: Sequence[NDArray[np.uint8]], count: int, seed: int) -> NDArray[np.uint8]:
    """Blocks [count, 192] at random, as many from each picture at the most, fewer where there are fewer."""
    random = np.random.default_rng(seed)
    each = -(-count // len(pictures))
    parts = []
    for picture in pictures:
        y, x = random.integers(0, BLOCK, 2)
        blocks = blocks_of(picture[y:, x:] if min(picture.shape[:2]) >= 2 * BLOCK else picture)
        parts.append(blocks[random.permutation(len(blocks))[:each]])
    joined = np.concatenate(parts)
    return joined[random.permutation(len(joined))[:count]]


def karhunen_loeve(
    pictures: Sequence[NDArray[np.uint8]], channels: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first principal components of blocks less 128, and their standard deviations in grey levels.

    :returns: [channels, 192] orthonormal rows, the first with a positive sum, and [channels]
    """
    values = sampled_blocks(pictures, SAMPLED_BLOCKS, seed).astype(np.float64) - 128
    variance, vectors = np.linalg.eigh(values.T @ values / len(values))
    basis = vectors[:, ::-1][:, :channels].T
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1)
    deviation = np.sqrt(np.maximum(variance[::-1][:channels], 1e-6))
    return np.asarray(basis * np.sign(largest), np.float64), np.asarray(deviation, np.float64)
