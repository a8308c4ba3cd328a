"""The rounding methods that the quantize stage offers, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from policyport.core.progress import progress
from policyport.core.semantics import Reals
from policyport.quantize import quantizers
from policyport.quantize.layer_data import LayerData, RoundedLayer, Rounding, nearest
from policyport.quantize.rounding.adaround import CONVERGED_RATE, AdaRoundSettings, LearnedLayer, adaround
from policyport.quantize.rounding.branch_and_bound import Proof, prove
from policyport.quantize.rounding.gptq import gptq
from policyport.quantize.rounding.grids import as_float32, weight_scales
from policyport.quantize.rounding.lattice import LatticeSettings, lattice
from policyport.quantize.rounding.layer import in_place, layer_problem, validated_problem
from policyport.quantize.rounding.problem import LayerProblem, Solution, solution

Method = Literal["lattice", "adaround", "gptq", "nearest"]

LARGEST_FACTOR = 2.0
"""How much larger than the min-max scale a searched one may get."""

METHODS: tuple[Method, ...] = ("lattice", "adaround", "gptq", "nearest")


@dataclass(frozen=True)
class Prover:
    """Branch and bound behind the lattice: how much of it, and what it proved of each layer."""

    nodes: int
    """Integers tried per row at the most."""

    proofs: dict[str, Proof] = field(default_factory=dict)
    """Name of each layer to what was proven of its rows; filled as layers are rounded."""


def rounding(
    method: Method, *, refit_bias: bool, learning: AdaRoundSettings | None = None, prover: Prover | None = None
) -> Rounding:
    """What rounds a layer by a method, the features taken from the integer network.

    :param refit_bias: solve the bias anew with the weights; ``nearest`` and ``adaround`` leave it as it is
    :param learning: ``adaround``'s hyper-parameters; None for the paper's with the rate that converges
    :param prover: searches on from what ``lattice`` found; None for no proof
    """
    if method == "nearest":
        return nearest
    if method == "adaround":
        settings = learning or AdaRoundSettings(learning_rate=CONVERGED_RATE)
        return lambda data: _adaround(data, settings)
    if method == "gptq":
        return lambda data: _as_layer(data, _gptq(data, _problem(data, refit_bias)))
    return lambda data: _as_layer(data, _lattice(data, _problem(data, refit_bias), prover))


def _lattice(data: LayerData, problem: LayerProblem, prover: Prover | None) -> Solution:
    settings = LatticeSettings.for_bits(data.weight_bits, per_tensor=not data.per_channel)
    found = lattice(problem, settings, _smallest_scales(data))
    if prover is None:
        return found
    proof = prove(problem, found.scales, found.integers.astype(np.float64), node_limit=prover.nodes)
    prover.proofs[data.node.name] = proof
    return solution(problem, proof.integers, found.scales)


def _gptq(data: LayerData, problem: LayerProblem) -> Solution:
    scales = _scales(data, problem)
    return solution(problem, gptq(problem, scales), scales)


def _adaround(data: LayerData, settings: AdaRoundSettings) -> RoundedLayer:
    problem = layer_problem(data.node, data.batches(), data.weight_bits, refit_bias=False)
    scales = _scales(data, problem)
    layer = LearnedLayer(data.node, data.float_input, data.source.dequantize(data.q_input))
    with progress(f"round {data.node.name}", settings.iterations) as advance:
        learned = adaround(layer, scales, data.weight_bits, settings, advance=advance)
    return _as_layer(data, solution(problem, learned.integers, scales))


def _problem(data: LayerData, refit_bias: bool) -> LayerProblem:
    per_tensor = not data.per_channel
    return validated_problem(data.node, data.batches(), data.weight_bits, refit_bias=refit_bias, per_tensor=per_tensor)


def _scales(data: LayerData, problem: LayerProblem) -> Reals:
    """Scales [G, R] that round the weights with the least error, large enough for the bias."""
    scales = np.maximum(weight_scales(problem, per_tensor=not data.per_channel), _smallest_scales(data))
    return scales if data.per_channel else np.full_like(scales, scales.max())


def _smallest_scales(data: LayerData) -> Reals:
    """Scales [G, R] below which a bias would not fit, with the shift that the layer's largest scale may ask for."""
    bias = data.node.bias.astype(np.float64)
    weights = data.node.weights.astype(np.float64)
    scales = data.source.scale, data.before.scale
    largest = LARGEST_FACTOR * float(quantizers.layer_scales(weights, bias, *scales, data.weight_bits).max())
    limit = quantizers.bias_limit(largest * data.source.scale / data.before.scale)
    return as_float32(np.abs(bias) / (data.source.scale * limit)).reshape(data.node.group_count, -1)


def _as_layer(data: LayerData, found: Solution) -> RoundedLayer:
    scale = found.scales.reshape(-1).astype(np.float32)
    return RoundedLayer(
        in_place(data.node, found.integers),
        scale,
        quantizers.round_bias(found.bias.reshape(-1), data.source.scale, scale),
    )
