"""Last-layer post-training of a quantized network: its last layer solved anew on the features that its integers yield.

Moreau and Audiffren 2016; the targets are the float network's own outputs on the calibration observations. The new
layer is quantized as the others were, and taken only where observations that it was not solved on are better served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.graph import FloatGraph
from policyport.quantize.last_layer import Head, post_train
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Weighted
from policyport.quantize.simulate import predict, simulate

HELD_OUT_EVERY = 5
"""Observations of which one does not take part in the solution, and judges it."""


@dataclass(frozen=True)
class HeadChoice:
    """What became of a network's last layer."""

    taken: bool
    sqnr_db_before: float
    """Of the outputs on the observations that judge."""

    sqnr_db_after: float


def with_new_head(graph: FloatGraph, network: QuantizedNetwork, observations: NDArray[np.float32]) -> FloatGraph:
    """The float graph whose last layer makes the best of the quantized features.

    :param observations: [n, inputs], which the penalty is chosen on by validation too
    """
    last: Weighted = graph.weighted[-1]
    name = last.inputs[0]
    q = simulate(network, observations).tensors[name]
    features = np.asarray(network.activations[name].dequantize(q), np.float64).reshape(len(observations), -1)
    exact = graph.trace(observations) | {graph.input_name: graph.enter(observations)}
    targets = last.linear(exact[name]).reshape(len(observations), -1)
    start = Head(last.weights.astype(np.float64), last.bias.astype(np.float64))
    head = post_train(start, features, targets, "outputs").head
    return graph.replaced(replace(last, weights=head.weights.astype(np.float32), bias=head.bias.astype(np.float32)))


def post_trained(
    graph: FloatGraph,
    network: QuantizedNetwork,
    observations: NDArray[np.float32],
    quantize: Callable[[FloatGraph], QuantizedNetwork],
) -> tuple[QuantizedNetwork, HeadChoice]:
    """The network with a new last layer where that is better, else as it was, and what was decided by.

    :param graph: the float network
    :param observations: [n, inputs], of calibration; too few to hold any out keep the layer
    :param quantize: makes a network of a float graph as `network` was made
    """
    judges = np.arange(len(observations)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    if not judges.any():
        return network, HeadChoice(False, 0.0, 0.0)
    trial = quantize(with_new_head(graph, network, observations[~judges]))
    exact = graph.evaluate(observations[judges])
    before, after = (sqnr_db(exact, predict(made, observations[judges])) for made in (network, trial))
    return (trial if after > before else network), HeadChoice(after > before, before, after)
