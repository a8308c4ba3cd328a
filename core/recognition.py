"""How well units are recognized: F1 at a threshold, the threshold tuned on other pictures, area under the curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Recognition:
    """Figures of each unit, [units] each, NaN where the labels hold only one class.

    The means leave those out, and are 0 where nothing is left.
    """

    f1: NDArray[np.float64]
    auc: NDArray[np.float64]

    @property
    def mean_f1(self) -> float:
        return _mean(self.f1)

    @property
    def mean_auc(self) -> float:
        return _mean(self.auc)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def recognition(scores: Scores, labels: NDArray[np.int8], thresholds: float | Scores = 0.5) -> Recognition:
    """F1 and AUC of each unit.

    :param scores: [n, units], larger where the unit is likelier present
    :param labels: [n, units] of 1, 0, -1; unknown ones do not count
    :param thresholds: a unit is called present above it; one for all or [units]
    """
    limits = np.broadcast_to(thresholds, scores.shape[1])
    columns = range(scores.shape[1])
    return Recognition(
        np.array([f1(scores[:, j] > limits[j], labels[:, j]) for j in columns]),
        np.array([auc(scores[:, j], labels[:, j]) for j in columns]),
    )


def f1(called: NDArray[np.bool_], labels: NDArray[np.int8]) -> float:
    """2 TP / (2 TP + FP + FN) over the known labels; NaN where none is positive."""
    hit = np.sum(called & (labels == 1))
    positives = np.sum(labels == 1)
    return float(2 * hit / (positives + np.sum(called & (labels != -1)))) if positives else np.nan


def auc(scores: Scores, labels: NDArray[np.int8]) -> float:
    """Probability that a present one scores higher than an absent one, ties half; NaN where either is missing."""
    from scipy.stats import rankdata

    known = labels != -1
    positive = labels[known] == 1
    ranks = rankdata(scores[known])
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else np.nan


def tuned_thresholds(scores: Scores, labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """The threshold of highest F1 of each unit, [units], midway between two scores; 0.5 where no label is positive."""
    return np.array([_tuned(scores[:, j], labels[:, j]) for j in range(scores.shape[1])])


def averaged_thresholds(
    scores: Scores, labels: NDArray[np.int8], subjects: NDArray[np.int32], draws: int = 100
) -> NDArray[np.float64]:
    """Mean of the thresholds tuned on sets of subjects that are drawn anew with replacement, [units].

    The threshold of highest F1 scatters widely from set to set, its mean less (bagging: Breiman 1996, "Bagging
    predictors"). Sets without a positive label of a unit do not count for it; 0.5 where none has one. The same scores
    give the same thresholds.

    :param subjects: [n], who is on each picture
    """
    random, (names, index) = np.random.default_rng(0), np.unique(subjects, return_inverse=True)
    pictures = [np.flatnonzero(index == number) for number in range(len(names))]
    found = np.full((draws, scores.shape[1]), np.nan)
    for row in found:
        drawn = np.concatenate([pictures[number] for number in random.integers(0, len(names), len(names))])
        there = (labels[drawn] == 1).any(axis=0)
        row[there] = tuned_thresholds(scores[drawn][:, there], labels[drawn][:, there])
    counts = np.maximum((~np.isnan(found)).sum(axis=0), 1)
    return np.where(np.isnan(found).all(axis=0), 0.5, np.nansum(found, axis=0) / counts)


def _tuned(scores: Scores, labels: NDArray[np.int8]) -> float:
    known = labels != -1
    order = np.argsort(-scores[known], kind="stable")
    ranked, positive = scores[known][order].astype(np.float64), labels[known][order] == 1
    if not positive.any():
        return 0.5
    hits = np.cumsum(positive)
    value = 2 * hits / (positive.sum() + np.arange(1, len(hits) + 1))
    last = np.append(ranked[1:] < ranked[:-1], True)  # equal scores fall on the same side
    best = int(np.argmax(np.where(last, value, -1)))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1e-6
    return float((ranked[best] + below) / 2)
