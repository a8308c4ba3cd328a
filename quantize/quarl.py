"""The uniform affine quantizer of QuaRL, weights alone: what its studies of policies were made with.

Krishnan et al., "QuaRL: Quantization for Sustainable Reinforcement Learning" (arXiv 1910.01055). Biases
and activations stay float32, so this says what rounding weights does to a policy, not what a device computes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import Linear, Weighted

Form = Literal["paper", "repository"]
"""Which range a step is taken from.

``paper``:      ``delta = (|min(W, 0)| + |max(W, 0)|) / 2**n``, the range made to hold zero;
                ``Q = round(W / delta) + z``, ``z = round(-min(W, 0) / delta)``, ``D = delta * (Q - z)``.
``repository``: ``delta = (|min W| + |max W|) / 2**n``, ``W = delta * round(W / delta)``, without a zero point.

They differ where all weights have one sign. Neither clamps ``Q``, so 2**n + 1 levels may occur.
"""


def quantize_weights(weights: NDArray[np.floating[Any]], bits: int, form: Form = "paper") -> NDArray[np.float32]:
    """Weights of any shape as one tensor, quantized and dequantized.

    :param bits: 2 to 31; 16 is a round trip through half precision, as in the repository; 32 and more changes nothing
    """
    if bits < 2:
        raise ConfigError("no such width of weights", expected="2 bits or more", got=bits)
    exact = np.asarray(weights, np.float64)
    if bits >= 32:
        return np.asarray(weights, np.float32)
    if bits == 16:
        return np.asarray(weights, np.float32).astype(np.float16).astype(np.float32)
    low, high = float(exact.min()), float(exact.max())
    if form == "paper":
        low, high = min(low, 0.0), max(high, 0.0)
    delta = (abs(low) + abs(high)) / 2**bits
    if delta == 0:
        return np.asarray(weights, np.float32)
    zero_point = np.rint(-low / delta) if form == "paper" else 0.0
    q = np.rint(exact / delta) + zero_point
    return np.asarray(delta * (q - zero_point), np.float32)


def quantize_policy(graph: FloatGraph, bits: int, form: Form = "paper") -> FloatGraph:
    """The float network with its weights quantized: a fully connected layer's as one, a convolution's per output."""
    return graph.replaced(*(_layer(node, bits, form) for node in graph.weighted))


def _layer(node: Weighted, bits: int, form: Form) -> Weighted:
    if isinstance(node, Linear):
        return replace(node, weights=quantize_weights(node.weights, bits, form))
    return replace(node, weights=np.stack([quantize_weights(taps, bits, form) for taps in node.weights]))
