"""Integers decide as the sums before their last rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.task import Environment, Task
from policyport.quantize.choose import quantized
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.decided import above_zero, moved_outputs
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import predict, simulate
from policyport.quantize.source import Source


def observations_of(seed, count=200):
    return np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)


@given(st.integers(0, 1000), st.sampled_from([8, 4]))
@settings(deadline=None, max_examples=20)
def test_above_zero_is_what_the_last_sums_say(make_graph, seed, bits):
    graph, seen = make_graph((5, 9, 4), ("Relu", ""), seed), observations_of(seed)
    network = quantize_graph(graph, seen, QuantizeConfig(weight_bits=bits), 8)
    layer = network.layers[-1]
    sums = layer.accumulate(simulate(network, seen).tensors[layer.input.name])
    called = simulate(above_zero(network), seen).tensors[network.output_name] > network.output.zero_point
    clear = np.abs(sums) > 2  # the bias that moves them is a whole number
    np.testing.assert_array_equal(called[clear], (sums > 0)[clear])
    plain = simulate(network, seen).tensors[network.output_name] > network.output.zero_point
    assert not (plain & ~called).any()


def test_outputs_move_by_what_is_asked(make_graph):
    network = quantize_graph(make_graph((5, 9, 4), ("Relu", ""), 1), observations_of(1), QuantizeConfig(), 8)
    by = np.array([3.0, -2.0, 0.0, 1.0]) * network.output.scale
    moved = moved_outputs(network, by)
    assert moved is not None
    outputs, seen = predict(network, observations_of(2)), predict(moved, observations_of(2))
    reach = (network.output.dequantize(np.array([end])) for end in (network.output.low, network.output.high))
    expected = np.clip(outputs + by, *reach)
    free = (outputs > outputs.min()) & (outputs < outputs.max())
    assert free.mean() > 0.5
    np.testing.assert_allclose(seen[free], expected[free], atol=1.01 * network.output.scale)
    assert np.mean(np.abs(seen[free] - expected[free]) > 0.01 * network.output.scale) < 0.05


def test_a_network_that_ends_in_a_table_stays(make_graph):
    network = quantize_graph(make_graph((5, 4), ("Tanh",), 1), observations_of(1), QuantizeConfig(), 8)
    assert moved_outputs(network, np.ones(4)) is None and above_zero(network) is network


@pytest.mark.parametrize("rule", ["threshold", "clip"])
def test_labels_alone_are_called_so(make_graph, tmp_path, rule):
    seen = observations_of(3)
    graph = make_graph((5, 9, 4), ("Relu", ""), 3)
    ends = {"action_low": (-1.0,) * 4, "action_high": (1.0,) * 4} if rule == "clip" else {}
    task = Task(
        kind="classifier", name="net", environment=Environment("", {}, {}), observation_size=5,
        observation_low=(-9.0,) * 5, observation_high=(9.0,) * 5, output_size=4, action_rule=rule,
        action_shape=(4,), **ends,
    )  # fmt: skip
    source = Source(tmp_path, "key", graph, task, tmp_path, tmp_path, seen, seen)
    config = QuantizeConfig(method="nearest")
    made, plain = quantized(source, config, 8), quantize_graph(graph, seen, config, 8)
    expected = above_zero(plain) if rule == "threshold" else plain
    np.testing.assert_array_equal(made.layers[-1].bias, expected.layers[-1].bias)
