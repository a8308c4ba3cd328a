"""Statistics of returns that a few bad episodes do not sway: interquartile mean, stratified bootstrap.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021): the mean of the
middle half of all episodes, and an interval from resampling the episodes of each training run by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from policyport.hil.statistics import ALPHA, Returns

RESAMPLES = 2_000

Statistic = Callable[[Returns], Returns]
"""[..., episodes] to [...]."""


@dataclass(frozen=True)
class Interval:
    """A statistic and its bootstrap percentile interval, of level 1 - :data:`ALPHA`."""

    value: float
    low: float
    high: float


def interquartile_mean(returns: Returns) -> Returns:
    """Mean of the middle half; where a quarter is no whole number of values, the outermost kept count in part.

    :param returns: [..., episodes], at least one
    :returns: [...]
    """
    ordered = np.sort(np.asarray(returns, np.float64), axis=-1)
    count = ordered.shape[-1]
    places = np.arange(count)
    weights = np.clip(np.minimum(places + 1 - count / 4, 3 * count / 4 - places), 0.0, 1.0)
    return np.asarray(ordered @ weights / weights.sum())


def mean(returns: Returns) -> Returns:
    """Mean over the episodes: [..., episodes] to [...]."""
    return np.asarray(np.mean(returns, axis=-1))


def stratified(strata: Sequence[Returns], statistic: Statistic, seed: int = 0) -> Interval:
    """A statistic over all episodes, resampled within each stratum.

    :param strata: [episodes] of each training run, at least one
    :param seed: of the resampling
    """
    random = np.random.default_rng(seed)
    drawn = [np.asarray(part)[random.integers(0, len(part), (RESAMPLES, len(part)))] for part in strata]
    low, high = np.quantile(statistic(np.concatenate(drawn, axis=1)), [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(statistic(np.concatenate(strata))), float(low), float(high))
