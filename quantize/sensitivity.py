"""How much noise each width adds at a network's output: what bit allocation goes by.

The network is quantized once for each choice: the weights of one layer get fewer bits, or the activations of one group
8 bits instead of 16, all else being as wide as may be. Layers behind it make good a part of the error, as in the end.
Noise of different choices is taken to add up, which holds while it is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from policyport.core.progress import progress
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph
from policyport.quantize.layer_data import Rounding
from policyport.quantize.nodes import Floats
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.ranges import Ties
from policyport.quantize.simulate import predict

LARGEST_TRACE = 2**26
"""Elements of all tensors over all observations: of larger networks fewer observations are looked at."""

Widths = Mapping[str, int]


@dataclass(frozen=True)
class Candidates:
    """The widths that may be chosen, the widest first."""

    weights: Mapping[str, tuple[int, ...]]
    """Of each layer."""

    activations: Mapping[str, tuple[int, ...]]
    """Of each group of tensors."""

    groups: Mapping[str, str]
    """Tensor to the group that it belongs to: those that must have the same width."""

    def configured(self, config: QuantizeConfig, weights: Widths, activations: Widths) -> QuantizeConfig:
        """A configuration that asks for a width of each layer and group; a group stands for its tensors."""
        return replace(
            config,
            layer_weight_bits=tuple(f"{name}={bits}" for name, bits in weights.items()),
            layer_activation_bits=tuple(f"{name}={activations[group]}" for name, group in self.groups.items()),
        )

    @property
    def widest_weights(self) -> dict[str, int]:
        """By layer."""
        return {name: max(bits) for name, bits in self.weights.items()}

    @property
    def widest_activations(self) -> dict[str, int]:
        """By group."""
        return {name: max(bits) for name, bits in self.activations.items()}


@dataclass(frozen=True)
class Sensitivity:
    """Sums of squares at the output, over the observations that were looked at."""

    signal: float
    noise: float
    """Of the network that is as wide as may be."""

    weights: Mapping[tuple[str, int], float]
    """What is added, by layer and width of its weights."""

    activations: Mapping[str, Mapping[int, float]]
    """What is added, by group of tensors and their width."""


def candidates(
    graph: FloatGraph, config: QuantizeConfig, weights: Sequence[int] | None, activations: Sequence[int]
) -> Candidates:
    """What may be chosen where the configuration names no width.

    :param weights: widths of weights; None leaves them as they are configured
    :param activations: widths of activations
    """
    groups = groups_of(graph)
    names = tuple(node.name for node in graph.weighted)
    configured, named = config.layer_bits(names), {entry.rpartition("=")[0] for entry in config.layer_weight_bits}
    bound = {groups[name]: bits for name, bits in config.tensor_bits(tuple(groups)).items()}
    narrow = {groups[name] for name, bits in Ties(graph).widths(16, {}).items() if bits == 8}
    return Candidates(
        {name: tuple(weights) if weights is not None and name not in named else (configured[name],) for name in names},
        {
            group: (bound[group],) if group in bound else (8,) if group in narrow else tuple(activations)
            for group in dict.fromkeys(groups.values())
        },
        groups,
    )


def groups_of(graph: FloatGraph) -> dict[str, str]:
    """For each tensor the name of its group: those whose activations must have the same width."""
    ties = Ties(graph)
    always = {name for name, bits in ties.widths(16, {}).items() if bits == 8}
    found: dict[str, str] = {}
    for root in ties.group:
        narrow = {name for name, bits in ties.widths(16, {root: 8}).items() if bits == 8}
        for name in {root} | (narrow - always):
            found.setdefault(name, root)
    return {name: found[ties.root(name)] for name in (graph.input_name, *(node.name for node in graph.nodes))}


def thinned(graph: FloatGraph, observations: Floats) -> Floats:
    """Evenly spread observations, as many as a trace of the network has memory for."""
    each = sum(prod(shape) for shape in graph.shapes.values())
    step = -(-len(observations) * each // LARGEST_TRACE)
    return observations[:: max(1, step)]


def measure(
    graph: FloatGraph, observations: Floats, config: QuantizeConfig, choices: Candidates, rounding: Rounding
) -> Sensitivity:
    """Quantize the network once for each choice.

    :param observations: [n, *shape], float32; of a large network some are left out
    """
    observations = thinned(graph, observations)
    exact = graph.evaluate(observations)

    def noise(weights: Widths, activations: Widths) -> float:
        chosen = choices.configured(config, weights, activations)
        network = quantize_graph(graph, observations, chosen, 16, rounding)
        return _squares(predict(network, observations) - exact)

    weights, activations = choices.widest_weights, choices.widest_activations
    least = noise(weights, activations)
    layers = [(name, bits) for name, widths in choices.weights.items() for bits in widths]
    groups = [(name, bits) for name, widths in choices.activations.items() for bits in widths]
    by_layer = dict.fromkeys(layers, 0.0)
    by_group = {name: dict.fromkeys(widths, 0.0) for name, widths in choices.activations.items()}
    with progress("measure widths", len(layers) + len(groups)) as advance:
        for done, (name, bits) in enumerate(layers, start=1):
            if bits != weights[name]:
                by_layer[name, bits] = max(0.0, noise({**weights, name: bits}, activations) - least)
            advance(done, f"{name}, weights of {bits} bits")
        for done, (name, bits) in enumerate(groups, start=len(layers) + 1):
            if bits != activations[name]:
                by_group[name][bits] = max(0.0, noise(weights, {**activations, name: bits}) - least)
            advance(done, f"{name}, {bits} bits")
    return Sensitivity(_squares(exact), least, by_layer, by_group)


def _squares(values: Floats) -> float:
    return float(np.square(values.astype(np.float64)).sum())
