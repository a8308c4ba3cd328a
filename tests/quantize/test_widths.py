"""Widths and granularities: weights of 8 to 2 bits, one scale or many, symmetric activations."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from policyport.core.errors import ConfigError
from policyport.core.semantics import weight_range
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.simulate import predict, simulate

STORED = {8: onnx.TensorProto.INT8, 4: onnx.TensorProto.INT4, 3: onnx.TensorProto.INT4, 2: onnx.TensorProto.INT2}


def run(path, observations):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    return session.run(None, {given.name: observations.reshape(-1, *given.shape[1:])})[0]


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("per_channel", [True, False])
def test_narrow_weights_of_every_operator_reach_onnxruntime(
    image_model, image_observations, tmp_path, bits, per_channel
):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    config = QuantizeConfig(weight_bits=bits, per_channel=per_channel)
    network = quantize_graph(graph, observations, config, 8)
    low, high = weight_range(bits)
    for layer in network.layers:
        assert low <= layer.weights.min() and layer.weights.max() <= high
        assert per_channel or len(np.unique(layer.weight_scale)) == 1
    path = tmp_path / "narrow.onnx"
    write_qdq(network, path)
    stored = [t for t in onnx.load(path).graph.initializer if t.name.endswith("weight_quantized")]
    assert {tensor.data_type for tensor in stored} == {STORED[bits]}
    held = sorted(np.sort(numpy_helper.to_array(tensor).astype(int), axis=None).tolist() for tensor in stored)
    assert held == sorted(np.sort(layer.weights, axis=None).tolist() for layer in network.layers)
    steps = np.abs(run(path, observations) - predict(network, observations)) / network.output.scale
    assert np.mean(steps < 0.01) > 0.85 and steps.max() < 3.01


def test_the_file_of_narrow_weights_is_really_smaller(make_graph, tmp_path):
    graph = make_graph((16, 200, 200, 4), ("Relu", "Relu", ""))
    observations = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    sizes = {}
    for bits in (8, 4, 3, 2):
        network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=bits), 8)
        write_qdq(network, tmp_path / "net.onnx")
        sizes[bits] = (tmp_path / "net.onnx").stat().st_size
        biases = 4 * (200 + 200 + 4)
        assert network.weight_bytes == sum(-(-n * bits // 8) for n in (16 * 200, 200 * 200, 800)) + biases
    weights = 16 * 200 + 200 * 200 + 800
    assert sizes[8] - sizes[4] > 0.45 * weights
    assert sizes[3] == sizes[4]
    assert sizes[4] - sizes[2] > 0.2 * weights


def test_a_layer_may_have_a_width_of_its_own(make_graph):
    graph = make_graph((4, 16, 16, 2), ("Relu", "Relu", ""))
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    config = QuantizeConfig(weight_bits=4, layer_weight_bits=("output=8", "hidden1=2"))
    network = quantize_graph(graph, observations, config, 8)
    assert [layer.weight_bits for layer in network.layers] == [4, 2, 8]
    for wrong in ("hidden7=4", "output=9", "output", "=4"):
        with pytest.raises(ConfigError, match="layer_weight_bits") as error:
            quantize_graph(graph, observations, QuantizeConfig(layer_weight_bits=(wrong,)), 8)
        assert "hidden1" in str(error.value.expected)


def test_an_activation_may_have_a_width_of_its_own(image_model, image_observations, tmp_path):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    first = graph.nodes[0].name
    names = (f"{first}=16", f"{graph.input_name}=16")
    network = quantize_graph(graph, observations, QuantizeConfig(layer_activation_bits=names), 8)
    widths = {name: activation.bits for name, activation in network.activations.items()}
    assert widths[graph.input_name] == 16 and widths[network.layers[-1].name] == 8
    if image_model.stem != "joined":  # there it shares a scale, and so a width, with others
        assert widths[first] == 16
    for node in network.nodes:
        if type(node).__name__ in ("QuantizedLookup", "QuantizedMove"):
            assert node.inputs[0].bits == node.output.bits
    write_qdq(network, tmp_path / "mixed.onnx")
    steps = np.abs(run(tmp_path / "mixed.onnx", observations) - predict(network, observations)) / network.output.scale
    assert np.mean(steps < 0.01) > 0.85 and steps.max() < 3.01
    with pytest.raises(ConfigError, match="layer_activation_bits"):
        quantize_graph(graph, observations, QuantizeConfig(layer_activation_bits=(f"{first}=9",)), 8)


def test_more_bits_are_closer(image_model, image_observations):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    expected = graph.evaluate(observations)
    closeness = [
        sqnr_db(expected, predict(quantize_graph(graph, observations, QuantizeConfig(weight_bits=b), 8), observations))
        for b in (8, 4, 2)
    ]
    assert closeness[0] > closeness[1] > closeness[2]


def test_symmetric_activations_have_no_zero_point_but_those_of_fixed_functions(image_model, image_observations):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantize_graph(graph, observations, QuantizeConfig(symmetric=True), 8)
    assert {a.zero_point for a in network.activations.values()} <= {0, -128}
    assert network.input.zero_point == 0
    assert sqnr_db(graph.evaluate(observations), predict(network, observations)) > 18


@pytest.mark.parametrize("calibrator", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_every_calibrator_makes_a_usable_network(image_model, image_observations, calibrator):
    graph, observations = read_onnx(image_model), image_observations(image_model, n=100)
    network = quantize_graph(graph, observations, QuantizeConfig(calibrator=calibrator), 8)
    assert sqnr_db(graph.evaluate(observations), predict(network, observations)) > 10


def test_what_is_laid_side_by_side_shares_a_scale_unless_it_cannot(image_model, image_observations):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantize_graph(graph, observations, QuantizeConfig(), 8)
    joins = [node for node in network.nodes if type(node.node).__name__ == "Concat"]
    assert len(joins) == (1 if image_model.stem == "joined" else 0)
    for join in joins:
        shared = [source.parameters == join.output.parameters for source in join.inputs]
        assert shared == [True, True, False]  # a ReLU, a change of size, and a tanh, whose scale is given
        q = simulate(network, observations).tensors
        np.testing.assert_array_equal(q[join.name][:, :4], q[join.inputs[0].name])
