"""Rows solved for a network's outputs: the chain is the integer network, and every sweep betters what it is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import UnsupportedModelError
from policyport.core.task import Environment, Task
from policyport.quantize import QuantizeConfig
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import NONE, RELU, Function, Linear
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.chain import Chain
from policyport.quantize.rounding.end_to_end import FEWEST, MOST, Aim, observations_for, solve_outputs
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict

FUNCTIONS = {"": NONE, "Relu": RELU, "Tanh": Function("Tanh")}


def graph_of(sizes: tuple[int, ...], functions: tuple[str, ...], seed: int) -> FloatGraph:
    random, layers, source = np.random.default_rng(seed), [], "observation"
    for index, function in enumerate(functions):
        name = "output" if index + 1 == len(functions) else f"hidden{index}"
        weights = random.normal(0, 1.5 / np.sqrt(sizes[index]), (sizes[index + 1], sizes[index]))
        made = Linear(
            name=name,
            inputs=(source,),
            linear_name=f"linear{index}" if function else name,
            weights=weights.astype(np.float32),
            bias=random.normal(0, 0.3, sizes[index + 1]).astype(np.float32),
            function=FUNCTIONS[function],
        )
        layers.append(made)
        source = name
    return FloatGraph("net", "observation", sizes[:1], "output", HostPrefix.identity(sizes[:1]), tuple(layers))


def start_of(graph: FloatGraph, observations: np.ndarray, bits: int, **more: object) -> QuantizedNetwork:
    config = QuantizeConfig(weight_bits=bits, input_bits=16, output_bits=16, **more)  # type: ignore[arg-type]
    return quantize_graph(graph, observations, config, 8, rounding("lattice", refit_bias=True))


def task_of(rule: str, outputs: int) -> Task:
    bound = (1.0,) * outputs
    return Task(
        kind="policy",
        name="net",
        environment=Environment("Pendulum-v1"),
        observation_size=4,
        observation_low=(-3.0,) * 4,
        observation_high=(3.0,) * 4,
        output_size=outputs,
        action_rule=rule,  # type: ignore[arg-type]
        action_low=() if rule == "argmax" else tuple(-x for x in bound),
        action_high=() if rule == "argmax" else bound,
        action_shape=() if rule == "argmax" else (outputs,),
    )


def seen(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    bits=st.sampled_from((2, 3, 4, 8)),
    function=st.sampled_from(("Tanh", "Relu")),
    last=st.sampled_from(("", "Tanh")),
)
def test_the_chain_computes_what_the_integers_do(seed: int, bits: int, function: str, last: str) -> None:
    graph, observations = graph_of((4, 6, 5, 2), (function, function, last), seed), seen(40, seed)
    network = start_of(graph, observations, bits)
    chain = Chain(network, observations)
    step = max(layer.output.scale for layer in network.layers)
    np.testing.assert_allclose(chain.outputs, predict(network, observations), atol=4 * step)
    kept = chain.network()
    for ours, theirs in zip(kept.layers, network.layers, strict=True):
        np.testing.assert_array_equal(ours.weights, theirs.weights)
        np.testing.assert_array_equal(ours.bias, theirs.bias)

    random = np.random.default_rng(seed)
    layer = int(random.integers(3))
    row = int(random.integers(len(chain.weights[layer])))
    weights, bias = np.roll(chain.weights[layer][row], 1), chain.biases[layer][row] + 0.1
    scale = float(chain.scales[layer][row])
    tried = chain.tried(layer, row, chain.features[layer] @ (weights * scale) + bias)
    chain.put(layer, row, weights, scale, bias)
    np.testing.assert_allclose(tried, chain.outputs, atol=1e-9 + 2 * step)  # one sums anew, the other adds a change
    np.testing.assert_allclose(chain.outputs, predict(chain.network(), observations), atol=4 * step)


def test_slopes_are_those_of_the_outputs() -> None:
    """Against differences that are wide, for integers are steps."""
    graph, observations = graph_of((4, 8, 6, 2), ("Tanh", "Tanh", ""), 3), seen(400)
    chain = Chain(start_of(graph, observations, 8), observations)
    slopes, wide = chain.slopes(0)[:, :, 5], 0.2
    sums = chain.sums[0][:, 5]
    measured = (chain.tried(0, 5, sums + wide) - chain.tried(0, 5, sums - wide)) / (2 * wide)
    assert np.corrcoef(slopes.ravel(), measured.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("rule", ["clip", "scale", "argmax"])
@pytest.mark.parametrize("bits", [2, 4])
def test_outputs_come_nearer_on_what_was_not_solved_on(rule: str, bits: int) -> None:
    graph, observations = graph_of((4, 16, 16, 3), ("Tanh", "Relu", ""), 1), seen(1500)
    network = start_of(graph, observations, bits)
    aim = Aim.of(task_of(rule, 3), graph.evaluate(observations))
    told: list[float] = []
    better = solve_outputs(network, observations, aim, 3, 0, lambda _, loss: told.append(loss))
    assert told == sorted(told, reverse=True) and told[-1] < aim.loss(predict(network, observations))
    fresh = seen(1500, 1)
    judged = aim.toward(graph.evaluate(fresh))
    assert judged.loss(predict(better, fresh)) < 0.8 * judged.loss(predict(network, fresh))
    low, high = better.layers[0].weights.min(), better.layers[0].weights.max()
    assert low >= -(2 ** (bits - 1)) and high <= 2 ** (bits - 1) - 1
    again = solve_outputs(network, observations, aim, 3, 0)
    for ours, theirs in zip(again.layers, better.layers, strict=True):
        np.testing.assert_array_equal(ours.weights, theirs.weights)


def test_a_layer_of_one_scale_keeps_it() -> None:
    graph, observations = graph_of((4, 12, 2), ("Tanh", ""), 4), seen(600)
    network = start_of(graph, observations, 3, per_channel=False)
    better = solve_outputs(network, observations, Aim.of(task_of("clip", 2), graph.evaluate(observations)), 2, 0)
    for ours, theirs in zip(better.layers, network.layers, strict=True):
        np.testing.assert_array_equal(ours.weight_scale, theirs.weight_scale)


def test_what_is_clipped_is_no_miss() -> None:
    aim = Aim.of(task_of("clip", 2), np.array([[5.0, 0.5], [-3.0, -0.5]], np.float32))
    assert aim.loss(np.array([[1.5, 0.5], [-9.0, -0.5]])) == 0
    assert aim.felt(np.array([[1.5, 0.5], [0.0, -0.5]])).tolist() == [[False, True], [True, True]]
    free = Aim.of(task_of("scale", 2), np.array([[5.0, 0.5], [-3.0, -0.5]], np.float32))
    assert free.loss(np.array([[1.5, 0.5], [-9.0, -0.5]])) > 0.1


def test_wide_networks_are_solved_on_fewer_observations() -> None:
    small, wide = (graph_of((4, width, 2), ("Tanh", ""), 0) for width in (8, 300))
    deep = graph_of((4, 300, 300, 2), ("Tanh", "Tanh", ""), 0)
    counts = [observations_for(start_of(graph, seen(50), 8)) for graph in (small, wide, deep)]
    assert counts[0] == counts[1] == MOST and counts[2] == FEWEST


def test_other_operators_are_refused() -> None:
    graph, observations = graph_of((4, 4, 4), ("Tanh", ""), 0), seen(40)
    network = start_of(graph, observations, 8)
    first, last = network.nodes
    skipping = replace(network, nodes=(first, replace(last, node=replace(last.node, inputs=("observation",)))))
    with pytest.raises(UnsupportedModelError, match="chain"):
        solve_outputs(skipping, observations, Aim.of(task_of("clip", 4), graph.evaluate(observations)), 1, 0)
