"""The ways of quantizing a policy that the study compares, each as a function from observations to outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError
from policyport.quantize.choose import quantized, with_wide_ends
from policyport.quantize.config import ROUNDED_BITS, WEIGHT_BITS, QuantizeConfig
from policyport.quantize.half import evaluate_half
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.new_head import with_new_head
from policyport.quantize.quarl import quantize_policy
from policyport.quantize.rounding.methods import Method
from policyport.quantize.simulate import predict
from policyport.quantize.source import Source
from policyport.quantize.trained import read_trained
from policyport.quantize.transforms import centre_outputs

Outputs = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Observations [n, observation size] to outputs [n, output size]."""

FLOAT = "float32"

RANDOM = "random"
"""No policy: actions drawn uniformly from the action space, the lower end of every margin's span."""

TRAINED = "in-loop"
"""The integers that quantization-aware training left beside an agent, for agents that have them."""

OWN_STATES = "own-states"
"""The integers that follow an agent on the states that they come to themselves, trained for the study."""

DESCRIPTIONS = {
    FLOAT: "the policy as it is",
    "fp16": "weights, activations and results in half precision",
    "weights": "QuaRL's post-training quantization: weights alone, one step per layer, half precision at 16 bits",
    "integer": "weights and activations as integers, weights to the nearest",
    "lattice": "weights and activations as integers, weights by integer least squares",
    "adaround": "weights and activations as integers, weights by AdaRound",
    "last-layer": "as lattice, the last layer solved anew on what the integer layers before it yield",
    "qat": "as lattice, then trained on the integers to float32's outputs, step sizes learned",
    OWN_STATES: "as lattice, then solved anew for the outputs on states that the integers come to themselves",
}
"""Method to what it does."""

_ROUNDING: dict[str, Literal[Method, "qat"]] = {
    "integer": "nearest",
    "lattice": "lattice",
    "adaround": "adaround",
    "last-layer": "lattice",
    "qat": "qat",
}


def widths(method: str, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the widths asked for that a method has, the widest first."""
    if method == FLOAT:
        return (32,)
    if method == "fp16":
        return (16,) if 16 in asked else ()
    if method == "weights":
        return tuple(sorted((bits for bits in asked if bits < 32), reverse=True))
    known = WEIGHT_BITS if method in ("qat", TRAINED, OWN_STATES) else ROUNDED_BITS
    return tuple(sorted((bits for bits in asked if bits in known), reverse=True))


def outputs_of(source: Source, method: str, bits: int, activation_bits: int, input_bits: int | None = None) -> Outputs:
    """The policy under a method.

    :param bits: of weights
    :param activation_bits: 16, or 2 to 8, of hidden activations, for the methods that quantize them
    :param input_bits: of observations; None for 16 of vectors and 8 of images
    :raises ConfigError: no such method
    """
    graph = source.graph
    if method == FLOAT:
        return graph.evaluate
    if method in (TRAINED, OWN_STATES) and source.integers is not None:
        trained = read_trained(graph, source.integers)
        return lambda observations: predict(trained, observations)
    if method == "fp16":
        return lambda observations: evaluate_half(graph, observations)
    if method == "weights":
        return quantize_policy(graph, bits, "repository").evaluate
    if method not in _ROUNDING:
        raise ConfigError("no such method", where="methods", expected=", ".join(DESCRIPTIONS), got=method)
    network = _integers(source, method, bits, activation_bits, input_bits)
    return lambda observations: predict(network, observations)


def _integers(source: Source, method: str, bits: int, activation_bits: int, input_bits: int | None) -> QuantizedNetwork:
    hidden, stored = (8, 16) if activation_bits == 16 else (activation_bits, 8)
    widths = {"activation_bits": hidden, "input_bits": input_bits, "weight_bits": bits}
    config = QuantizeConfig(**widths, method=_ROUNDING[method])  # type: ignore[arg-type]
    config = with_wide_ends(config, source.graph)
    graph = centre_outputs(source.graph) if source.task.action_rule == "argmax" else source.graph
    network = quantized(replace(source, graph=graph), config, stored)
    return with_new_head(graph, network, source.observations, config) if method == "last-layer" else network
