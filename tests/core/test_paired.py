"""Paired tests: exact where they can be counted out, and right as often as their level says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.paired import ALPHA, holm, mcnemar, p_as_large, p_as_many, t_quantile, t_tail

counts = st.integers(0, 200)


@pytest.mark.parametrize("differ", range(8))
def test_chance_is_counted_out(differ: int) -> None:
    """Every way in which so many coins can fall."""
    falls = [sum(coins) for coins in itertools.product((0, 1), repeat=differ)]
    for gained in range(differ + 1):
        lost = differ - gained
        assert p_as_many(gained, lost) == pytest.approx(np.mean([fall >= gained for fall in falls]))
        uneven = [abs(2 * fall - differ) >= abs(gained - lost) for fall in falls]
        assert mcnemar(gained, lost) == pytest.approx(np.mean(uneven))


@given(counts, counts)
def test_mcnemar_has_no_side(gained: int, lost: int) -> None:
    assert mcnemar(gained, lost) == mcnemar(lost, gained)
    assert 0 < mcnemar(gained, lost) <= 1
    assert p_as_many(0, lost) == pytest.approx(1)
    if gained:
        assert p_as_many(gained, lost) + p_as_many(lost + 1, gained - 1) == pytest.approx(1)


@given(st.integers(2, 40), st.floats(-2, 2), st.integers(0, 10**6))
def test_a_mean_is_tested_as_scipy_tests_it(n: int, shift: float, seed: int) -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(seed).normal(shift, 1.0, n)
    assert p_as_large(values) == pytest.approx(ttest_1samp(values, 0.0, alternative="greater").pvalue, abs=1e-12)
    assert p_as_large(values) + p_as_large(-values) == pytest.approx(1)


def test_differences_without_spread_are_judged_by_their_sign() -> None:
    assert p_as_large(np.full(5, 0.5)) == 0.0
    assert p_as_large(np.zeros(5)) == p_as_large(np.full(5, -0.5)) == 1.0
    assert p_as_large(np.array([3.0])) == p_as_large(np.array([])) == 1.0


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_rejects_no_more_than_each_test_and_no_less_than_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, one in zip(p_values, corrected, strict=True):
        assert p <= one <= min(1.0, len(p_values) * p)
    in_order = [one for _, one in sorted(zip(p_values, corrected, strict=True))]
    assert in_order == sorted(corrected)


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_chance_alone_is_found_no_more_often_than_the_level() -> None:
    rng = np.random.default_rng(0)
    gained = rng.binomial(30, 0.5, 2000)
    assert np.mean([mcnemar(int(one), 30 - int(one)) < ALPHA for one in gained]) <= ALPHA


T_TABLE = [(1, 0.05, 6.3138), (4, 0.05, 2.1318), (19, 0.05, 1.7291), (19, 0.025, 2.0930), (120, 0.05, 1.6577)]
"""Degrees of freedom, upper tail, t: any table of Student's distribution."""


@pytest.mark.parametrize(("degrees", "tail", "t"), T_TABLE)
def test_student_t_is_the_published_one(degrees: int, tail: float, t: float) -> None:
    assert t_quantile(tail, degrees) == pytest.approx(t, abs=1e-4)
    assert t_tail(t, degrees) == pytest.approx(tail, abs=1e-5)
    assert t_tail(-t, degrees) == pytest.approx(1 - tail, abs=1e-5)
