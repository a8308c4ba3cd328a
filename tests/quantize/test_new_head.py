"""Last-layer post-training of a quantized network: it repairs, it keeps what is better, it says which."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from policyport.core.paired import ALPHA
from policyport.core.semantics import weight_range
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.metrics import closeness, sqnr_db
from policyport.quantize.new_head import UNJUDGED, post_trained, with_new_head
from policyport.quantize.nodes import Linear
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict

CONFIG = QuantizeConfig(weight_bits=2, method="nearest")


def quantized(graph, observations, bits=16, method="nearest", config=CONFIG):
    return quantize_graph(graph, observations, config, bits, rounding(method, refit_bias=True))


def draws(seed, *counts, inputs=6):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, inputs)).astype(np.float32) for n in counts]


@pytest.mark.parametrize("rule", ["argmax", "clip"])
@pytest.mark.parametrize("method", ["nearest", "lattice"])
@pytest.mark.parametrize("seed", range(3))
def test_unseen_observations_never_lose_by_more_than_noise(make_graph, make_task, seed, method, rule):
    graph = make_graph((6, 24, 24, 3), ("Relu", "Relu", ""), seed=seed)
    task = make_task(6, 3, rule)
    seen, unseen = draws(seed, 400, 400)
    network = quantized(graph, seen, method=method)
    made, choice = post_trained(graph, network, seen, task, CONFIG)
    exact = graph.evaluate(unseen)
    before, after = (closeness(task, exact, predict(each, unseen)) for each in (network, made))
    assert choice.taken == (choice.p_quieter < ALPHA <= choice.p_worse)
    assert (made is network) == (not choice.taken)
    assert after.sqnr_db > before.sqnr_db - 0.3
    if rule == "argmax":
        assert after.action_agreement > before.action_agreement - 0.02
    else:
        assert after.action_error < 1.05 * before.action_error


@pytest.mark.parametrize("bits", [8, 16])
def test_a_body_of_two_bits_is_repaired_by_a_head_of_two_bits(make_graph, make_task, bits):
    graph = make_graph((6, 32, 32, 2), ("Relu", "Relu", ""), seed=1)
    seen, unseen = draws(1, 600, 400)
    network = quantized(graph, seen, bits)
    made, choice = post_trained(graph, network, seen, make_task(6, 2), CONFIG)
    exact = graph.evaluate(unseen)
    gained = sqnr_db(exact, predict(made, unseen)) - sqnr_db(exact, predict(network, unseen))
    assert choice.taken and gained > 3
    assert gained == pytest.approx(choice.sqnr_db_after - choice.sqnr_db_before, abs=1.5)
    for old, new in zip(network.layers[:-1], made.layers[:-1], strict=True):
        assert new is old
    low, high = weight_range(2)
    assert made.layers[-1].weights.min() >= low and made.layers[-1].weights.max() <= high
    again = with_new_head(graph, network, seen, CONFIG)
    np.testing.assert_array_equal(again.layers[-1].weights, made.layers[-1].weights)


def test_noise_that_is_lessened_at_the_cost_of_actions_is_refused(make_graph, make_task):
    """Errors in the common mode decide no action; a head that trades them for others is not taken."""
    from policyport.quantize import new_head

    graph, task = make_graph((6, 24, 2), ("Relu", ""), seed=2), make_task(6, 2)
    (seen,) = draws(2, 400)
    network = quantized(graph, seen, 16, "lattice", QuantizeConfig())
    exact = graph.evaluate(seen)
    common, exchanged = np.float32(3.0), 0.4 * exact + 0.6 * exact[:, ::-1]
    choice = new_head._choice(task, exact, exact + common, exchanged)
    assert choice.p_quieter < ALPHA and choice.p_worse < ALPHA and not choice.taken
    kept = new_head._choice(task, exact, exact + common, predict(network, seen))
    assert kept.taken


def test_what_is_lost_by_chance_refuses_nothing(make_task):
    from policyport.quantize import new_head

    rng = np.random.default_rng(0)
    exact = rng.normal(size=(200, 2)).astype(np.float32)
    before, after = exact + np.float32(1.0), exact.copy()
    after[0] = exact[0, ::-1]
    choice = new_head._choice(make_task(6, 2), exact, before, after)
    assert (choice.action_error_before, choice.action_error_after) == (0.0, 1 / 200)
    assert choice.p_worse == 0.5 and choice.taken


@pytest.mark.parametrize("n", [1, 4, 9])
def test_too_few_observations_keep_the_layer(make_graph, make_task, n):
    graph = make_graph((3, 4, 2), ("Relu", ""))
    few = np.ones((n, 3), np.float32)
    network = quantized(graph, few)
    assert post_trained(graph, network, few, make_task(3, 2), CONFIG) == (network, UNJUDGED)


def test_equal_observations_are_solved(make_graph, make_task):
    graph = make_graph((3, 4, 2), ("Relu", ""))
    same = np.ones((20, 3), np.float32)
    network = quantized(graph, same)
    made, _ = post_trained(graph, network, same, make_task(3, 2), CONFIG)
    assert np.isfinite(predict(made, same)).all()


def test_a_network_of_one_layer_is_solved_in_its_own_input(make_graph, make_task):
    """The host's gain, which calibration puts in front of the first layer, is in front of the solved one too."""
    graph = make_graph((6, 3), ("",), seed=4)
    (seen,) = draws(4, 300)
    seen = seen * np.array([100, 1, 1, 0.01, 1, 1], np.float32)
    network = quantized(graph, seen, 16)
    made, choice = post_trained(graph, network, seen, make_task(6, 3), CONFIG)
    exact = graph.evaluate(seen)
    assert sqnr_db(exact, predict(made, seen)) > sqnr_db(exact, predict(network, seen)) - 0.1
    assert choice.sqnr_db_before == sqnr_db(exact, predict(network, seen))


def test_a_convolution_at_the_end_is_solved_for_every_place(make_task, save_nodes, tmp_path):
    from onnx import helper

    rng = np.random.default_rng(5)
    constants = {
        "w0": rng.normal(0, 0.4, (8, 2, 3, 3)), "b0": rng.normal(0, 0.2, 8),
        "w1": rng.normal(0, 0.3, (3, 8, 3, 3)), "b1": rng.normal(0, 0.2, 3),
        "image": np.array([-1, 2, 5, 5]), "flat": np.array([-1, 75]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["observation", "image"], ["x"]),
        helper.make_node("Conv", ["x", "w0", "b0"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "flat"], ["output"]),
    ]
    graph = read_onnx(save_nodes(nodes, constants, tmp_path / "net.onnx", 50, 75))
    seen, unseen = draws(5, 100, 100, inputs=50)
    network = quantized(graph, seen, 8)
    made, choice = post_trained(graph, network, seen, make_task(50, 75, "clip"), CONFIG)
    assert choice.taken and made.layers[-1].weights.shape == (3, 8, 3, 3)
    exact = graph.evaluate(unseen)
    assert sqnr_db(exact, predict(made, unseen)) > sqnr_db(exact, predict(network, unseen)) + 2


def test_sums_that_could_overflow_keep_the_layer(make_graph, make_task, monkeypatch):
    from policyport.core.errors import UnsupportedModelError
    from policyport.quantize import integer_nodes

    graph = make_graph((6, 24, 3), ("Relu", ""), seed=0)
    (seen,) = draws(0, 200)
    network = quantized(graph, seen)

    def narrow(*_):
        raise UnsupportedModelError("an accumulator can overflow")

    monkeypatch.setattr(integer_nodes.QuantizedLayer, "_requantization", narrow)
    assert post_trained(graph, network, seen, make_task(6, 3), CONFIG) == (network, UNJUDGED)


def test_a_layer_of_its_own_width_keeps_it(make_graph):
    graph = make_graph((6, 24, 3), ("Relu", ""), seed=0)
    (seen,) = draws(0, 200)
    config = replace(CONFIG, layer_weight_bits=("output=4",), per_channel=False)
    made = with_new_head(graph, quantized(graph, seen, config=config), seen, config)
    assert np.abs(made.layers[-1].weights).max() > 2 and isinstance(made.layers[-1].node, Linear)
    assert len(set(made.layers[-1].weight_scale.tolist())) == 1


@pytest.mark.parametrize("method", ["nearest", "lattice"])
def test_the_stage_says_what_became_of_the_layer(model_folder, method):
    config = QuantizeConfig(weight_bits=3, method=method, last_layer=True)
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    choice = artifact.manifest.figures["last_layer"]
    assert choice["taken"] == (choice["p_quieter"] < ALPHA <= choice["p_worse"])
    assert choice["taken"] or method == "lattice"
    assert json.loads(artifact.file("layers.json").read_text())["layers"]
    plain = quantize(model_folder / "policy.onnx", QuantizeConfig(weight_bits=3, method=method), model_folder / "plain")
    assert "last_layer" not in plain.manifest.figures
