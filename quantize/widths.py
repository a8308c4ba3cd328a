"""Chooses a width for every layer and activation within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import log10

from policyport.core.errors import ConfigError
from policyport.quantize.allocate import Allocation, Option, Problem, Resource, Width, allocate, front
from policyport.quantize.budget import Budget
from policyport.quantize.config import WEIGHT_BITS, QuantizeConfig
from policyport.quantize.cost import Cost, CostModel
from policyport.quantize.cost_table import CostTable
from policyport.quantize.layer_data import Rounding
from policyport.quantize.metrics import PERFECT_DB
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.sensitivity import Candidates, Sensitivity, candidates, measure
from policyport.quantize.source import Source

ATTEMPTS = 8
"""How often a budget is solved anew with less, where the network costs more than was expected of it."""

ACTIVATIONS = {"auto": (16, 8), "int8": (8,), "int16": (16,)}
"""The configured width of activations, to those to choose from."""

Quantize = Callable[[QuantizeConfig], QuantizedNetwork]
"""Quantizes a network as a whole; activations that the configuration does not name have 16 bits."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen, from what, and what became of it."""

    network: QuantizedNetwork
    allocation: Allocation
    """As predicted."""

    cost: Cost
    """As measured of the network."""

    ram_bytes: int
    budget: Budget
    resource: Resource
    """Which the front is drawn over."""

    front: tuple[Allocation, ...]
    sensitivity: Sensitivity
    choices: Candidates
    costs: str
    """What the costs are of: the version of the cost model."""

    def predicted_db(self, allocation: Allocation) -> float:
        """SQNR of the output that is expected of a choice, in dB."""
        if allocation.noise <= 0 or self.sensitivity.signal <= 0:
            return PERFECT_DB
        return min(PERFECT_DB, 10 * log10(self.sensitivity.signal / allocation.noise))


def within(
    source: Source, config: QuantizeConfig, budget: Budget, model: CostModel, rounding: Rounding, quantize: Quantize
) -> Chosen:
    """The network of least noise within a budget.

    :param rounding: for measuring what widths do
    :raises ConfigError: nothing is within it; the least possible is named
    """
    weights = tuple(bits for bits in WEIGHT_BITS if bits <= config.weight_bits)
    choices = candidates(source.graph, config, weights, ACTIVATIONS[config.activations])
    problem, sensitivity = knapsack(source, config, choices, model, rounding)
    resource: Resource = "flash_bytes" if budget.flash_bytes is not None else "instructions"
    tightened = budget
    limits = {name: limit for name, limit in vars(budget).items() if limit is not None}
    taken: dict[str, int] = {}
    for _ in range(ATTEMPTS):
        found = allocate(problem, tightened)
        network = quantize(choices.configured(config, found.weight_bits, found.activation_bits))
        cost, ram_bytes = total(model, network), model.ram_bytes(network)
        taken = {**vars(cost), "ram_bytes": ram_bytes}
        if all(taken[name] <= limit for name, limit in limits.items()):
            points = tuple(front(problem, budget, resource))
            return Chosen(
                network, found, cost, ram_bytes, budget, resource, points, sensitivity, choices, model.version
            )
        expected = {**vars(found.cost), "ram_bytes": problem.ram(found.activation_bits)}
        tightened = Budget(**{name: limit - max(0, taken[name] - expected[name]) for name, limit in limits.items()})
    raise ConfigError(
        "the network costs more than was expected of its widths",
        where="[quantize]",
        expected=", ".join(f"{name} {limit:,}" for name, limit in limits.items()),
        got=", ".join(f"{name} {taken[name]:,}" for name in limits),
        cure="allow a little more",
    )


def knapsack(
    source: Source, config: QuantizeConfig, choices: Candidates, model: CostModel, rounding: Rounding
) -> tuple[Problem, Sensitivity]:
    """The problem of choosing, its noise measured and its costs as the model has them."""
    sensitivity = measure(source.graph, source.observations, config, choices, rounding)
    costs = CostTable(source.graph, source.observations, config, choices, model)

    @cache
    def ram_bytes(widths: tuple[tuple[str, int], ...]) -> int:
        return costs.ram_bytes(dict(widths))

    options = tuple(
        Option(layer, bits, read, sensitivity.weights[layer, bits], costs.layers[layer, bits, read])
        for layer, widths in choices.weights.items()
        for bits in widths
        for read in choices.activations[costs.reads[layer]]
    )
    groups = {
        name: {bits: Width(noise, costs.groups[name] if bits == 16 else Cost()) for bits, noise in widths.items()}
        for name, widths in sensitivity.activations.items()
    }
    problem = Problem(
        options,
        costs.reads,
        groups,
        lambda widths: ram_bytes(tuple(widths.items())),
        sensitivity.noise,
        costs.others,
    )
    return problem, sensitivity


def total(model: CostModel, network: QuantizedNetwork) -> Cost:
    """Of all operators."""
    return sum(model.operators(network).values(), Cost())
