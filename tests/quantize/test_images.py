"""Networks of images: read, quantized, simulated and written, each operator against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from policyport.quantize import nodes
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedLookup
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.nodes import Convolution
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.simulate import predict, simulate


def run(model, inputs, outputs=None):
    """onnxruntime, every node by itself."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return session.run(outputs, inputs)


def test_the_graph_computes_what_onnxruntime_does(image_model, image_observations):
    observations = image_observations(image_model)
    expected = run(image_model, {"observation": observations})[0]
    graph = read_onnx(image_model)
    np.testing.assert_allclose(graph.evaluate(observations), expected, rtol=1e-4, atol=1e-5)
    traced = graph.trace(observations)
    assert all(traced[name].shape[1:] == shape for name, shape in graph.shapes.items())


def cut(model, given, wanted):
    """The part of a model between the tensors ``given`` (name to value) and the one ``wanted``."""
    producers = {name: node for node in model.graph.node for name in node.output}
    kept, open_names = [], [wanted]
    while open_names:
        name = open_names.pop()
        node = None if name in given else producers.get(name)
        if node is not None and node not in kept:
            kept.append(node)
            open_names.extend(node.input)
    order = [node for node in model.graph.node if node in kept]
    inputs = [helper.make_tensor_value_info(name, 1, value.shape) for name, value in given.items()]
    graph = helper.make_graph(order, "part", inputs, [onnx.ValueInfoProto(name=wanted)], model.graph.initializer)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


@pytest.mark.parametrize("bits", [8, 16])
def test_each_operator_is_at_most_one_step_from_onnxruntime(image_model, image_observations, tmp_path, bits):
    """Each is given the very integers that the simulation gives it, so that no difference adds up."""
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantize_graph(graph, observations, QuantizeConfig(), bits)
    path = tmp_path / "quantized.onnx"
    write_qdq(network, path)
    model, tensors = onnx.load(path), simulate(network, observations).tensors
    equal = []
    for node in network.nodes:
        before = node.before if isinstance(node, QuantizedLayer) else node.output
        steps = [(node.inputs, before)] + ([] if before is node.output else [((before,), node.output)])
        for sources, target in steps:
            given = {f"{x.name}_dequantized": x.dequantize(tensors[x.name]) for x in sources}
            got = run(cut(model, given, f"{target.name}_quantized"), given)[0]
            off = np.abs(got.astype(int) - tensors[target.name].astype(int))
            # 16-bit tables interpolate between 257 points, onnxruntime computes the function itself.
            table = isinstance(node, QuantizedLookup) or target is not before
            assert off.max() <= (64 if table and bits == 16 else 1), target.name
            equal.append(np.mean(off == 0))
    assert np.mean(equal) > (0.98 if bits == 8 else 0.7)


@pytest.mark.parametrize(("bits", "least_db"), [(8, 22.0), (16, 35.0)])
def test_outputs_are_close_on_observations_not_calibrated_on(image_model, image_observations, bits, least_db):
    graph = read_onnx(image_model)
    network = quantize_graph(graph, image_observations(image_model, n=300), QuantizeConfig(), bits)
    held_out = image_observations(image_model, seed=1)
    limit = min(least_db, 30.0) if network.output.bits == 8 else least_db
    assert sqnr_db(graph.evaluate(held_out), predict(network, held_out)) > limit


def test_the_same_integers_whatever_is_computed_at_once(image_model, image_observations, monkeypatch):
    graph, observations = read_onnx(image_model), image_observations(image_model, n=7)
    network = quantize_graph(graph, observations, QuantizeConfig(), 8)
    whole = simulate(network, observations)
    monkeypatch.setattr(nodes, "LARGEST_BATCH", 1)
    for name, q in simulate(network, observations.reshape(7, -1)).tensors.items():
        np.testing.assert_array_equal(q, whole.tensors[name])
    np.testing.assert_array_equal(predict(network, observations), whole.output)
    np.testing.assert_allclose(graph.evaluate(observations), read_onnx(image_model).evaluate(observations), rtol=1e-5)


def test_fake_quantization_equals_the_integers(image_model, image_observations):
    torch = pytest.importorskip("torch")
    from policyport.quantize.fake import FakeQuantized

    graph, observations = read_onnx(image_model), image_observations(image_model)
    few = QuantizeConfig(activation_bits=2, input_bits=3)
    for config, bits in ((QuantizeConfig(), 8), (QuantizeConfig(), 16), (few, 8)):
        network = quantize_graph(graph, observations, config, bits)
        fake, expected = FakeQuantized(network), simulate(network, observations * 2)
        for name, got in fake.integers(torch.from_numpy(observations * 2)).items():
            np.testing.assert_array_equal(got, expected.tensors[name], err_msg=name)
        fake(torch.from_numpy(observations)).square().sum().backward()
        assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in fake.layers[-1].parameters())
        np.testing.assert_array_equal(predict(fake.network(), observations), predict(network, observations))


@pytest.mark.parametrize("activation_bits", [8, 3])
def test_learned_steps_equal_the_integers(image_model, image_observations, activation_bits):
    torch = pytest.importorskip("torch")
    from policyport.quantize.fake import FakeQuantized

    graph, observations = read_onnx(image_model), image_observations(image_model)
    config = QuantizeConfig(weight_bits=4, activation_bits=activation_bits)
    fake = FakeQuantized(quantize_graph(graph, observations, config, 8), learn_steps=True)
    x = torch.from_numpy(observations)
    optimizer = torch.optim.Adam(fake.parameters(), lr=0.05)
    fake(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in fake.parameters())
    optimizer.step()
    expected = simulate(fake.network(), observations)
    for name, got in fake.integers(x).items():
        np.testing.assert_array_equal(got, expected.tensors[name], err_msg=name)


def test_padding_joins_the_convolution_and_normalization_its_weights(image_model):
    graph = read_onnx(image_model)
    kinds = [type(node).__name__ for node in graph.nodes]
    assert "Pad" not in kinds
    if image_model.stem == "residual":
        assert kinds.count("Convolution") == 4
        assert float(graph.prefix.gain.reshape(-1)[0]) == 0.5
    if image_model.stem == "joined":  # nothing before it could take the normalization
        assert any(isinstance(node, Convolution) and node.groups == 13 for node in graph.nodes)
