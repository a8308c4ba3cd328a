"""Weights and biases to integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Reals, quantize_bias, weight_range

BIAS_LIMIT = 2**28
"""Largest integer a bias may take: a row of tiny weights gets a larger scale instead of a saturated bias."""


def row_scales(
    weights: Reals, bias: Reals, scale_input: float, bits: int, *, per_channel: bool = True
) -> NDArray[np.float32]:
    """Scale of each row, so that its largest weight is the largest integer.

    A row of zeros takes the scale of the layer's largest row; a row whose bias would not fit takes
    the smallest scale at which it does.

    :param weights: [outputs, taps...]
    :param bias: [outputs]
    :param per_channel: False gives all rows the largest of their scales
    :returns: [outputs] float32, positive
    """
    _, high = weight_range(bits)
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    layer = largest.max()
    largest = np.where(largest > 0, largest, layer if layer > 0 else 1.0)
    fits_bias = np.abs(bias) / (scale_input * BIAS_LIMIT)
    scales = np.maximum(largest / high, fits_bias)
    if not per_channel:
        scales = np.full_like(scales, scales.max())
    return np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)


def round_weights(weights: Reals, scales: NDArray[np.float32], bits: int) -> Integers:
    """Weights [outputs, taps...] to the nearest integers, half to even, saturated."""
    low, high = weight_range(bits)
    rows = scales.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    steps = np.rint(np.asarray(weights, np.float64) / rows)
    return np.clip(steps, low, high).astype(np.int64)


def round_bias(bias: Reals, scale_input: float, scales: NDArray[np.float32]) -> Integers:
    """Bias [outputs] to int32 at ``scale_input * scales``."""
    return quantize_bias(bias, scale_input, scales.astype(np.float64))
