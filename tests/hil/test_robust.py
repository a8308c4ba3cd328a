"""Interquartile mean and stratified bootstrap, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.hil.robust import interquartile_mean, mean, stratified

RETURNS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(RETURNS)
def test_the_middle_half_is_between_the_quartile_values(values: list[float]) -> None:
    array = np.array(values)
    found = float(interquartile_mean(array))
    assert array.min() - 1e-9 <= found <= array.max() + 1e-9
    assert found == pytest.approx(float(interquartile_mean(np.repeat(array, 4))), abs=1e-6)


@given(
    st.integers(1, 10).flatmap(
        lambda quarter: st.lists(st.floats(-1e3, 1e3), min_size=4 * quarter, max_size=4 * quarter)
    )
)
def test_whole_quarters_are_left_out(values: list[float]) -> None:
    quarter = len(values) // 4
    middle = sorted(values)[quarter : len(values) - quarter]
    assert float(interquartile_mean(np.array(values))) == pytest.approx(float(np.mean(middle)), abs=1e-6)


def test_one_bad_episode_in_eight_does_not_count() -> None:
    assert float(interquartile_mean(np.array([500.0] * 7 + [0.0]))) == 500.0


@given(st.lists(RETURNS, min_size=1, max_size=4), st.integers(0, 5))
def test_an_interval_repeats_and_stays_within_the_values(strata: list[list[float]], seed: int) -> None:
    arrays = [np.array(part) for part in strata]
    found = stratified(arrays, mean, seed)
    assert found == stratified(arrays, mean, seed)
    every = np.concatenate(arrays)
    assert every.min() - 1e-9 <= found.low <= found.high <= every.max() + 1e-9


def test_strata_are_resampled_by_themselves() -> None:
    """Two runs that differ and do not vary: no resampling moves their common mean."""
    found = stratified([np.zeros(5), np.ones(5)], mean)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
