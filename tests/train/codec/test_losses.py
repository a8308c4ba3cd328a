"""The paper's objectives by their formulas, MS-SSIM by what it must be."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from policyport.train.codec.losses import compression_objective, cycle_loss, ms_ssim  # noqa: E402


def test_compression_objective_is_the_papers_formula() -> None:
    code = torch.tensor([[3.0, -4.0, 0.0, 0.0], [1.0, 1.0, -1.0, 1.0]])
    got = compression_objective(code, alpha=0.5).tolist()
    assert got == pytest.approx([7 / 5 + 0.5 * 25 / 7, 4 / 2 + 0.5 * 4 / 4], rel=1e-5)


@pytest.mark.parametrize("kept", [1, 4, 9])
def test_first_term_is_the_root_of_how_many_are_not_zero_where_those_are_equal(kept: int) -> None:
    code = torch.zeros(1, 16)
    code[0, :kept] = 7.0
    assert compression_objective(code, alpha=0.0).item() == pytest.approx(math.sqrt(kept), rel=1e-4)


def test_second_term_grows_with_magnitude_and_the_first_does_not() -> None:
    code = torch.tensor(np.random.default_rng(0).normal(size=(1, 64)), dtype=torch.float32)
    first = [compression_objective(code * gain, 0.0).item() for gain in (1, 10)]
    both = [compression_objective(code * gain, 1.0).item() for gain in (1, 10)]
    assert first[0] == pytest.approx(first[1], rel=1e-4)
    assert both[1] - first[1] == pytest.approx(10 * (both[0] - first[0]), rel=1e-3)


def test_cycle_loss_is_zero_only_for_equal_codes() -> None:
    code = torch.ones(2, 3, 4, 4)
    again = code.clone()
    again[1, 0, 0, 0] = 5.0
    assert cycle_loss(code, again).tolist() == pytest.approx([0.0, 16 / 48])


def test_ms_ssim_is_one_for_the_same_picture_and_falls_with_noise() -> None:
    random = np.random.default_rng(1)
    picture = torch.tensor(random.random((1, 3, 192, 192)), dtype=torch.float32)
    noisy = [
        (picture + level * torch.randn(picture.shape, generator=torch.Generator().manual_seed(3)))
        for level in (0.0, 0.05, 0.2)
    ]
    values = [ms_ssim(picture, other).item() for other in noisy]
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    assert values[0] > values[1] > values[2]
