"""Paired tests: whether two ways of doing the same cases differ by more than chance.

The exact test of McNemar (Psychometrika 12, 1947) for cases that each way does right or wrong, Student's paired t for
errors that have a size, and Holm's correction (Scandinavian Journal of Statistics 6, 1979) where there are many tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Level of a test."""


def p_as_many(gained: int, lost: int) -> float:
    """How likely chance alone gains so many cases or more of those that differ: one side of the exact McNemar test.

    Each of the cases that only one of both ways does right is as likely to be gained as lost.

    :param gained: cases that only the second way does right
    :param lost: cases that only the first does right
    """
    differ = gained + lost
    return sum(math.comb(differ, count) for count in range(gained, differ + 1)) / 2**differ


def mcnemar(gained: int, lost: int) -> float:
    """The exact McNemar test of both sides: how likely chance alone is as uneven, at most 1.

    :param gained: cases that only the second way does right
    :param lost: cases that only the first does right
    """
    return min(1.0, 2 * p_as_many(max(gained, lost), min(gained, lost)))


def p_as_large(differences: NDArray[np.floating[Any]]) -> float:
    """How likely a mean difference as large or larger is by chance, where it is none: one side of the paired t test.

    1 where fewer than two differences leave no spread to estimate.

    :param differences: [n], of pairs
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        return 1.0
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if error == 0.0:
        return 0.0 if mean > 0 else 1.0
    return t_tail(mean / error, len(values) - 1)


def t_tail(t: float, degrees: int) -> float:
    """P(T > t) of Student's t.

    :param degrees: of freedom, 1 at the least
    """
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))


def t_quantile(tail: float, degrees: int) -> float:
    """The t that leaves ``tail``, between 0 and 1, above it.

    :param degrees: of freedom, 1 at the least
    """
    from scipy.special import stdtrit

    return -float(stdtrit(degrees, tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of several tests, corrected so that one false finding among all has the level that each had.

    :returns: in the order given, each at least as large as given and at most 1
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
