"""An activation: a tensor of integers with one scale and one zero point."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isinf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.semantics import Integers, activation_range, activation_stored_bits
from policyport.quantize.nodes import Function, Shape

FIXED_SCALE = {("Tanh", 8): 1 / 128, ("Tanh", 16): 1 / 32768, ("Sigmoid", 8): 1 / 256, ("Sigmoid", 16): 1 / 32768}
"""Output scale of a function held in a table, by function and bits, as TFLite demands it; of fewer bits it is free."""

FIXED_ZERO_POINT = {("Tanh", 8): 0, ("Tanh", 16): 0, ("Sigmoid", 8): -128, ("Sigmoid", 16): 0}
"""Output zero point of such a function."""

SOFTMAX_ZERO_POINT = -128


@dataclass(frozen=True)
class Activation:
    """A tensor of integers: ``real = scale * (q - zero_point)``."""

    name: str
    shape: Shape
    """(features,) or (channels, height, width)."""

    bits: int
    """2 to 8 (asymmetric, stored as int8) or 16 (zero point 0): it has ``2**bits`` levels at the most."""

    scale: float
    """A float32 value."""

    zero_point: int
    low: int
    """Smallest integer it holds: the zero point behind a ReLU, else the width's."""

    high: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def stored_bits(self) -> int:
        """Width of an integer in memory: 8 or 16."""
        return activation_stored_bits(self.bits)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value it can hold."""
        return self.scale * (self.low - self.zero_point), self.scale * (self.high - self.zero_point)

    @property
    def parameters(self) -> tuple[float, int, int]:
        """Scale, zero point and bits: equal where integers pass from one tensor to another as they are."""
        return self.scale, self.zero_point, self.bits

    def quantize(self, real: NDArray[Any]) -> Integers:
        """Real values of any shape to integers; the bounds are not applied."""
        return semantics.quantize(np.asarray(real, np.float32), self.scale, self.zero_point, self.bits)

    def dequantize(self, q: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Integers of any shape to real values."""
        return semantics.dequantize(np.asarray(q, np.int64), self.scale, self.zero_point)

    def compact(self, q: Integers) -> NDArray[np.signedinteger[Any]]:
        """The integers as they are stored: int8 or int16."""
        return q.astype(np.int8 if self.stored_bits == 8 else np.int16)

    def clamped(self, function: Function) -> Activation:
        """The activation behind a clamp, whose bounds its integers take over; as it is behind another function."""
        if not function.clamps:
            return self
        low, high = (
            bound if isinf(real) else int(self.quantize(np.array(real))[()])
            for real, bound in ((function.low, self.low), (function.high, self.high))
        )
        return replace(self, low=max(low, self.low), high=min(high, self.high))

    def renamed(self, name: str, shape: Shape) -> Activation:
        """The same integers under another name and shape."""
        return replace(self, name=name, shape=shape)


def float32(value: float) -> float:
    """The nearest float32, as a Python float."""
    return float(np.float32(value))


def fixed_output(name: str, shape: Shape, function: str, bits: int) -> Activation:
    """The activation behind a tanh, sigmoid (8 or 16 bits) or softmax (8 bits), whose scale is always the same."""
    if function == "Softmax":
        return Activation(name, shape, 8, 1 / 256, SOFTMAX_ZERO_POINT, *activation_range(8))
    scale, zero_point = FIXED_SCALE[function, bits], FIXED_ZERO_POINT[function, bits]
    return Activation(name, shape, bits, scale, zero_point, *activation_range(bits))
