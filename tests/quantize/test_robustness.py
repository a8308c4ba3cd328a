"""Networks and observations as they should not be: what happens is defined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ObservationError, UnsupportedModelError
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.quantizers import bounded_bias
from policyport.quantize.simulate import predict, simulate

CALIBRATORS = ["minmax", "moving_average", "percentile", "mse", "entropy"]


def quantized(graph, observations, bits=8, **options):
    return quantize_graph(graph, observations, QuantizeConfig(**options), bits)


def scaled(graph, index, factor, rows=slice(None)):
    """The graph with the weights and biases of some rows of a layer multiplied."""
    layer = graph.weighted[index]
    weights, bias = layer.weights.copy(), layer.bias.copy()
    weights[rows] *= np.float32(factor)
    bias[rows] *= np.float32(factor)
    return graph.replaced(replace(layer, weights=weights, bias=bias))


@pytest.mark.parametrize("bits", [8, 16])
def test_layers_and_channels_that_are_always_zero(image_model, image_observations, bits):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    for index in range(len(graph.weighted)):
        for rows in (slice(None), slice(0, 1)):
            dead = scaled(graph, index, 0.0, rows)
            got = predict(quantized(dead, observations, bits), observations)
            assert np.isfinite(got).all()
            if index == len(graph.weighted) - 1 and rows == slice(None):
                np.testing.assert_allclose(got, dead.evaluate(observations), atol=0.01)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_every_calibrator_takes_a_dead_layer(make_graph, calibrator):
    graph = scaled(make_graph((4, 16, 16, 2), ("Relu", "Tanh", "")), 0, 0.0)
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    got = predict(quantized(graph, observations, calibrator=calibrator), observations)
    np.testing.assert_allclose(got, graph.evaluate(observations), atol=0.05)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("function", ["Relu", "Tanh", ""])
def test_a_channel_that_is_always_cut_off_disturbs_nothing(make_graph, bits, function):
    """Tiny weights beside a bias of any size, as batch normalization leaves them, and large weights beside them."""
    graph = make_graph((4, 16, 16, 2), ("Relu", function, ""), seed=4)
    layer = graph.weighted[1]
    weights, bias = layer.weights.copy(), layer.bias.copy()
    weights[3], bias[3] = 1e-9, -1e9 if function == "Relu" else 0.0
    weights[5] *= 300
    graph = graph.replaced(replace(layer, weights=weights, bias=bias))
    observations = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    for weight_bits in (8, 2):
        network = quantized(graph, observations, bits, weight_bits=weight_bits)
        got = predict(network, observations)
        assert np.isfinite(got).all()
        hidden = simulate(network, observations).tensors["hidden1"][:, 3].astype(int)
        if function == "Relu":
            assert (hidden == network.activations["hidden1"].zero_point).all()
    if function == "Tanh":  # a tanh forgives the large row
        network = quantized(graph, observations, bits)
        assert np.abs(predict(network, observations) - graph.evaluate(observations)).max() < 0.2


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_bounded_bias_gives_the_same_integers(seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (6, 9)) * 10 ** rng.uniform(-6, 0, (6, 1))
    bias = rng.normal(size=6) * 10 ** rng.uniform(0, 9, 6)
    inputs = rng.uniform(-3, 2, (50, 9))
    bounded = bounded_bias(bias, weights, (-3.0, 2.0), (-1.0, 5.0))
    assert (np.abs(bounded) <= np.abs(bias)).all()
    exact = np.clip(inputs @ weights.T + bias, -1, 5)
    np.testing.assert_allclose(np.clip(inputs @ weights.T + bounded, -1, 5), exact, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_layer(image_model, image_observations, bad):
    graph = read_onnx(image_model)
    layer = graph.weighted[-1]
    bias = layer.bias.copy()
    bias[0] = bad
    with pytest.raises(UnsupportedModelError, match="not a finite number") as error:
        quantized(graph.replaced(replace(layer, bias=bias)), image_observations(image_model))
    assert layer.name in str(error.value.where)


def test_a_network_that_overflows_on_the_observations_is_refused(make_graph):
    graph = scaled(scaled(make_graph((4, 8, 2), ("Relu", "")), 0, 1e30), 1, 1e30)
    with np.errstate(over="ignore"), pytest.raises(ObservationError, match="overflows"):
        quantized(graph, np.ones((5, 4), np.float32))


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_no_observation_is_refused_and_one_suffices(image_model, image_observations, calibrator):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    with pytest.raises(ObservationError, match="no observation"):
        quantized(graph, observations[:0], calibrator=calibrator)
    one = quantized(graph, observations[:1], calibrator=calibrator)
    assert np.isfinite(predict(one, observations)).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_constant_observations_are_represented(image_model, image_observations, bits):
    graph = read_onnx(image_model)
    for value in (0.0, 1.5, -300.0):
        same = np.full_like(image_observations(image_model), value)
        got = predict(quantized(graph, same, bits), same)
        span = max(1.0, float(np.abs(graph.evaluate(same)).max()))
        np.testing.assert_allclose(got, graph.evaluate(same), atol=0.05 * span)


def test_outputs_saturate_beyond_the_calibrated_range(image_model, image_observations):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantized(graph, observations)
    for factor in (1e3, -1e3, 1e30):
        found = simulate(network, observations * np.float32(factor))
        for name, activation in network.activations.items():
            q = found.tensors[name]
            assert activation.low <= q.min() and q.max() <= activation.high, name
        assert np.isfinite(found.output).all()


def test_an_outlier_channel_spoils_only_itself_with_a_scale_of_its_own(make_graph):
    graph = scaled(make_graph((4, 16, 2), ("Tanh", "")), 0, 200.0, slice(0, 1))
    observations = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    errors = []
    for per_channel in (True, False):
        layer = quantized(graph, observations, per_channel=per_channel).layers[0]
        real = layer.weights * layer.weight_scale.astype(np.float64)[:, None]
        errors.append(np.abs(real - layer.node.weights)[1:].max())
    assert errors[0] < 0.05 * errors[1]


def test_a_model_that_is_quantized_already_names_the_stage_for_it(make_graph, tmp_path):
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    path = tmp_path / "model.onnx"
    write_qdq(quantized(make_graph((4, 8, 2), ("Relu", "")), observations), path)
    with pytest.raises(UnsupportedModelError, match="quantized already") as error:
        read_onnx(path)
    assert f"policyport deploy {path}" in str(error.value.cure)


def test_a_model_that_onnxruntime_quantized_is_named_as_such(image_model, image_observations, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    samples = image_observations(image_model, n=4)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter([{"observation": samples}])

        def get_next(self):
            return next(self.left, None)

    path = tmp_path / "theirs.onnx"
    for form in (quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator):
        quantization.quantize_static(image_model, path, Reader(), quant_format=form)
        assert onnx.load(path).graph.node
        with pytest.raises(UnsupportedModelError, match="quantized already"):
            read_onnx(path)
