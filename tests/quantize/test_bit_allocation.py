"""Widths by layer: which tensors belong together, what they cost, budgets kept, and told where they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.quantize.budget import Budget
from policyport.quantize.choose import candidates as choose_widths
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.cost import Estimate
from policyport.quantize.cost_table import CostTable
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.layer_data import nearest
from policyport.quantize.nodes import RELU, Concat, Linear, Softmax, Sum
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.sensitivity import candidates, groups_of, measure
from policyport.quantize.source import open_source
from policyport.quantize.widths import knapsack, total, within

WEIGHTS = (8, 4, 3, 2)


def linear(name, source, inputs, outputs, rng):
    weights = rng.normal(0, 1 / np.sqrt(inputs), (outputs, inputs)).astype("f")
    bias = rng.normal(0, 0.1, outputs).astype("f")
    return Linear(name=name, inputs=(source,), linear_name=name, weights=weights, bias=bias, function=RELU)


@pytest.fixture
def branching():
    """Two branches, side by side and summed, with a softmax at the end."""
    rng = np.random.default_rng(0)
    nodes = (
        linear("a", "x", 4, 8, rng),
        linear("b", "x", 4, 8, rng),
        Sum(name="sum", inputs=("a", "b"), signs=(1, 1)),
        linear("c", "sum", 8, 8, rng),
        Concat(name="joined", inputs=("c", "sum")),
        linear("d", "joined", 16, 3, rng),
        Softmax(name="out", inputs=("d",)),
    )
    return FloatGraph("net", "x", (4,), "out", HostPrefix.identity((4,)), nodes)


@pytest.fixture
def observations():
    return np.random.default_rng(1).normal(size=(200, 4)).astype("f")


@pytest.fixture
def source(model_folder):
    return open_source(model_folder / "policy.onnx")


def test_tensors_that_must_have_the_same_width_are_one_group(branching):
    groups = groups_of(branching)
    assert groups["c"] == groups["sum"] == groups["joined"]
    assert len({groups[name] for name in ("x", "a", "b", "sum", "d", "out")}) == 6
    choices = candidates(branching, QuantizeConfig(), WEIGHTS, (16, 8))
    assert choices.activations[groups["d"]] == choices.activations[groups["out"]] == (8,)
    assert choices.activations[groups["sum"]] == choices.activations[groups["x"]] == (16, 8)


def test_what_the_configuration_names_is_not_chosen(branching):
    config = QuantizeConfig(layer_weight_bits=("b=3",), layer_activation_bits=("c=8",))
    choices = candidates(branching, config, WEIGHTS, (16, 8))
    assert choices.weights == {"a": WEIGHTS, "b": (3,), "c": WEIGHTS, "d": WEIGHTS}
    assert choices.activations[choices.groups["joined"]] == (8,)
    assert set(candidates(branching, config, None, (16, 8)).weights.values()) == {(8,), (3,)}


def test_chosen_widths_are_those_of_the_network(branching, observations):
    choices = candidates(branching, QuantizeConfig(), WEIGHTS, (16, 8))
    weights = dict(zip(choices.weights, (2, 8, 4, 3), strict=True))
    wide = {"x", choices.groups["sum"]}
    activations = {name: 16 if name in wide else 8 for name in choices.activations}
    config = choices.configured(QuantizeConfig(), weights, activations)
    network = quantize_graph(branching, observations, config, 16)
    assert {layer.name: layer.weight_bits for layer in network.layers} == weights
    got = {name: network.activations[name].bits for name in choices.groups}
    assert got == {name: activations[group] for name, group in choices.groups.items()}


def test_costs_of_choices_add_up_to_those_of_the_network(branching, observations):
    config, rng = QuantizeConfig(), np.random.default_rng(0)
    choices = candidates(branching, config, WEIGHTS, (16, 8))
    table = CostTable(branching, observations, config, choices, Estimate())
    for _ in range(10):
        weights = {name: int(rng.choice(widths)) for name, widths in choices.weights.items()}
        activations = {name: int(rng.choice(widths)) for name, widths in choices.activations.items()}
        network = quantize_graph(branching, observations, choices.configured(config, weights, activations), 16)
        expected = table.others
        for name, bits in weights.items():
            expected += table.layers[name, bits, activations[table.reads[name]]]
        for name, bits in activations.items():
            expected += table.groups[name] if bits == 16 else total(Estimate(), replace(network, nodes=()))
        assert total(Estimate(), network) == expected
        assert table.ram_bytes(activations) == Estimate().ram_bytes(network)


def test_fewer_bits_are_more_noise_and_none_where_nothing_changes(source):
    choices = candidates(source.graph, QuantizeConfig(), WEIGHTS, (16, 8))
    found = measure(source.graph, source.observations, QuantizeConfig(), choices, nearest)
    for name in choices.weights:
        noises = [found.weights[name, bits] for bits in WEIGHTS]
        assert noises[0] == 0 and noises == sorted(set(noises))
    assert all(widths[16] == 0 for widths in found.activations.values())
    assert found.activations["observation"][8] > 0 and found.signal > found.noise > 0


@pytest.mark.parametrize("activations", ["auto", "int8"])
def test_a_budget_is_kept_and_a_larger_one_buys_accuracy(source, activations):
    config = QuantizeConfig(activations=activations, method="nearest")

    def whole(chosen):
        return quantize_graph(source.graph, source.observations, chosen, 16)

    budgets = [Budget(flash_bytes=limit) for limit in (962, 1062, 1212)]
    made = []
    for budget in budgets:
        found = within(source, config, budget, Estimate(), nearest, whole)
        assert found.cost.flash_bytes <= budget.flash_bytes
        assert {layer.name: layer.weight_bits for layer in found.network.layers} == found.allocation.weight_bits
        assert found.cost == found.allocation.cost
        made.append(found)
    noises = [found.allocation.noise for found in made]
    assert noises == sorted(noises, reverse=True) and noises[0] > noises[-1]
    assert {a.bits for a in made[0].network.activations.values()} <= ({8} if activations == "int8" else {8, 16})
    assert [point.noise for point in made[0].front] == sorted((p.noise for p in made[0].front), reverse=True)


def test_a_network_that_costs_more_than_expected_is_solved_anew(source):
    class Surprising(Estimate):
        """Takes 60 bytes more for whatever was calibrated on all observations."""

        def operators(self, network):
            more = 60 if network.name == "whole" else 0
            found = dict(super().operators(network))
            first = next(iter(found))
            found[first] = replace(found[first], flash_bytes=found[first].flash_bytes + more)
            return found

    def whole(config):
        return replace(quantize_graph(source.graph, source.observations, config, 16), name="whole")

    config = QuantizeConfig(activations="int8", method="nearest")
    found = within(source, config, Budget(flash_bytes=1062), Surprising(), nearest, whole)
    assert found.allocation.cost.flash_bytes + 60 == found.cost.flash_bytes <= 1062
    with pytest.raises(ConfigError, match="no choice of widths"):
        within(source, config, Budget(flash_bytes=900), Surprising(), nearest, whole)


def test_the_solver_is_given_what_was_measured(source):
    choices = candidates(source.graph, QuantizeConfig(), WEIGHTS, (16, 8))
    problem, sensitivity = knapsack(source, QuantizeConfig(), choices, Estimate(), nearest)
    widest = problem.assess(choices.widest_weights, choices.widest_activations)
    assert widest.noise == sensitivity.noise
    config = choices.configured(QuantizeConfig(), choices.widest_weights, choices.widest_activations)
    assert widest.cost == total(Estimate(), quantize_graph(source.graph, source.observations, config, 16))


def test_a_budget_in_the_configuration_is_kept(source):
    (found,) = choose_widths(source, QuantizeConfig(flash_budget="1K", activations="int8"))
    assert found.activations == "mixed" and found.chosen is not None
    assert total(Estimate(), found.network).flash_bytes <= 1024


def test_within_a_budget_the_last_layer_is_solved_anew_at_its_own_width(source):
    config = QuantizeConfig(flash_budget="900", method="nearest", last_layer=True)
    (found,) = choose_widths(source, config)
    (plain,) = choose_widths(source, replace(config, last_layer=False))
    assert plain.head is None and found.head is not None and found.head.taken
    assert [layer.weight_bits for layer in found.network.layers] == [
        layer.weight_bits for layer in plain.network.layers
    ]
    assert found.held_out.sqnr_db > plain.held_out.sqnr_db
