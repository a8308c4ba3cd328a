"""F1, AUC and tuned thresholds against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.recognition import auc, f1, recognition, tuned_thresholds

labels = st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=30)


@given(labels, st.integers(0, 99), st.integers(1, 9))
def test_against_scikit_learn(values: list[int], seed: int, distinct: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth = np.array(values, np.int8)
    scores = np.random.default_rng(seed).integers(0, distinct, len(truth)) / distinct
    known = truth != -1
    if (truth == 1).any():
        expected = metrics.f1_score(truth[known], scores[known] > 0.5, zero_division=0)
        assert f1(scores > 0.5, truth) == pytest.approx(expected)
    else:
        assert np.isnan(f1(scores > 0.5, truth))
    if {0, 1} <= set(truth.tolist()):
        assert auc(scores, truth) == pytest.approx(metrics.roc_auc_score(truth[known], scores[known]))
    else:
        assert np.isnan(auc(scores, truth))


@given(labels, st.integers(0, 99), st.integers(1, 9))
def test_no_threshold_is_better_than_the_tuned_one(values: list[int], seed: int, distinct: int) -> None:
    truth = np.array(values, np.int8)[:, None]
    scores = np.random.default_rng(seed).integers(0, distinct, truth.shape) / distinct
    (threshold,) = tuned_thresholds(scores, truth)
    if (truth == 1).any():
        found = f1(scores[:, 0] > threshold, truth[:, 0])
        others = [f1(scores[:, 0] > limit, truth[:, 0]) for limit in np.linspace(-0.05, 1, 43)]
        assert found >= max(others) - 1e-12


def test_unknown_labels_do_not_count() -> None:
    scores = np.array([[0.9], [0.1], [0.9], [0.2]])
    truth = np.array([[1], [0], [-1], [-1]], np.int8)
    found = recognition(scores, truth)
    assert found.mean_f1 == 1 and found.mean_auc == 1
    nothing = recognition(scores, np.full_like(truth, -1))
    assert nothing.mean_f1 == nothing.mean_auc == 0
