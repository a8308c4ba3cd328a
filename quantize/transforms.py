"""Float graphs rewritten so that they quantize better and decide the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import NONE, Linear


def centre_outputs(graph: FloatGraph) -> FloatGraph:
    """Subtract from every output the mean of all, by the last layer's weights: an argmax does not see it.

    What the outputs have in common takes most of their range where they are Q values: hundreds, while
    an action is decided by hundredths. A network that ends in anything but a fully connected layer stays
    as it is.
    """
    last = graph.producer(graph.output_name)
    if not isinstance(last, Linear) or last.function != NONE or graph.readers(last.name):
        return graph
    weights, bias = last.weights.astype(np.float64), last.bias.astype(np.float64)
    centred = replace(
        last,
        weights=(weights - weights.mean(axis=0)).astype(np.float32),
        bias=(bias - bias.mean()).astype(np.float32),
    )
    return graph.replaced(centred)
