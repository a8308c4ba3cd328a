"""A float network as a chain: what the host does first, then fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HostPrefix:
    """What the host does to an observation, in float32: ``clip((observation - offset) * gain, low, high)``."""

    offset: Floats
    """[inputs]"""

    gain: Floats
    """[inputs], no element zero"""

    low: float = -np.inf
    """``-inf`` where nothing is clipped."""

    high: float = np.inf

    @classmethod
    def identity(cls, size: int) -> HostPrefix:
        """The prefix that changes nothing."""
        return cls(np.zeros(size, np.float32), np.ones(size, np.float32))

    def apply(self, observations: Floats) -> Floats:
        """Observations [n, inputs] float32 to network inputs [n, inputs] float32."""
        scaled = (np.asarray(observations, np.float32) - self.offset) * self.gain
        return np.clip(scaled, np.float32(self.low), np.float32(self.high))


@dataclass(frozen=True)
class FloatLayer:
    """``function(x @ weights.T + bias)``."""

    name: str
    """Name of the tensor that leaves the layer, behind its function."""

    linear_name: str
    """Name of the tensor between the linear part and the function; equal to ``name`` without one."""

    weights: Floats
    """[outputs, inputs]"""

    bias: Floats
    """[outputs]"""

    function: str = ""
    """``Relu``, ``Tanh``, ``Sigmoid``, or empty."""

    def linear(self, x: Floats) -> Floats:
        """The linear part: [n, inputs] to [n, outputs], float32."""
        return np.asarray(np.asarray(x, np.float32) @ self.weights.T + self.bias, np.float32)


@dataclass(frozen=True)
class FloatGraph:
    """A float network as a chain of layers from one input to one output."""

    name: str
    input_name: str
    output_name: str
    prefix: HostPrefix
    layers: tuple[FloatLayer, ...]

    @property
    def input_size(self) -> int:
        """Number of features."""
        return int(self.layers[0].weights.shape[1])

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(layer.weights.size + layer.bias.size for layer in self.layers)

    def trace(self, observations: Floats) -> list[tuple[Floats, Floats]]:
        """What each layer computes: (before its function, behind it), each [n, outputs] float32.

        :param observations: [n, inputs], float32, as the environment gives them
        """
        x = self.prefix.apply(observations)
        values = []
        for layer in self.layers:
            before = layer.linear(x)
            x = pointwise(layer.function, before)
            values.append((before, x))
        return values

    def evaluate(self, observations: Floats) -> Floats:
        """The network's outputs: [n, inputs] to [n, outputs], float32."""
        return self.trace(observations)[-1][1]


def pointwise(function: str, x: Floats) -> Floats:
    """A layer's function in float32; the empty name changes nothing."""
    if function == "Relu":
        return np.maximum(x, np.float32(0))
    if function == "Tanh":
        return np.tanh(x)
    if function == "Sigmoid":  # this form cannot overflow
        return np.float32(0.5) * (np.float32(1) + np.tanh(np.float32(0.5) * x))
    return x
