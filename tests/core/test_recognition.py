"""F1, AUC and tuned thresholds against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.recognition import auc, averaged_thresholds, f1, recognition, tuned_thresholds

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


def subjects_drawn(seed: int, subjects: int, pictures: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a present and an absent label that overlap, and who is on each picture."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, (subjects * pictures, 1)).astype(np.int8)
    scores = random.normal(size=truth.shape) + 1.2 * truth
    return scores, truth, np.repeat(np.arange(subjects, dtype=np.int32), pictures)


def test_averaged_thresholds_scatter_less_than_tuned_ones() -> None:
    sets = [subjects_drawn(seed, 12) for seed in range(20)]
    averaged = [float(averaged_thresholds(*one)[0]) for one in sets]
    tuned = [float(tuned_thresholds(scores, truth)[0]) for scores, truth, _ in sets]
    assert np.std(averaged) < 0.9 * np.std(tuned) and abs(np.mean(averaged) - np.mean(tuned)) < 0.2
    assert float(averaged_thresholds(*sets[0])[0]) == averaged[0]


def test_averaged_thresholds_of_one_subject_are_the_tuned_ones() -> None:
    scores, truth, subjects = subjects_drawn(0, 1, 30)
    np.testing.assert_allclose(averaged_thresholds(scores, truth, subjects), tuned_thresholds(scores, truth))


def test_sets_without_a_positive_do_not_count() -> None:
    scores, truth, subjects = subjects_drawn(1, 6)
    rare = np.where(subjects[:, None] == 0, truth, 0).astype(np.int8)
    absent = np.zeros_like(truth)
    found = averaged_thresholds(np.hstack([scores, scores]), np.hstack([rare, absent]), subjects)
    alone = averaged_thresholds(scores, rare, subjects)
    assert found[0] == pytest.approx(alone[0]) and found[1] == 0.5
