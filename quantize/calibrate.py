"""Ranges from observed values, and activations from ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import ObservationError
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.network import Activation, float32, table_output

Values = NDArray[np.floating[Any]]

LARGEST_SAMPLE = 200_000
"""Values that a search looks at; more are thinned out evenly."""

SHRINKS = tuple(float(x) for x in np.linspace(0.3, 1.0, 29))
"""Shares of the observed range that the search for the least squared error tries."""

SATURATION = {8: tuple(np.linspace(2.5, 3.5, 11)), 16: tuple(np.linspace(4.0, 6.5, 11))}
"""By bits: where a range before a tanh may end (twice that before a sigmoid), for the function is flat there."""


@dataclass(frozen=True)
class Range:
    """An interval of real values."""

    low: float
    high: float

    def with_zero(self) -> Range:
        """The smallest interval that holds this one and zero."""
        return Range(min(self.low, 0.0), max(self.high, 0.0))

    def clipped(self, limit: float) -> Range:
        """The part inside [-limit, limit]."""
        return Range(max(self.low, -limit), min(self.high, limit))

    def scaled(self, factor: float) -> Range:
        """Both ends multiplied."""
        return Range(self.low * factor, self.high * factor)


Observer = Callable[[Values], Range]


def observer(config: QuantizeConfig, bits: int) -> Observer:
    """The function that takes a range from values, as configured."""
    if config.calibrator == "percentile":
        return lambda values: percentile_range(values, config.percentile)
    if config.calibrator == "mse":
        return lambda values: least_error_range(values, bits)
    return minmax_range


def minmax_range(values: Values) -> Range:
    """The smallest and the largest value."""
    return Range(float(values.min()), float(values.max()))


def percentile_range(values: Values, percentile: float) -> Range:
    """From the ``100 - percentile``-th to the ``percentile``-th percentile."""
    low, high = np.percentile(values, [100.0 - percentile, percentile])
    return Range(float(low), float(high))


def least_error_range(values: Values, bits: int) -> Range:
    """The observed range shrunk to where rounding and saturation together err least, in mean square."""
    sample = thinned(values)
    widest = minmax_range(sample)

    def error(shrink: float) -> float:
        trial = activation_for("", 1, widest.scaled(shrink), bits)
        return float(np.mean(np.square(rounded(sample, trial) - sample)))

    return widest.scaled(min(SHRINKS, key=error))


def activation_for(name: str, size: int, reach: Range, bits: int, *, relu: bool = False) -> Activation:
    """The activation that covers a range: asymmetric at 8 bits, symmetric at 16.

    :param relu: it stands behind a ReLU, whose clamp it holds
    """
    reach = reach.with_zero()
    low, high = semantics.activation_range(bits)
    if reach.high - reach.low < 1e-12:  # nothing was ever seen there but zero: any scale is right
        reach = Range(-1.0, 1.0)
    if bits == 8:
        scale = float32((reach.high - reach.low) / (high - low))
        zero_point = int(np.clip(np.rint(low - reach.low / scale), low, high))
    else:
        scale, zero_point = float32(max(-reach.low, reach.high) / high), 0
    return Activation(name, size, bits, scale, zero_point, zero_point if relu else low, high)


def before_function(name: str, function: str, values: Values, reach: Range, bits: int) -> Activation:
    """The activation before a tanh or sigmoid: its range ends where the function's output errs least.

    :param values: [n, outputs], what the function was given on the observations
    :param reach: their range; wider ends of it are cut, since the function is flat there
    """
    sample = thinned(values)
    exact = semantics.POINTWISE[function](sample)
    after = table_output("", 1, function, bits)

    def trial(limit: float) -> Activation:
        return activation_for(name, values.shape[1], reach.clipped(limit), bits)

    def error(limit: float) -> float:
        before = trial(limit)
        table = semantics.pointwise_table(
            function, before.scale, before.zero_point, after.scale, after.zero_point, bits
        )
        q = semantics.lookup(_integers(sample, before), table)
        return float(np.mean(np.square(after.scale * (q - after.zero_point) - exact)))

    width = 1.0 if function == "Tanh" else 2.0
    return trial(min((width * limit for limit in SATURATION[bits]), key=error))


def rounded(values: Values, activation: Activation) -> NDArray[np.float64]:
    """Values as an activation holds them."""
    return activation.scale * (_integers(values, activation) - activation.zero_point)


def _integers(values: Values, activation: Activation) -> NDArray[np.int64]:
    real = np.asarray(values, np.float32)
    return semantics.quantize(real, activation.scale, activation.zero_point, activation.bits)


def thinned(values: Values) -> NDArray[np.float64]:
    """At most :data:`LARGEST_SAMPLE` of the values, flat, evenly taken, float64."""
    flat = np.asarray(values, np.float64).reshape(-1)
    if flat.size == 0:
        raise ObservationError("no observation to calibrate on", expected="at least one")
    return flat[:: -(-flat.size // LARGEST_SAMPLE)]
