"""Weights and biases to integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Reals, quantize_bias, weight_range

BIAS_LIMIT = 2**28
"""Largest integer a bias may take: a row of tiny weights gets a larger scale instead of a saturated bias."""

ROUNDING_ROOM = 2.0
"""By how much a rounded row may reach farther than one whose weights were all its largest."""


def row_scales(
    weights: Reals,
    bias: Reals,
    scale_input: float,
    bits: int,
    *,
    per_channel: bool = True,
    bias_limit: int = BIAS_LIMIT,
) -> NDArray[np.float32]:
    """Scale of each row, so that its largest weight is the largest integer.

    A row of zeros takes the scale of the layer's largest row; a row whose bias would not fit takes
    the smallest scale at which it does.

    :param weights: [outputs, taps...]
    :param bias: [outputs]
    :param per_channel: False gives all rows the largest of their scales
    :param bias_limit: largest integer a bias may take
    :returns: [outputs] float32, positive
    """
    _, high = weight_range(bits)
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    layer = largest.max()
    largest = np.where(largest > 0, largest, layer if layer > 0 else 1.0)
    fits_bias = np.abs(bias) / (scale_input * bias_limit)
    scales = np.maximum(largest / high, fits_bias)
    if not per_channel:
        scales = np.full_like(scales, scales.max())
    return np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)


def layer_scales(
    weights: Reals, bias: Reals, scale_input: float, scale_output: float, bits: int, *, per_channel: bool = True
) -> NDArray[np.float32]:
    """:func:`row_scales` with room for the shift of the whole layer that its largest row asks for.

    :param scale_output: of the result before a table
    """
    scales = row_scales(weights, bias, scale_input, bits, per_channel=per_channel)
    limit = bias_limit(float(scales.max()) * scale_input / scale_output)
    return row_scales(weights, bias, scale_input, bits, per_channel=per_channel, bias_limit=limit)


def bias_limit(largest_ratio: float) -> int:
    """Largest integer a bias may take in a layer whose accumulators are scaled by that much at the most."""
    shift = max(0, int(np.ceil(np.log2(largest_ratio))) + 1) if np.isfinite(largest_ratio) and largest_ratio > 0 else 0
    return BIAS_LIMIT >> min(shift, 20)


def bounded_bias(
    bias: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    reach_input: tuple[float, float],
    reach_output: tuple[float, float],
) -> Reals:
    """A bias brought so near to the output's range that it just saturates whatever the input: the same outputs.

    A channel that is always cut off, as behind a ReLU that never lets it through, may have a bias of any
    size; at the scale of tiny weights no integer could hold it.

    :param bias: [outputs]
    :param weights: [outputs, taps...]
    :param reach_input: smallest and largest real value of the input
    :param reach_output: likewise of the output, before a table
    """
    flat = np.abs(np.asarray(weights, np.float64)).reshape(len(weights), -1)
    most = max(map(abs, reach_input)) * flat.shape[1] * flat.max(axis=1)
    room = ROUNDING_ROOM * most + (reach_output[1] - reach_output[0])
    return np.clip(np.asarray(bias, np.float64), reach_output[0] - room, reach_output[1] + room)


def round_weights(weights: Reals, scales: NDArray[np.float32], bits: int) -> Integers:
    """Weights [outputs, taps...] to the nearest integers, half to even, saturated."""
    low, high = weight_range(bits)
    rows = scales.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    steps = np.rint(np.asarray(weights, np.float64) / rows)
    return np.clip(steps, low, high).astype(np.int64)


def round_bias(bias: Reals, scale_input: float, scales: NDArray[np.float32]) -> Integers:
    """Bias [outputs] to int32 at ``scale_input * scales``."""
    return quantize_bias(bias, scale_input, scales.astype(np.float64))
