"""The methods of the quantize stage: each rounds every kind of layer onto its grid, the default best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from policyport.core.semantics import weight_range
from policyport.quantize.choose import candidates
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding import methods
from policyport.quantize.rounding.adaround import AdaRoundSettings
from policyport.quantize.rounding.methods import METHODS, rounding
from policyport.quantize.simulate import predict
from policyport.quantize.source import open_source


@pytest.fixture(autouse=True)
def short_learning(monkeypatch):
    """AdaRound with few iterations."""
    monkeypatch.setattr(methods, "AdaRoundSettings", lambda **more: AdaRoundSettings(iterations=400, **more))


def quantized(graph, observations, method, bits, **config):
    config = QuantizeConfig(weight_bits=bits, method=method, **config)
    return quantize_graph(graph, observations, config, 8, rounding(method, refit_bias=config.bias_correction))


@pytest.fixture
def case(make_graph):
    """A network and correlated observations."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    return make_graph((6, 24, 24, 3), ("Relu", "Tanh", ""), seed=1), (rng.normal(size=(400, 6)) @ mixing).astype("f")


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_on_the_grid_at_every_width(case, method, bits):
    graph, observations = case
    network = quantized(graph, observations, method, bits)
    low, high = weight_range(bits)
    for layer in network.layers:
        assert layer.weights.min() >= low and layer.weights.max() <= high
        assert layer.weights.shape == layer.node.weights.shape and np.all(layer.weight_scale > 0)
    assert np.isfinite(predict(network, observations)).all()


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_methods_rank_as_they_should(case, bits):
    graph, observations = case
    exact = graph.evaluate(observations[200:])
    noise = {
        method: sqnr_db(exact, predict(quantized(graph, observations[:200], method, bits), observations[200:]))
        for method in METHODS
    }
    assert noise["lattice"] > noise["nearest"] + 3
    assert noise["adaround"] > noise["nearest"]
    assert noise["lattice"] > max(noise["adaround"], noise["gptq"]) - 0.5


@pytest.mark.parametrize("method", ["lattice", "gptq"])
def test_images_of_every_kind_of_convolution(image_model, image_observations, method):
    graph = read_onnx(image_model)
    observations = image_observations(image_model)
    network = quantized(graph, observations, method, 4)
    assert sqnr_db(graph.evaluate(observations), predict(network, observations)) > 5


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_may_have_one_scale(case, method):
    graph, observations = case
    network = quantized(graph, observations, method, 4, per_channel=False)
    for layer in network.layers:
        assert len(np.unique(layer.weight_scale)) == 1


@pytest.mark.parametrize("method", ["lattice", "gptq"])
def test_without_bias_correction_the_bias_is_the_float_layers(case, method):
    graph, observations = case
    network = quantized(graph, observations, method, 4, bias_correction=False)
    for layer in network.layers:
        step = layer.bias_scale
        assert np.all(np.abs(layer.bias * step - layer.node.bias) <= 0.51 * step)


@pytest.mark.parametrize("method", METHODS)
def test_a_large_bias_beside_tiny_weights_still_fits(case, method):
    graph, observations = case
    layer = graph.weighted[1]
    weights, bias = layer.weights.copy(), layer.bias.copy()
    weights[3] *= 1e-7
    bias[3] = 50.0
    graph = graph.replaced(replace(layer, weights=weights, bias=bias))
    network = quantized(graph, observations, method, 4)
    assert np.abs(network.layers[1].bias).max() < 2**30
    assert sqnr_db(graph.evaluate(observations), predict(network, observations)) > 10


def test_the_stage_takes_the_method_of_its_config(model_folder):
    source = open_source(model_folder / "policy.onnx")
    by_method = {
        method: candidates(source, QuantizeConfig(method=method, weight_bits=3, activations="int16"))[0]
        for method in ("nearest", "lattice")
    }
    assert by_method["lattice"].held_out.sqnr_db > by_method["nearest"].held_out.sqnr_db + 3
    assert QuantizeConfig().method == "lattice"
