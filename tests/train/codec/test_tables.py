"""Contexts and tables from training pictures: what they give fits the coder, and is worth bytes."""

from __future__ import annotations

import numpy as np
import pytest
from policyport.core.codec_latents import decode_numbers, encode_numbers, multiplier, quantize_numbers

pytest.importorskip("scipy")

from policyport.train.codec.tables import fit_coder


def outputs(seed: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    """Rough and smooth places, channels that fall off: [rows, columns, channels]."""
    generator = np.random.default_rng(seed)
    busy = np.repeat(np.repeat(generator.choice([1.0, 12.0], (6, 5)), 4, axis=0), 4, axis=1)
    return generator.laplace(0, 1, (24, 20, 14)) * busy[..., None] * 40 / np.arange(1, 15)


def test_fitted_contexts_save_bytes_and_the_numbers_come_back() -> None:
    coder = fit_coder([outputs(seed) for seed in range(4)], 6.0, 0.4)
    test = outputs(9)
    scale = float(np.abs(test).max()) / 32767
    numbers = quantize_numbers(
        np.round(test / scale).astype(int), multiplier(float(coder.steps[7]), scale), coder.offsets
    )
    chunks = encode_numbers(numbers, coder)
    np.testing.assert_array_equal(decode_numbers(chunks, 24, 20, coder), numbers)
    # The first three are predicted from neighbours, which these are not like; the others have their contexts alone.
    shares = [np.unique(numbers[..., channel], return_counts=True)[1] / 480 for channel in range(3, 14)]
    without_contexts = 480 / 8 * sum(-(share * np.log2(share)).sum() for share in shares)
    assert sum(map(len, chunks[1:])) < 0.97 * without_contexts
    assert coder.table_bytes < 2048
