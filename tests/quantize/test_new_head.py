"""Last-layer post-training of a quantized network: it repairs, it keeps what is better, it says which."""

from __future__ import annotations

import json

import numpy as np
import pytest
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.new_head import post_trained, with_new_head
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict

CONFIG = QuantizeConfig(weight_bits=2, method="nearest")


def quantized(graph, observations, bits=16):
    return quantize_graph(graph, observations, CONFIG, bits, rounding("nearest", refit_bias=False))


@pytest.mark.parametrize("seed", range(4))
def test_unseen_observations_never_lose_by_more_than_noise(make_graph, seed):
    rng = np.random.default_rng(seed)
    graph = make_graph((6, 24, 24, 3), ("Relu", "Relu", ""), seed=seed)
    seen, unseen = (rng.normal(size=(n, 6)).astype(np.float32) for n in (400, 400))
    network = quantized(graph, seen)
    made, choice = post_trained(graph, network, seen, lambda new: quantized(new, seen))
    exact = graph.evaluate(unseen)
    before, after = sqnr_db(exact, predict(network, unseen)), sqnr_db(exact, predict(made, unseen))
    assert choice.taken == (choice.sqnr_db_after > choice.sqnr_db_before)
    assert (made is network) == (not choice.taken)
    assert after > before - 0.5


def test_a_body_of_two_bits_is_repaired(make_graph):
    rng = np.random.default_rng(1)
    graph = make_graph((6, 32, 32, 2), ("Relu", "Relu", ""), seed=1)
    seen, unseen = (rng.normal(size=(n, 6)).astype(np.float32) for n in (600, 400))
    network = quantized(graph, seen)
    exact = graph.evaluate(unseen)
    repaired = with_new_head(graph, network, seen)
    assert [layer.name for layer in repaired.weighted] == [layer.name for layer in graph.weighted]
    for old, new in zip(graph.weighted[:-1], repaired.weighted[:-1], strict=True):
        np.testing.assert_array_equal(old.weights, new.weights)
    fine = quantize_graph(
        repaired,
        seen,
        QuantizeConfig(weight_bits=2, method="nearest", layer_weight_bits=("output=8",)),
        16,
        rounding("nearest", refit_bias=False),
    )
    assert sqnr_db(exact, predict(fine, unseen)) > sqnr_db(exact, predict(network, unseen)) + 3


def test_too_few_observations_keep_the_layer(make_graph):
    graph = make_graph((3, 4, 2), ("Relu", ""))
    few = np.ones((4, 3), np.float32)
    network = quantized(graph, few)
    made, choice = post_trained(graph, network, few, lambda new: pytest.fail("must not be asked"))
    assert made is network and not choice.taken


@pytest.mark.parametrize("method", ["nearest", "lattice"])
def test_the_stage_says_what_became_of_the_layer(model_folder, method):
    config = QuantizeConfig(weight_bits=3, method=method, last_layer=True)
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    choice = artifact.manifest.figures["last_layer"]
    assert choice["taken"] == (choice["sqnr_db_after"] > choice["sqnr_db_before"])
    assert json.loads(artifact.file("layers.json").read_text())["layers"]
    plain = quantize(model_folder / "policy.onnx", QuantizeConfig(weight_bits=3, method=method), model_folder / "plain")
    assert "last_layer" not in plain.manifest.figures
