"""A network as integers with their scales: what calibration yields, and every writer and simulator reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import (
    Integers,
    Reals,
    Requantization,
    accumulator_bound,
    activation_range,
    pointwise_table,
    requantization,
)
from policyport.quantize.graph import HostPrefix

TABLE_SCALE = {("Tanh", 8): 1 / 128, ("Tanh", 16): 1 / 32768, ("Sigmoid", 8): 1 / 256, ("Sigmoid", 16): 1 / 32768}
"""Output scale of a function held in a table, by function and bits, as TFLite demands it."""

TABLE_ZERO_POINT = {("Tanh", 8): 0, ("Tanh", 16): 0, ("Sigmoid", 8): -128, ("Sigmoid", 16): 0}
"""Output zero point of such a function."""


@dataclass(frozen=True)
class Activation:
    """An activation vector: ``real = scale * (q - zero_point)``."""

    name: str
    size: int
    """Number of elements."""

    bits: int
    """8 (asymmetric) or 16 (zero point 0)."""

    scale: float
    """A float32 value."""

    zero_point: int
    low: int
    """Smallest integer it holds: the zero point behind a ReLU, else the width's."""

    high: int

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value it can hold."""
        return self.scale * (self.low - self.zero_point), self.scale * (self.high - self.zero_point)


def float32(value: float) -> float:
    """The nearest float32, as a Python float."""
    return float(np.float32(value))


def table_output(name: str, size: int, function: str, bits: int) -> Activation:
    """The fixed activation behind a tanh or sigmoid."""
    scale, zero_point = TABLE_SCALE[function, bits], TABLE_ZERO_POINT[function, bits]
    return Activation(name, size, bits, scale, zero_point, *activation_range(bits))


@dataclass(frozen=True)
class QuantizedLayer:
    """``lookup(requantize(weights q + folded_bias))``, the table only for tanh and sigmoid."""

    name: str
    """Name of the tensor that leaves the layer."""

    function: str
    """``Relu`` (a clamp), ``Tanh``, ``Sigmoid`` (a table), or empty."""

    input: Activation
    before: Activation
    """Behind the requantization; equal to ``output`` without a table."""

    output: Activation
    weights: Integers
    """[outputs, inputs], in [-127, 127] at 8 bits."""

    weight_bits: int
    weight_scale: NDArray[np.float32]
    """[outputs], positive."""

    bias: Integers
    """[outputs], int32 at ``input.scale * weight_scale``, the input's zero point not folded in."""

    float_weights: NDArray[np.float64]
    """[outputs, inputs], the weights before rounding, the host's gain undone in them."""

    @property
    def has_table(self) -> bool:
        """Whether the function is a table."""
        return self.function in ("Tanh", "Sigmoid")

    @property
    def bias_scale(self) -> Reals:
        """[outputs] float64: the scale of bias and accumulator."""
        return float(self.input.scale) * self.weight_scale.astype(np.float64)

    @property
    def folded_bias(self) -> Integers:
        """[outputs]: the bias with the input's zero point folded in."""
        return self.bias - self.input.zero_point * self.weights.sum(axis=1)

    @cached_property
    def requantize(self) -> Requantization:
        """From the accumulator to ``before``.

        :raises UnsupportedModelError: an accumulator can overflow
        """
        reach = accumulator_bound(self.weights, self.folded_bias, self.input.low, self.input.high)
        return requantization(self.bias_scale / float(self.before.scale), int(reach.max()), f"layer {self.name}")

    @cached_property
    def table(self) -> Integers | None:
        """[256] or [257] from ``before`` to ``output``, None without one."""
        if not self.has_table:
            return None
        before, after = self.before, self.output
        return pointwise_table(
            self.function, before.scale, before.zero_point, after.scale, after.zero_point, after.bits
        )


@dataclass(frozen=True)
class QuantizedNetwork:
    """A chain of integer layers, and what the host does before it."""

    name: str
    input_name: str
    output_name: str
    prefix: HostPrefix
    input: Activation
    layers: tuple[QuantizedLayer, ...]

    @property
    def output(self) -> Activation:
        """The last layer's activation."""
        return self.layers[-1].output

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights and biases as integers."""
        return sum(layer.weights.size * layer.weight_bits // 8 + 4 * layer.bias.size for layer in self.layers)
