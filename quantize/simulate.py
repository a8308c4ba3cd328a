"""Runs a quantized network as integers, by :mod:`policyport.core` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.graph import Live, arranged
from policyport.quantize.integer_nodes import Compact, QuantizedNode
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import parts


@dataclass(frozen=True)
class Simulation:
    """Every integer that a network computes on a batch of observations."""

    tensors: Mapping[str, Compact]
    """By name, [n, *shape], int8 or int16: the input, then what each operator yields, before tables too."""

    output: NDArray[np.float32]
    """The output dequantized: [n, outputs]."""


def simulate(network: QuantizedNetwork, observations: NDArray[np.float32]) -> Simulation:
    """The integers of every tensor.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them
    """
    tensors: dict[str, Compact] = {network.input_name: quantize_input(network, observations)}
    for node in network.nodes:
        tensors.update(run_node(node, *(tensors[name] for name in node.node.inputs)))
    return Simulation(tensors, _output(network, tensors[network.output_name]))


def predict(network: QuantizedNetwork, observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output alone, [n, outputs] float32; no tensor is kept longer than it is read."""
    live = Live({network.input_name: quantize_input(network, observations)}, network.reader_counts)
    for node in network.nodes:
        inputs = [live.take(name) for name in node.node.inputs]
        live.put(node.name, run_node(node, *inputs)[node.name])
    return _output(network, live.take(network.output_name))


def quantize_input(network: QuantizedNetwork, observations: NDArray[np.float32]) -> Compact:
    """Observations to the integers that the device is given: [n, *shape]."""
    source = network.input
    real = network.prefix.apply(arranged(observations, source.shape, network.channels_last))
    return source.compact(source.quantize(real))


def run_node(node: QuantizedNode, *q: Compact) -> dict[str, Compact]:
    """Every tensor that an operator computes, by name, as few samples at a time as memory asks for."""
    work = 4 * node.node.work(*(x.shape for x in node.inputs))  # integers of 64 bits, and several of them at once
    found = [node.steps(*part) for part in parts(work, *q)]
    last = {name: node.output.compact for name in found[0]}
    return {name: np.concatenate([last[name](part[name]) for part in found]) for name in found[0]}


def _output(network: QuantizedNetwork, q: Compact) -> NDArray[np.float32]:
    return network.output.dequantize(q).reshape(len(q), -1)
