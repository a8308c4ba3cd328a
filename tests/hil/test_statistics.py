"""Intervals and the equivalence test, against published values and by what they must do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.paired import t_tail
from policyport.hil import statistics


def test_summary_of_a_constant_has_no_width() -> None:
    summary = statistics.summarize(np.full(20, 500.0))
    assert (summary.count, summary.mean, summary.std, summary.low, summary.high) == (20, 500.0, 0.0, 500.0, 500.0)


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    samples = [statistics.summarize(rng.normal(size=30), seed) for seed in range(200)]
    covered = sum(s.low <= 0.0 <= s.high for s in samples)
    assert 175 <= covered <= 199  # 95 % of 200, bootstrap intervals run a little narrow


def test_equal_returns_are_equivalent() -> None:
    test = statistics.equivalence(np.full(20, 500.0), np.full(20, 500.0), 5.0)
    assert test.equivalent and test.p_value == 0.0 and test.difference == 0.0


def test_a_constant_loss_beyond_the_margin_is_not() -> None:
    assert not statistics.equivalence(np.full(20, 490.0), np.full(20, 500.0), 5.0).equivalent


def test_one_episode_proves_nothing() -> None:
    assert not statistics.equivalence(np.array([500.0]), np.array([500.0]), 5.0).equivalent


def test_a_wide_spread_is_not_taken_for_equivalence() -> None:
    rng = np.random.default_rng(2)
    noisy = rng.normal(0, 100, 20)
    assert not statistics.equivalence(noisy, np.zeros(20), 10.0).equivalent
    quiet = rng.normal(0, 5, 20)
    assert statistics.equivalence(quiet, np.zeros(20), 10.0).equivalent


def test_known_case_by_hand() -> None:
    test = statistics.equivalence(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.zeros(5), 6.0)
    error = np.sqrt(2.5 / 5)
    assert test.difference == 3.0
    assert test.low == pytest.approx(3.0 - 2.1318 * error, abs=1e-3)
    assert test.high == pytest.approx(3.0 + 2.1318 * error, abs=1e-3)
    assert test.p_value == pytest.approx(t_tail(3.0 / error, 4))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(0.1, 1e3))
def test_equivalent_means_that_the_interval_lies_inside_the_margin(values: list[float], margin: float) -> None:
    returns = np.array(values)
    test = statistics.equivalence(returns, np.zeros(len(returns)), margin)
    assert test.low <= test.difference <= test.high
    if test.equivalent:
        assert -margin < test.low and test.high < margin
    else:
        assert test.low <= -margin * (1 - 1e-9) or test.high >= margin * (1 - 1e-9)


def test_no_worse_asks_for_the_lower_end_alone() -> None:
    rng = np.random.default_rng(3)
    better = statistics.equivalence(rng.normal(12, 5, 40), np.zeros(40), 10.0)
    assert better.no_worse and not better.equivalent
    worse = statistics.equivalence(rng.normal(-12, 5, 40), np.zeros(40), 10.0)
    assert not worse.no_worse and not worse.equivalent


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(0.1, 1e3))
def test_what_is_equivalent_is_no_worse(values: list[float], margin: float) -> None:
    test = statistics.equivalence(np.array(values), np.zeros(len(values)), margin)
    assert test.no_worse or not test.equivalent


@pytest.mark.parametrize(("spread", "margin", "normal"), [(10.0, 5.0, 44), (140.0, 16.0, 829), (1.0, 10.0, 2)])
def test_planned_episodes_are_those_of_the_normal_approximation_and_a_few(
    spread: float, margin: float, normal: int
) -> None:
    """(1.645 + 1.645)^2 (spread / margin)^2 for a power of 90 %: Julious, Statistics in Medicine 23, 2004."""
    assert normal <= statistics.planned_episodes(spread, margin) <= normal + 4


def test_the_planned_number_finds_what_is_the_same_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    count = statistics.planned_episodes(10.0, 4.0)
    found = [statistics.equivalence(rng.normal(0, 10, count), np.zeros(count), 4.0).equivalent for _ in range(400)]
    assert 0.86 <= np.mean(found) <= 0.94


def test_a_true_difference_of_the_margin_passes_no_more_often_than_the_level() -> None:
    rng = np.random.default_rng(5)
    found = [statistics.equivalence(rng.normal(4, 10, 60), np.zeros(60), 4.0).equivalent for _ in range(400)]
    assert np.mean(found) <= 0.08


@given(st.floats(0.1, 50.0), st.floats(0.5, 50.0))
def test_a_wider_margin_asks_for_no_more_episodes(spread: float, margin: float) -> None:
    assert statistics.planned_episodes(spread, 2 * margin) <= statistics.planned_episodes(spread, margin)


def test_a_margin_of_next_to_nothing_asks_for_more_than_anybody_plays() -> None:
    assert statistics.planned_episodes(1.0, 1e-300) == statistics.MOST_PLANNED
    assert statistics.planned_episodes(0.0, 1.0) == 2
