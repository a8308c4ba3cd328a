"""One layer's rounding as integer least squares, from statistics of the features it reads.

Round the weights W of a layer so that its output changes least where its input was changed already:
minimise ``E |(W x + b) - (scale * z) x^ - b'|^2`` over integers z of the weight range and a real bias
b', x being the float network's features and x^ the quantized network's (the asymmetric objective of
Nagel et al. 2020, section 3.4, without its activation function). The mean over the observations
separates by output row k into

    (scale_k z_k - w*_k)^T H (scale_k z_k - w*_k) + constant,    H = E[x^ x^T],

with w* the real weights that minimise it. The ridge pulls w* towards W where the observations say
nothing. Centred features leave b' free, and :meth:`LayerProblem.refitted_bias` is its exact optimum.

Shapes: a layer has G groups (1 unless it is a grouped convolution) of R rows over D inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError, UnsupportedModelError
from policyport.core.semantics import Integers, Reals, weight_range

RIDGE = 1e-4
"""Default ridge, as a share of the features' mean variance."""


@dataclass(frozen=True)
class LayerProblem:
    """Minimise :meth:`objective` over integers in [low, high], for scales that are given."""

    name: str
    """The layer, for errors."""

    bits: int
    weights: Reals
    """[G, R, D], the float layer's."""

    bias: Reals
    """[G, R], the float layer's."""

    hessian: Reals
    """[G, D, D], symmetric and positive definite: second moments of the quantized features, and the ridge."""

    target: Reals
    """[G, R, D], the real weights with the least objective."""

    float_mean: Reals | None
    """[G, D], mean of the float features; None where the bias stays as it is."""

    quantized_mean: Reals | None
    """[G, D], mean of the quantized features."""

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer of a weight."""
        return weight_range(self.bits)

    def objective(self, integers: NDArray[Any], scales: Reals) -> Reals:
        """Each row's objective, [G, R], in squared units of the layer's output.

        :param integers: [G, R, D]
        :param scales: [G, R]
        """
        error = integers * scales[..., None] - self.target
        values: Reals = np.sum((error @ self.hessian) * error, axis=-1)
        return values

    def refitted_bias(self, integers: Integers, scales: Reals) -> Reals:
        """The bias [G, R] that leaves no mean error on the observations: the exact optimum for these weights."""
        if self.float_mean is None or self.quantized_mean is None:
            return self.bias
        weights = integers * scales[..., None]
        wanted = np.einsum("grd,gd->gr", self.weights, self.float_mean)
        given = np.einsum("grd,gd->gr", weights, self.quantized_mean)
        return self.bias + wanted - given

    def tiled(self, times: int) -> LayerProblem:
        """The same rows ``times`` over, [G, times * R, D]: to solve them under several scales at once."""
        return replace(
            self,
            weights=np.tile(self.weights, (1, times, 1)),
            bias=np.tile(self.bias, (1, times)),
            target=np.tile(self.target, (1, times, 1)),
        )


@dataclass(frozen=True)
class Solution:
    """Rounded weights of a layer."""

    integers: Integers
    """[G, R, D], inside the weight range."""

    scales: Reals
    """[G, R], float32 values."""

    bias: Reals
    """[G, R], real: to be rounded at the accumulator's scale."""

    objective: Reals
    """[G, R]"""


def solution(problem: LayerProblem, integers: NDArray[Any], scales: Reals) -> Solution:
    """What a solver found, its bias refitted and its integers held against the grid.

    :raises AssertionError: an integer is off the grid, which is a bug of the solver
    """
    low, high = problem.range
    whole = np.asarray(integers, np.int64)
    assert np.array_equal(whole, integers) and whole.min() >= low and whole.max() <= high, problem.name
    return Solution(whole, scales, problem.refitted_bias(whole, scales), problem.objective(whole, scales))


class Moments:
    """Means and second moments of a layer's features, gathered in batches.

    Batches are merged by Chan's formula (Chan, Golub and LeVeque 1983), so that neither their number nor
    a large mean costs accuracy.
    """

    def __init__(self, groups: int, inputs: int, name: str = "") -> None:
        self.name = name
        self.count = 0
        """Positions seen: observations times places of the kernel."""

        self.float_mean = np.zeros((groups, inputs))
        self.quantized_mean = np.zeros((groups, inputs))
        self._quantized = np.zeros((groups, inputs, inputs))
        self._cross = np.zeros((groups, inputs, inputs))

    def update(self, float_features: NDArray[Any], quantized_features: NDArray[Any]) -> None:
        """Take a batch in.

        :param float_features: [..., G, D], what the float network's layer reads
        :param quantized_features: same shape, what the quantized network's layer reads, as real values
        :raises ObservationError: another shape, or NaN or infinity
        """
        floats, quantized = self._checked(float_features, "float"), self._checked(quantized_features, "quantized")
        if floats.shape != quantized.shape:
            raise ObservationError(
                "a layer's float and quantized features differ in number",
                where=self.name,
                expected=floats.shape[1],
                got=quantized.shape[1],
            )
        count = floats.shape[1]
        if count == 0:
            return
        batch = Moments(self.float_mean.shape[0], self.float_mean.shape[1], self.name)
        batch.count, batch.float_mean, batch.quantized_mean = count, floats.mean(axis=1), quantized.mean(axis=1)
        floats, quantized = floats - batch.float_mean[:, None], quantized - batch.quantized_mean[:, None]
        batch._quantized = quantized.transpose(0, 2, 1) @ quantized
        batch._cross = floats.transpose(0, 2, 1) @ quantized
        self.merge(batch)

    def merge(self, other: Moments) -> None:
        """Take in what another has seen of the same layer."""
        if other.count == 0:
            return
        share = other.count / (self.count + other.count)
        float_step, quantized_step = other.float_mean - self.float_mean, other.quantized_mean - self.quantized_mean
        between = self.count * share
        self._quantized += other._quantized + between * quantized_step[:, :, None] * quantized_step[:, None, :]
        self._cross += other._cross + between * float_step[:, :, None] * quantized_step[:, None, :]
        self.float_mean += share * float_step
        self.quantized_mean += share * quantized_step
        self.count += other.count

    def error(self, weights: Reals, bias: Reals, rounded: Reals, rounded_bias: Reals) -> float:
        """Mean squared error of a rounded layer's outputs on what was seen, less a part that no rounding changes.

        :param weights: and ``rounded``: [G, R, D], real values
        :param bias: and ``rounded_bias``: [G, R]
        """
        mean = np.einsum("grd,gd->gr", rounded, self.quantized_mean) + rounded_bias
        mean -= np.einsum("grd,gd->gr", weights, self.float_mean) + bias
        spread = np.einsum("grd,gde,gre->", rounded, self._quantized, rounded, optimize=True)
        spread -= 2 * np.einsum("grd,gde,gre->", weights, self._cross, rounded, optimize=True)
        return float(spread / self.count + np.sum(mean**2))

    def problem(
        self, weights: NDArray[Any], bias: NDArray[Any], bits: int, *, ridge: float = RIDGE, refit_bias: bool = True
    ) -> LayerProblem:
        """The layer's problem.

        A feature that never varies says nothing: its weight is pulled to the float one, and rounds to nearest.

        :param weights: [G, R, D]
        :param bias: [G, R]
        :param ridge: pull of the target towards ``weights``, as a share of the features' mean variance; above 0
        :param refit_bias: leave the bias free; otherwise H is the plain E[x^ x^T] and the bias stays
        :raises ObservationError: no features were seen
        :raises UnsupportedModelError: NaN or infinity in weights or bias, or a width that is none
        """
        weights, bias = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
        weight_range(bits)
        if not (np.all(np.isfinite(weights)) and np.all(np.isfinite(bias))):
            raise UnsupportedModelError("a layer's weights or bias hold NaN or infinity", where=self.name)
        if self.count == 0:
            raise ObservationError("no observation to round a layer by", where=self.name, expected="at least one")
        quantized, cross = self._quantized / self.count, self._cross / self.count
        if not refit_bias:
            quantized = quantized + self.quantized_mean[:, :, None] * self.quantized_mean[:, None, :]
            cross = cross + self.float_mean[:, :, None] * self.quantized_mean[:, None, :]
        variance = np.trace(quantized, axis1=1, axis2=2) / quantized.shape[1]
        pull = np.where(variance > 0, ridge * variance, 1.0)
        hessian = quantized + pull[:, None, None] * np.eye(quantized.shape[1])
        moved = weights @ cross + pull[:, None, None] * weights
        target = np.asarray(np.linalg.solve(hessian, moved.transpose(0, 2, 1)), np.float64).transpose(0, 2, 1)
        means = (self.float_mean.copy(), self.quantized_mean.copy()) if refit_bias else (None, None)
        return LayerProblem(self.name, bits, weights, bias, hessian, target, *means)

    def _checked(self, features: NDArray[Any], which: str) -> Reals:
        """Features as [G, n, D] float64."""
        shape = self.float_mean.shape
        values = np.asarray(features, np.float64)
        if values.shape[-2:] != shape:
            raise ObservationError(
                f"a layer's {which} features are of another shape",
                where=self.name,
                expected=f"[..., {shape[0]}, {shape[1]}]",
                got=list(values.shape),
            )
        if not np.all(np.isfinite(values)):
            raise ObservationError(f"a layer's {which} features hold NaN or infinity", where=self.name)
        return values.reshape(-1, *shape).transpose(1, 0, 2)
