"""Networks rewritten before they are quantized: equalized, with weights as QuaRL quantizes them, in half precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from policyport.core.errors import ConfigError, UnsupportedModelError
from policyport.core.operators import Window
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.equalize import equalize
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.half import evaluate_half, halved, write_half
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.nodes import RELU, RELU6, AveragePool, Convolution, Linear, Reshape
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.quarl import quantize_policy, quantize_weights
from policyport.quantize.simulate import predict

SHAPE = (3, 8, 8)


def unequal(function=RELU, seed=0):
    """Convolution, depthwise convolution, convolution, fully connected: channels of very different size."""
    rng = np.random.default_rng(seed)
    sizes = 10 ** rng.uniform(-1, 1, 6)

    def conv(name, source, weights, groups=1, pads=(0, 0, 0, 0)):
        weights = np.asarray(weights, np.float32)
        bias = rng.normal(0, 0.1, len(weights)).astype(np.float32)
        linear = f"{name}_linear"
        window = Window(weights.shape[2:], pads=pads)
        shared = {"name": name, "inputs": (source,), "linear_name": linear, "weights": weights, "bias": bias}
        return Convolution(**shared, function=function, window=window, groups=groups)

    first = rng.normal(size=(6, 3, 3, 3)) * sizes[:, None, None, None]
    nodes = (
        conv("a", "observation", first / 3),
        conv("b", "a", rng.normal(size=(6, 1, 3, 3)) / sizes[:, None, None, None] / 3, groups=6, pads=(1, 1, 1, 1)),
        conv("c", "b", rng.normal(size=(4, 6, 1, 1)) * 10 ** rng.uniform(-1, 1, (1, 6, 1, 1))),
        AveragePool(name="d", inputs=("c",), window=Window((3, 3), (3, 3))),
        Reshape(name="e", inputs=("d",), target=(16,), channels_last=True),
        Linear(
            name="output",
            inputs=("e",),
            linear_name="output",
            weights=rng.normal(size=(3, 16)).astype(np.float32),
            bias=np.zeros(3, np.float32),
        ),
    )
    return FloatGraph("net", "observation", SHAPE, "output", HostPrefix.identity(SHAPE), nodes)


def draw(seed=0, n=40, reach=1.0):
    return np.random.default_rng(seed).uniform(-reach, reach, (n, *SHAPE)).astype(np.float32)


def test_equalized_networks_compute_the_same():
    graph = unequal()
    got = equalize(graph, draw()).evaluate(draw(1))
    np.testing.assert_allclose(got, graph.evaluate(draw(1)), rtol=1e-4, atol=1e-4)


def test_equalization_gives_channels_between_layers_one_range_as_far_as_their_values_allow():
    graph, observations = unequal(), draw()
    made = equalize(graph, observations)
    a, b, c, end = made.weighted
    of_outputs = [np.abs(node.weights).max((1, 2, 3)) for node in (a, b, c)]
    columns = np.abs(end.weights).reshape(3, 4, 4).max((0, 1))  # flattened with channels last
    of_inputs = [of_outputs[1], np.abs(c.weights).max((0, 2, 3)), columns]
    equal = 0
    for node, mine, theirs in zip((a, b, c), of_outputs, of_inputs, strict=True):
        limit = graph.trace(observations)[node.name].max()
        largest = np.abs(made.trace(observations)[node.linear_name]).max((0, 2, 3))
        same = np.abs(np.log(mine / theirs)) < 0.01
        assert (same | ((mine < theirs) & (largest > 0.98 * limit))).all()
        equal += same.sum()
    assert equal >= 8


def test_equalization_helps_where_a_layer_has_one_scale():
    graph, config = unequal(), QuantizeConfig(per_channel=False)
    expected = graph.evaluate(draw(1))
    plain, equal = (
        sqnr_db(expected, predict(quantize_graph(made, draw(), config, 8), draw(1)))
        for made in (graph, equalize(graph, draw()))
    )
    assert equal > plain + 10


def test_a_clip_opens_only_where_no_observation_reaches_it():
    graph = unequal(RELU6)
    calm = equalize(graph, draw(reach=0.01))
    assert all(node.function == RELU for node in calm.weighted[:3])
    wild = draw(reach=100.0)
    stays = equalize(graph, wild)
    assert any(node.function == RELU6 for node in stays.weighted[:3])
    np.testing.assert_allclose(stays.evaluate(wild), graph.evaluate(wild), rtol=1e-4, atol=1e-4)


def test_dead_channels_do_not_disturb_equalization():
    graph = unequal()
    a, b = graph.weighted[:2]
    dead, cut = a.weights.copy(), b.weights.copy()
    dead[1], cut[2] = 0, 0
    graph = graph.replaced(replace(a, weights=dead), replace(b, weights=cut))
    got = equalize(graph, draw())
    assert all(np.isfinite(node.weights).all() for node in got.weighted)
    np.testing.assert_allclose(got.evaluate(draw(1)), graph.evaluate(draw(1)), rtol=1e-4, atol=1e-4)


weights = arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))


@given(weights, st.integers(2, 15))
def test_quarl_rounds_to_multiples_of_its_step(values, bits):
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    delta = (abs(float(low)) + abs(float(high))) / 2**bits
    got = quantize_weights(values, bits)
    np.testing.assert_allclose(got, values, atol=0.5001 * delta + 1e-5)
    if delta > 1e-3:
        assert np.abs(got / delta - np.rint(got / delta)).max() < 0.02
        assert len(np.unique(got)) <= 2**bits + 1


def test_quarl_forms_differ_where_all_weights_have_one_sign():
    one_sign = np.array([2.0, 2.6, 4.0], np.float32)
    np.testing.assert_allclose(quantize_weights(one_sign, 2, "paper"), [2, 3, 4])
    np.testing.assert_allclose(quantize_weights(one_sign, 2, "repository"), [1.5, 3, 4.5])
    both = np.array([-2.0, 0.3, 2.0], np.float32)
    np.testing.assert_array_equal(quantize_weights(both, 3, "paper"), quantize_weights(both, 3, "repository"))
    np.testing.assert_array_equal(quantize_weights(both, 32), both)
    np.testing.assert_array_equal(quantize_weights(both, 16), both.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(quantize_weights(np.zeros(3, np.float32), 4), np.zeros(3))
    with pytest.raises(ConfigError):
        quantize_weights(both, 1)


def test_quarl_takes_a_convolution_by_its_outputs_and_leaves_biases():
    graph = unequal()
    got = quantize_policy(graph, 4)
    first, last = graph.weighted[0], graph.weighted[-1]
    np.testing.assert_array_equal(got.weighted[0].weights[2], quantize_weights(first.weights[2], 4))
    np.testing.assert_array_equal(got.weighted[-1].weights, quantize_weights(last.weights, 4))
    np.testing.assert_array_equal(got.weighted[0].bias, first.bias)
    errors = [sqnr_db(graph.evaluate(draw()), quantize_policy(graph, bits).evaluate(draw())) for bits in (8, 6, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_half_precision_is_what_onnxruntime_computes(image_model, image_observations, tmp_path):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    path = tmp_path / "half.onnx"
    write_half(graph, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    got = session.run(None, {given.name: observations.reshape(-1, *given.shape[1:])})[0]
    expected = evaluate_half(graph, observations)
    np.testing.assert_array_equal(halved(expected), expected)
    np.testing.assert_allclose(got, expected, atol=0.01, rtol=0.01)
    assert 40 < sqnr_db(graph.evaluate(observations), expected) < 90
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert {kinds[name] for name in kinds if name.endswith(("_weight", "_bias"))} == {onnx.TensorProto.FLOAT16}


def test_a_weight_beyond_half_precision_is_refused(make_graph):
    graph = make_graph((4, 8, 2), ("Relu", ""))
    huge = replace(graph.weighted[0], weights=graph.weighted[0].weights * np.float32(1e6))
    with pytest.raises(UnsupportedModelError, match="hidden0"):
        evaluate_half(graph.replaced(huge), np.zeros((1, 4), np.float32))
