"""Rounding that looks at no data: to nearest, down, up, and by chance."""

from __future__ import annotations

import numpy as np
from policyport.core.semantics import Reals, weight_range


def nearest(weights: Reals, scales: Reals, bits: int) -> Reals:
    """To the nearest integer, half to even.

    :param weights: [..., D]
    :param scales: [...], positive
    :returns: integers of the weight range, as float64, of the weights' shape
    """
    return _inside(np.rint(weights / scales[..., None]), bits)


def floor(weights: Reals, scales: Reals, bits: int) -> Reals:
    """Down; shapes as :func:`nearest`."""
    return _inside(np.floor(weights / scales[..., None]), bits)


def ceil(weights: Reals, scales: Reals, bits: int) -> Reals:
    """Up; shapes as :func:`nearest`."""
    return _inside(np.ceil(weights / scales[..., None]), bits)


def stochastic(weights: Reals, scales: Reals, bits: int, rng: np.random.Generator) -> Reals:
    """Up with the probability of the fraction, else down (Gupta et al. 2015); shapes as :func:`nearest`."""
    steps = weights / scales[..., None]
    return _inside(np.floor(steps + rng.random(steps.shape)), bits)


def _inside(integers: Reals, bits: int) -> Reals:
    return np.clip(integers, *weight_range(bits))
