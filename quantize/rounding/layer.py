"""A weighted node of a graph as a rounding problem, and rounded numbers back in its order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.nodes import Floats, Weighted
from policyport.quantize.rounding.gptq import gptq
from policyport.quantize.rounding.grids import weight_scales
from policyport.quantize.rounding.problem import RIDGE, LayerProblem, Moments, solution

RIDGES = (RIDGE, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Ridges that are tried on observations held out, as shares of the features' mean variance."""

HELD_OUT_EVERY = 5

ENOUGH = 4
"""Observations for each input of a layer from which on they are trusted as they are."""


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


def validated_problem(
    node: Weighted,
    batches: Iterable[tuple[Floats, Floats]],
    bits: int,
    *,
    refit_bias: bool = True,
    per_tensor: bool = False,
) -> LayerProblem:
    """The layer's problem; where observations are few for its inputs, with a ridge chosen on some that are held out.

    Weights that suit few observations too well suit others less: the ridge keeps them to the float ones. The one of
    least error on every fifth observation is taken, found with GPTQ's rounding of the rest; the problem is of all.
    """
    groups, _, taps = node.matrix.shape
    fit, held = Moments(groups, taps, node.name), Moments(groups, taps, node.name)
    seen = 0
    for exact, quantized in batches:
        apart = (seen + np.arange(len(exact))) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        seen += len(exact)
        for moments, chosen in ((fit, ~apart), (held, apart)):
            if chosen.any():
                rows = node.rows(exact[chosen]), node.rows(quantized[chosen])
                moments.update(*(features.transpose(1, 0, 2) for features in rows))
    bias = node.bias.reshape(groups, -1)

    def error(ridge: float) -> float:
        problem = fit.problem(node.matrix, bias, bits, ridge=ridge, refit_bias=refit_bias)
        scales = weight_scales(problem, per_tensor=per_tensor)
        found = solution(problem, gptq(problem, scales), scales)
        return held.error(problem.weights, problem.bias, found.integers * found.scales[..., None], found.bias)

    few = held.count and seen < ENOUGH * taps
    ridge = min(RIDGES, key=error) if few else RIDGE
    fit.merge(held)
    return fit.problem(node.matrix, bias, bits, ridge=ridge, refit_bias=refit_bias)


def in_place(node: Weighted, matrix: NDArray[Any]) -> NDArray[Any]:
    """Numbers in the order of ``node.matrix`` [G, R, D] in that of ``node.weights`` [outputs, taps...]."""
    shape = node.weights.shape
    numbered = replace(node, weights=np.arange(node.weights.size, dtype=np.float64).reshape(shape))
    plain = np.empty(node.weights.size, matrix.dtype)
    plain[numbered.matrix.reshape(-1).astype(np.int64)] = matrix.reshape(-1)
    return plain.reshape(shape)
