"""A weighted node of a graph as a rounding problem, and rounded numbers back in its order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.nodes import Floats, Weighted
from policyport.quantize.rounding.problem import LayerProblem, Moments


def layer_problem(
    node: Weighted, batches: Iterable[tuple[Floats, Floats]], bits: int, *, refit_bias: bool = True
) -> LayerProblem:
    """The layer's problem.

    :param batches: its input [n, *shape] in the float network and behind the quantized layers, as real values
    :param refit_bias: leave the bias free
    """
    groups, _, taps = node.matrix.shape
    moments = Moments(groups, taps, node.name)
    for exact, quantized in batches:
        moments.update(node.rows(exact).transpose(1, 0, 2), node.rows(quantized).transpose(1, 0, 2))
    return moments.problem(node.matrix, node.bias.reshape(groups, -1), bits, refit_bias=refit_bias)


def in_place(node: Weighted, matrix: NDArray[Any]) -> NDArray[Any]:
    """Numbers in the order of ``node.matrix`` [G, R, D] in that of ``node.weights`` [outputs, taps...]."""
    shape = node.weights.shape
    numbered = replace(node, weights=np.arange(node.weights.size, dtype=np.float64).reshape(shape))
    plain = np.empty(node.weights.size, matrix.dtype)
    plain[numbered.matrix.reshape(-1).astype(np.int64)] = matrix.reshape(-1)
    return plain.reshape(shape)
