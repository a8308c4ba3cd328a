"""Ranges from observed values, and activations from ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import ObservationError
from policyport.core.progress import progress
from policyport.quantize.activation import Activation, fixed_output, float32
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.entropy import entropy_limit
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import Floats, Shape

Values = NDArray[np.floating[Any]]

LARGEST_SAMPLE = 200_000
"""Values that a search looks at; more are thinned out evenly."""

LARGEST_SEARCH = 10_000
"""The same of a search over both ends, which tries many more ranges."""

BATCH = 32
"""Observations of one batch: what a moving average moves over."""

SHRINKS = tuple(float(x) for x in np.linspace(0.3, 1.0, 29))
"""Shares of the observed range that the search for the least squared error tries."""

FEW_SHRINKS = tuple(float(x) for x in np.linspace(0.05, 1.1, 22))
"""Shares of either end that are tried where levels are few: each of them counts, and so does where zero falls."""

EVEN_SHRINKS = tuple(float(x) for x in np.linspace(0.0, 0.45, 19))
"""By what shares of a feature's range either end of its few levels is moved inwards."""

SATURATION = {8: tuple(np.linspace(2.5, 3.5, 11)), 16: tuple(np.linspace(4.0, 6.5, 11))}
"""By bits: where a range before a tanh may end (twice that before a sigmoid), for the function is flat there."""

FLAT = {"HardSigmoid": (-3.0, 3.0), "HardSwish": (-3.0, np.inf)}
"""Outside these ends a function is constant: no range before it reaches beyond."""


@dataclass(frozen=True)
class Range:
    """An interval of real values."""

    low: float
    high: float

    def with_zero(self) -> Range:
        """The smallest interval that holds this one and zero."""
        return Range(min(self.low, 0.0), max(self.high, 0.0))

    def clipped(self, low: float, high: float) -> Range:
        """The part inside [low, high]."""
        return Range(max(self.low, low), min(self.high, high))

    def scaled(self, factor: float) -> Range:
        """Both ends multiplied."""
        return Range(self.low * factor, self.high * factor)

    def joined(self, other: Range) -> Range:
        """The smallest interval that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


class Statistics:
    """What was observed of one tensor: the ends of every batch, and an even sample of the values."""

    def __init__(self, stride: int = 1) -> None:
        self.batches: list[Range] = []
        self._stride, self._next = stride, 0
        self._samples: list[NDArray[np.float64]] = []

    def update(self, values: Values) -> None:
        """Add a batch of any shape."""
        self.batches.append(minmax_range(values))
        flat = np.asarray(values, np.float64).reshape(-1)
        taken = flat[self._next :: self._stride]
        self._next += len(taken) * self._stride - len(flat)
        self._samples.append(taken)

    @property
    def sample(self) -> NDArray[np.float64]:
        """About :data:`LARGEST_SAMPLE` of the values at most, flat."""
        return np.concatenate(self._samples)

    @property
    def range(self) -> Range:
        """The smallest and the largest value."""
        return Range(min(batch.low for batch in self.batches), max(batch.high for batch in self.batches))


def stride_for(size: int, count: int) -> int:
    """Of how many values one is kept, so that no feature or channel is left out for good.

    :param size: values of one observation
    :param count: number of observations
    """
    stride = -(-max(1, size * count) // LARGEST_SAMPLE)
    while gcd(stride, max(1, size)) > 1:
        stride += 1
    return stride


def collect(graph: FloatGraph, observations: Floats) -> dict[str, Statistics]:
    """Run the float network over the observations and keep the statistics of every tensor.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them
    :raises ObservationError: none are given
    """
    count = len(observations)
    if not count:
        raise ObservationError("no observation to calibrate on", expected="at least one")
    found: dict[str, Statistics] = {}
    with progress("calibrate", count) as advance:
        for start in range(0, count, BATCH):
            for name, values in graph.trace(observations[start : start + BATCH]).items():
                if name not in found:
                    found[name] = Statistics(stride_for(values.size // len(values), count))
                found[name].update(values)
            advance(min(start + BATCH, count))
    return found


def observed_range(statistics: Statistics, config: QuantizeConfig, bits: int) -> Range:
    """The range of a tensor, by the configured calibrator."""
    match config.calibrator_for(bits):
        case "moving_average":
            return moving_average_range(statistics.batches, config.moving_average)
        case "percentile":
            return percentile_range(statistics.sample, config.percentile)
        case "mse":
            return least_error_range(statistics.sample, bits)
        case "entropy" if bits <= 8:
            limit = entropy_limit(statistics.sample, 2 ** (bits - 1))
            return statistics.range.clipped(-limit, limit)
    return statistics.range


def minmax_range(values: Values) -> Range:
    """The smallest and the largest value.

    :raises ObservationError: there are none, or one is NaN or infinite
    """
    if not values.size:
        raise ObservationError("no observation to calibrate on", expected="at least one")
    reach = Range(float(values.min()), float(values.max()))
    if not np.isfinite([reach.low, reach.high]).all():
        raise ObservationError(
            "a tensor of the float network overflows on the observations",
            expected="finite values",
            got=f"from {reach.low} to {reach.high}",
            cure="check the observations and the network",
        )
    return reach


def moving_average_range(batches: Sequence[Range], momentum: float) -> Range:
    """The ends of the batches, each moved towards the next by ``momentum``, as PyTorch's observer has it."""
    low, high = batches[0].low, batches[0].high
    for batch in batches[1:]:
        low, high = low + momentum * (batch.low - low), high + momentum * (batch.high - high)
    return Range(low, high)


def percentile_range(values: Values, percentile: float) -> Range:
    """From the ``100 - percentile``-th to the ``percentile``-th percentile."""
    low, high = np.percentile(values, [100.0 - percentile, percentile])
    return Range(float(low), float(high))


def least_error_range(values: Values, bits: int) -> Range:
    """The observed range shrunk to where rounding and saturation together err least, in mean square.

    Of fewer than 8 bits each end is shrunk, or moved out, by itself.
    """
    widest = minmax_range(values).with_zero()
    shrinks = [(both, both) for both in SHRINKS]
    if bits < 8:
        values = values.reshape(-1)[:: -(-values.size // LARGEST_SEARCH)]
        lows, highs = (FEW_SHRINKS if end else (1.0,) for end in (widest.low, widest.high))
        shrinks = list(product(lows, highs))

    def error(shrink: tuple[float, float]) -> float:
        trial = activation_for("", (1,), Range(widest.low * shrink[0], widest.high * shrink[1]), bits)
        return float(np.mean(np.square(rounded(values, trial) - values)))

    low, high = min(shrinks, key=error)
    return Range(widest.low * low, widest.high * high)


def even_levels_range(values: Values, bits: int) -> Range:
    """The range whose ``2**bits`` even levels err least, in mean square: from one level to the last, wherever zero is.

    :param values: [n], of one feature
    """
    thinned = np.asarray(values, np.float64)[:: -(-len(values) // LARGEST_SEARCH)]
    widest, last = minmax_range(thinned), 2**bits - 1
    if widest.high == widest.low:
        return widest
    inwards = (widest.high - widest.low) * np.array(EVEN_SHRINKS)

    def error(ends: tuple[float, float]) -> float:
        step = (ends[1] - ends[0]) / last
        level = np.clip(np.rint((thinned - ends[0]) / step), 0, last)
        return float(np.mean(np.square(ends[0] + step * level - thinned)))

    return Range(*min(product(widest.low + inwards, widest.high - inwards), key=error))


def activation_for(name: str, shape: Shape, reach: Range, bits: int, *, symmetric: bool = False) -> Activation:
    """The activation that covers a range: asymmetric at 8 bits and fewer, symmetric at 16.

    :param symmetric: zero point 0 at 8 bits and fewer too
    """
    reach = reach.with_zero()
    low, high = semantics.activation_range(bits)
    if reach.high - reach.low < 1e-12:  # nothing was ever seen there but zero: any scale is right
        reach = Range(-1.0, 1.0)
    if bits <= 8 and not symmetric:
        scale = float32((reach.high - reach.low) / (high - low))
        zero_point = int(np.clip(np.rint(low - reach.low / scale), low, high))
    else:
        scale, zero_point = float32(max(-reach.low, reach.high) / high), 0
    return Activation(name, shape, bits, scale, zero_point, low, high)


def before_function(
    name: str, shape: Shape, function: str, values: Values, reach: Range, bits: int, *, symmetric: bool = False
) -> Activation:
    """The activation before a function: before a tanh or sigmoid its range ends where the output errs least.

    :param values: what the function was given on the observations
    :param reach: their range; wider ends of it are cut where the function is flat
    """
    if function not in ("Tanh", "Sigmoid"):
        return activation_for(
            name, shape, reach.clipped(*FLAT.get(function, (-np.inf, np.inf))), bits, symmetric=symmetric
        )
    exact = semantics.POINTWISE[function](np.asarray(values, np.float64))
    after = fixed_output("", (1,), function, bits)

    def trial(limit: float) -> Activation:
        return activation_for(name, shape, reach.clipped(-limit, limit), bits, symmetric=symmetric)

    def error(limit: float) -> float:
        before = trial(limit)
        table = semantics.pointwise_table(
            function, before.scale, before.zero_point, after.scale, after.zero_point, bits
        )
        q = semantics.lookup(before.quantize(values), table)
        return float(np.mean(np.square(after.scale * (q - after.zero_point) - exact)))

    width = 1.0 if function == "Tanh" else 2.0
    return trial(min((width * limit for limit in SATURATION[bits]), key=error))


def rounded(values: Values, activation: Activation) -> NDArray[np.float64]:
    """Values as an activation holds them."""
    steps = (activation.quantize(values) - activation.zero_point).astype(np.float64)
    return activation.scale * steps
