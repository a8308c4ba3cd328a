"""How sure a difference of mean F1 is: both networks on the same pictures, persons drawn anew with replacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.hil.robust import Interval
from policyport.hil.statistics import ALPHA

DRAWS = 4000
SEED = 0


@dataclass(frozen=True)
class Counts:
    """What F1 is made of, of each person and unit: int64 [persons, units]."""

    hits: NDArray[np.int64]
    called: NDArray[np.int64]
    positives: NDArray[np.int64]

    @classmethod
    def of(cls, called: NDArray[np.bool_], labels: NDArray[np.int8], persons: NDArray[np.int32]) -> Counts:
        """Of pictures.

        :param called: [n, units], which units are called present
        :param labels: [n, units] of 1, 0, -1; unknown ones do not count
        :param persons: [n], who is on each
        """
        _, index = np.unique(persons, return_inverse=True)
        positive = labels == 1
        parts = called & positive, called & (labels != -1), positive
        summed = np.zeros((len(parts), index.max() + 1, labels.shape[1]), np.int64)
        for total, part in zip(summed, parts, strict=True):
            np.add.at(total, index, part)
        return cls(*summed)

    def mean_f1(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean over the units of 2 TP / (2 TP + FP + FN), [draws]; units without a positive are left out of a draw.

        :param weights: [draws, persons], how often each person is in a draw
        """
        hits, called, positives = (weights @ part for part in (self.hits, self.called, self.positives))
        with np.errstate(invalid="ignore"):
            f1 = np.where(positives > 0, 2 * hits / (called + positives), np.nan)
        return np.asarray(np.nanmean(f1, axis=1), np.float64)


def f1_difference(ours: Counts, theirs: Counts) -> Interval:
    """Of the mean F1 of two networks on the same pictures, ours less theirs; the same counts give the same interval."""
    persons = len(ours.hits)
    drawn = np.random.default_rng(SEED).multinomial(persons, np.full(persons, 1 / persons), DRAWS)
    both = np.concatenate([np.ones((1, persons), np.int64), drawn])
    differences = ours.mean_f1(both) - theirs.mean_f1(both)
    low, high = np.quantile(differences[1:], [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(differences[0]), float(low), float(high))
