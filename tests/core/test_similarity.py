"""MS-SSIM without torch: that of training's in torch, and what it says of pictures that are alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from policyport.core.similarity import SMALLEST_SIDE, WEIGHTS, ms_ssim


def pair(seed: int, rows: int, columns: int, noise: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture, and the same with noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    waves = 128 + 90 * np.sin(y[..., None] * random.uniform(0, 1, 3) + x[..., None] * random.uniform(0, 1, 3))
    other = np.clip(waves + random.normal(0, noise, waves.shape), 0, 255)
    return waves.astype(np.uint8), other.astype(np.uint8)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 30), st.floats(0, 60))
def test_it_is_that_of_training(seed: int, more_rows: int, more_columns: int, noise: float) -> None:
    torch = pytest.importorskip("torch")
    from policyport.train.codec import losses

    assert losses.MS_SSIM_WEIGHTS == WEIGHTS
    first, second = pair(seed, SMALLEST_SIDE + more_rows, SMALLEST_SIDE + more_columns, noise)
    planes = (torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float64) / 255) for p in (first, second))
    assert ms_ssim(first, second) == pytest.approx(float(losses.ms_ssim(*planes)), abs=1e-12)


def test_more_noise_is_less_alike() -> None:
    values = [ms_ssim(*pair(1, 161, 161, noise)) for noise in (0.0, 10.0, 40.0)]
    assert values == sorted(values, reverse=True) and len({*values}) == 3
    first, _ = pair(1, 161, 161, 0)
    assert ms_ssim(first, first) == pytest.approx(1.0)
