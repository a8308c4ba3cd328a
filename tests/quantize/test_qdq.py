"""The QDQ file: checked by onnx, run by onnxruntime, holding the very integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import HostPrefix
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.simulate import simulate


def draw(seed, n=400):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def run(path, observations):
    # Fused integer kernels saturate in 16 bits on processors without VNNI: let every node compute what it says.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"observation": observations})[0]


@pytest.mark.parametrize("functions", [("Tanh", "Relu", ""), ("Relu", "", "Tanh"), ("Sigmoid", "Tanh", "Relu")])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("input_gain", [True, False])
def test_onnxruntime_agrees_but_for_its_roundings(make_graph, tmp_path, functions, bits, input_gain):
    graph = make_graph((4, 16, 16, 3), functions, seed=1)
    if not input_gain:
        graph = replace(graph, prefix=HostPrefix(np.full(4, 0.1, np.float32), np.full(4, 2, np.float32), -3.0, 3.0))
    network = quantize_graph(graph, draw(0), QuantizeConfig(input_gain=input_gain), bits)
    path = tmp_path / "model.onnx"
    write_qdq(network, path)
    expected = simulate(network, draw(1)).output
    steps = np.abs(run(path, draw(1)) - expected) / network.output.scale
    # 16 bits: our table interpolates between 257 points, onnxruntime computes the function itself.
    assert steps.max() <= (2.01 if bits == 8 else 64)
    if bits == 8:
        assert np.mean(steps < 0.01) > 0.95


def test_the_file_holds_the_integers_and_the_float_model_s_names(make_graph, tmp_path):
    network = quantize_graph(make_graph((4, 8, 2), ("Tanh", "")), draw(0), QuantizeConfig(), 8)
    path = tmp_path / "model.onnx"
    write_qdq(network, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for layer in network.layers:
        np.testing.assert_array_equal(held[f"{layer.name}_weight_quantized"], layer.weights)
        np.testing.assert_array_equal(held[f"{layer.name}_bias_quantized"], layer.bias)
        assert held[f"{layer.name}_weight_quantized"].dtype == np.int8
        assert held[f"{layer.name}_bias_quantized"].dtype == np.int32
    tensors = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert {"observation", "linear0", "hidden0", "output"} <= tensors


def test_the_pattern_of_operators(make_graph, tmp_path):
    network = quantize_graph(make_graph((4, 8, 8, 2), ("Tanh", "Relu", "")), draw(0), QuantizeConfig(), 16)
    path = tmp_path / "model.onnx"
    write_qdq(network, path)
    pair = ["QuantizeLinear", "DequantizeLinear"]
    layer = ["DequantizeLinear", "DequantizeLinear", "Gemm"]
    expected = ["Mul", *pair, *layer, *pair, "Tanh", *pair, *layer, "Relu", *pair, *layer, *pair]
    assert [node.op_type for node in onnx.load(path).graph.node] == expected


def test_the_same_network_is_the_same_file(make_graph, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        network = quantize_graph(make_graph((4, 8, 2), ("Tanh", "")), draw(0), QuantizeConfig(), 8)
        write_qdq(network, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
