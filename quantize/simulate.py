"""Runs a quantized network as integers, by :mod:`policyport.core.semantics` alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.semantics import Integers
from policyport.quantize.network import QuantizedLayer, QuantizedNetwork


@dataclass(frozen=True)
class Simulation:
    """Every integer that a network computes on a batch of observations."""

    input: Integers
    """[n, inputs]"""

    before: tuple[Integers, ...]
    """Each layer behind its requantization, before a table: [n, outputs]."""

    layers: tuple[Integers, ...]
    """Each layer's output: [n, outputs]."""

    output: NDArray[np.float32]
    """The last layer dequantized: [n, outputs]."""


def simulate(network: QuantizedNetwork, observations: NDArray[np.float32]) -> Simulation:
    """The integers of every layer.

    :param observations: [n, inputs], float32, as the environment gives them
    """
    q = quantize_input(network, observations)
    first, before, layers = q, [], []
    for layer in network.layers:
        middle, q = run_layer(layer, q)
        before.append(middle)
        layers.append(q)
    end = network.output
    return Simulation(first, tuple(before), tuple(layers), semantics.dequantize(q, end.scale, end.zero_point))


def quantize_input(network: QuantizedNetwork, observations: NDArray[np.float32]) -> Integers:
    """Observations [n, inputs] float32 to the integers that the device is given."""
    source = network.input
    return semantics.quantize(network.prefix.apply(observations), source.scale, source.zero_point, source.bits)


def run_layer(layer: QuantizedLayer, q: Integers) -> tuple[Integers, Integers]:
    """One layer on [n, inputs]: (behind the requantization, behind the function), each [n, outputs]."""
    accumulator = semantics.accumulate(q, layer.weights, layer.folded_bias)
    target = layer.before
    middle = semantics.requantize(accumulator, layer.requantize, target.zero_point, target.low, target.high)
    return middle, middle if layer.table is None else semantics.lookup(middle, layer.table)
