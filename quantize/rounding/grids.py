"""Scales of the weights: the grid that integers are chosen from. Symmetric, per row or one per layer.

Nagel et al. 2020, table 6, compares the three choices made here: the largest weight at the range's end,
the least squared error of the weights, and the least squared error of the layer's output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from policyport.core.semantics import Reals, weight_range
from policyport.quantize.rounding.nearest import nearest
from policyport.quantize.rounding.problem import LayerProblem

Grid = Literal["minmax", "weights", "outputs"]

SHRINKS = np.union1d(np.linspace(0.25, 1.15, 80), 1.0)
"""Factors on the min-max scale that a search for the least error tries, that scale itself among them."""


def minmax_scales(problem: LayerProblem, *, per_tensor: bool = False) -> Reals:
    """The largest magnitude of a row, or of the layer, at the upper end of the range: [G, R], float32 values.

    A row of zeros takes the scale of the layer's largest row, a layer of zeros the scale 1.
    """
    _, high = weight_range(problem.bits)
    largest = np.abs(problem.weights).max(axis=-1)
    layer = largest.max()
    largest = np.full_like(largest, layer) if per_tensor else largest
    return as_float32(np.where(largest > 0, largest, layer if layer > 0 else float(high)) / high)


def weight_scales(problem: LayerProblem, *, per_tensor: bool = False) -> Reals:
    """Scales [G, R] at which rounding to nearest moves the weights least, in mean square."""
    return _searched(problem, per_tensor, lambda error: np.sum(error * error, axis=-1))


def output_scales(problem: LayerProblem, *, per_tensor: bool = False) -> Reals:
    """Scales [G, R] at which rounding to nearest moves the layer's output least, in mean square."""
    return _searched(problem, per_tensor, lambda error: np.sum((error @ problem.hessian) * error, axis=-1))


GRIDS: dict[Grid, Callable[..., Reals]] = {"minmax": minmax_scales, "weights": weight_scales, "outputs": output_scales}
"""The choices by name, each called with the problem and ``per_tensor``."""


def candidate_scales(problem: LayerProblem, factors: Reals, *, per_tensor: bool = False) -> Reals:
    """The min-max scales times each factor: [F, G, R], float32 values."""
    return as_float32(factors[:, None, None] * minmax_scales(problem, per_tensor=per_tensor))


def as_float32(scales: Reals) -> Reals:
    """Scales as the product stores them: the nearest float32 values, positive, held in float64."""
    smallest = float(np.finfo(np.float32).tiny)
    return np.maximum(np.asarray(scales, np.float64), smallest).astype(np.float32).astype(np.float64)


def _searched(problem: LayerProblem, per_tensor: bool, measure: Callable[[Reals], Reals]) -> Reals:
    """The candidate with the least measure of the rounding error, for each row or for the whole layer."""
    best = np.full(problem.bias.shape, np.inf)
    chosen = minmax_scales(problem, per_tensor=per_tensor)
    for scales in candidate_scales(problem, SHRINKS, per_tensor=per_tensor):
        error = nearest(problem.weights, scales, problem.bits) * scales[..., None] - problem.weights
        cost = measure(error)
        cost = np.full_like(cost, cost.sum()) if per_tensor else cost
        better = cost < best
        best, chosen = np.where(better, cost, best), np.where(better, scales, chosen)
    return chosen
