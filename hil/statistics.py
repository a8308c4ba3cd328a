"""Statistics of returns: intervals, and whether two policies are equivalent on the same seeds.

Equivalence is tested, not the absence of a difference: the two one-sided tests (TOST) of Schuirmann
(J. Pharmacokinetics and Biopharmaceutics 15, 1987) on paired differences, with a margin that is stated
before the board plays its first episode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from policyport.core.paired import t_quantile, t_tail

Returns = NDArray[np.float64]

RESAMPLES = 10_000
"""Bootstrap resamples; the interval's ends then move by less than 1 % of its width between seeds."""

ALPHA = 0.05
"""Level of the equivalence test, and one minus that of the intervals."""

POWER = 0.9
"""How often a test with the planned number of episodes finds equivalent what has the same mean return."""

LIKE_NORMAL = 10_000
"""Episodes from which on t's quantiles are the normal distribution's, to a few parts in ten thousand."""

MOST_PLANNED = 10**9
"""Episodes that are the same as too many."""


@dataclass(frozen=True)
class Summary:
    """A set of returns."""

    count: int
    mean: float
    std: float
    """Sample standard deviation (n - 1); 0 for one value."""

    low: float
    """Lower end of the bootstrap interval of the mean."""

    high: float


@dataclass(frozen=True)
class Equivalence:
    """Outcome of a paired equivalence test."""

    margin: float
    """Difference of mean returns that does not matter, stated beforehand."""

    difference: float
    """Mean of (board - float32) over the seeds."""

    low: float
    """Lower end of the 1 - 2 alpha confidence interval of the difference."""

    high: float
    p_value: float
    """The larger of the two one-sided tests' p values."""

    equivalent: bool
    """``p_value`` < :data:`ALPHA`: the interval lies inside the margin."""

    @property
    def no_worse(self) -> bool:
        """Whether the one of the two tests that asks for a loss holds: non-inferiority at the same level and margin."""
        return self.equivalent or self.low > -self.margin


def summarize(returns: Returns, seed: int = 0) -> Summary:
    """Mean, standard deviation and bootstrap percentile interval of the mean.

    :param returns: [episodes], at least one
    :param seed: of the resampling
    """
    values = np.asarray(returns, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [ALPHA / 2, 1 - ALPHA / 2])
    return Summary(len(values), float(values.mean()), deviation(values), float(low), float(high))


def equivalence(board: Returns, reference: Returns, margin: float) -> Equivalence:
    """Paired two one-sided t tests of the mean difference against ``margin``.

    :param board: [episodes], on the same seeds and in the same order as ``reference``
    :param margin: positive, in units of return
    """
    difference = np.asarray(board, np.float64) - np.asarray(reference, np.float64)
    count, mean = len(difference), float(difference.mean())
    error = deviation(difference) / math.sqrt(count)
    if error == 0.0 or count < 2:
        # No spread to estimate: all differences are equal, or there is one; only the mean can be judged.
        inside = abs(mean) < margin and count > 1
        return Equivalence(margin, mean, mean, mean, 0.0 if inside else 1.0, inside)
    degrees = count - 1
    p_value = max(t_tail((mean + margin) / error, degrees), t_tail((margin - mean) / error, degrees))
    reach = t_quantile(ALPHA, degrees) * error
    return Equivalence(margin, mean, mean - reach, mean + reach, p_value, p_value < ALPHA)


def planned_episodes(spread: float, margin: float, power: float = POWER) -> int:
    """Episodes that :func:`equivalence` needs where the mean returns do not differ, 2 at the least.

    The smallest n that is at least ``((t(1 - alpha) + t(1 - (1 - power) / 2)) * spread / margin)**2``, t of n - 1
    degrees of freedom: both one-sided tests must hold, so that each may miss half of what ``power`` leaves.

    :param spread: standard deviation of the paired differences
    :param margin: positive
    """
    tails = ALPHA, (1.0 - power) / 2.0
    ratio = min(spread / margin, MOST_PLANNED)
    normal = NormalDist()
    asked = ratio * sum(normal.inv_cdf(1.0 - tail) for tail in tails)
    count = int(min(max(2, math.ceil(asked**2)), MOST_PLANNED))
    while count < LIKE_NORMAL and math.sqrt(count) < ratio * sum(t_quantile(tail, count - 1) for tail in tails):
        count += 1
    return count


def deviation(values: Returns) -> float:
    """Sample standard deviation (n - 1); 0 for one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
