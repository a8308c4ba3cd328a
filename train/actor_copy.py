"""An actor's copy of the policy: the integers of it as data for the C kernels, or the float network. Without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from policyport.deploy.chain import Chain, ChainLayer
from policyport.quantize.activation import Activation
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import Floats, Linear
from policyport.quantize.ptq import quantize_graph

ActorPrecision = Literal["int8", "int16", "float32"]

MOST_OBSERVATIONS = 256
"""That ranges are taken from at each push; of more, evenly spread ones."""

Outputs = Callable[[Floats], Floats]
"""Observations [n, inputs] to outputs [n, outputs]."""


@dataclass(frozen=True)
class IntegerCopy:
    """A network as integers: what the host does before it, its layers, its output's scale."""

    prefix: HostPrefix
    input: Activation
    layers: tuple[ChainLayer, ...]
    output: Activation

    def outputs(self, library: Path) -> Outputs:
        """The network by the compiled library, dequantized."""
        chain = Chain(library, self.layers, self.input.stored_bits)

        def run(observations: Floats) -> Floats:
            return self.output.dequantize(chain.infer(self.input.quantize(self.prefix.apply(observations))))

        return run


Copy = IntegerCopy | FloatGraph


def copy_of(graph: FloatGraph, observations: Floats, precision: ActorPrecision) -> Copy:
    """A copy of a network at a precision; weights of 8 bits, to the nearest.

    :param graph: of fully connected layers, one behind the other
    :param observations: [n, inputs]: what ranges are taken from
    """
    if precision == "float32":
        return graph
    assert all(isinstance(node, Linear) for node in graph.nodes)
    seen = observations[:: -(-len(observations) // MOST_OBSERVATIONS)]
    network = quantize_graph(graph, seen, QuantizeConfig(method="nearest"), 8 if precision == "int8" else 16)
    layers = []
    for layer in network.layers:
        before, by = layer.before, layer.requantize
        layers.append(
            ChainLayer(
                layer.weights.astype(np.int8),
                layer.folded_bias.astype(np.int32),
                by.multiplier.astype(np.int32),
                by.shift,
                before.zero_point,
                before.low,
                before.high,
                layer.table,
                layer.output.stored_bits,
            )
        )
    return IntegerCopy(network.prefix, network.input, tuple(layers), network.output)


def outputs_of(copy: Copy, library: Path) -> Callable[[Floats], NDArray[np.float32]]:
    """What a copy computes."""
    return copy.outputs(library) if isinstance(copy, IntegerCopy) else copy.evaluate
