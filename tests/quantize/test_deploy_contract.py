"""What deploy makes of the file that quantize writes: the very integers that quantize simulates."""

from __future__ import annotations

import numpy as np
import pytest
from policyport.deploy import reference
from policyport.deploy.lower import lower
from policyport.deploy.program import quantize_input
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.observation_parts import split_joined
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.simulate import simulate

from . import mixed


def assert_same_integers(network, observations, path):
    """Every tensor that both have, the input and the output among them, whatever its layout."""
    write_qdq(network, path)
    program, expected = lower(path), simulate(network, observations).tensors
    flat = observations.reshape(len(observations), -1)
    q = quantize_input(program, flat)
    found = {program.input.name: q}
    found |= {layer.output.name: q for layer, q in zip(program.layers, reference.run(program, q), strict=True)}
    checked = set()
    for name, activation in network.activations.items():
        got = found.get(name)
        if got is None or got.shape[1] != activation.size:  # deploy fuses operators and takes out dead channels
            continue
        want = expected[name]
        want = want.transpose(0, 2, 3, 1) if len(activation.shape) == 3 else want
        np.testing.assert_array_equal(got.reshape(len(got), -1), want.reshape(len(want), -1), err_msg=name)
        checked.add(name)
    assert network.output_name in checked
    return checked


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("weight_bits", [8, 4])
def test_image_networks(image_model, image_observations, tmp_path, bits, weight_bits):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=weight_bits), bits)
    checked = assert_same_integers(network, 1.5 * observations, tmp_path / "model.onnx")
    assert len(checked) >= len(network.layers)


@pytest.mark.parametrize("functions", [("Tanh", "Relu", ""), ("Relu", "", "Tanh"), ("Sigmoid", "Tanh", "Relu")])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("weight_bits", [8, 3, 2])
def test_vector_networks(make_graph, tmp_path, functions, bits, weight_bits):
    graph = make_graph((4, 16, 16, 3), functions, seed=1)
    observations = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=weight_bits), bits)
    assert_same_integers(network, 2 * observations, tmp_path / "model.onnx")


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_images_beside_vectors(tmp_path, bits, channels_last):
    graph = mixed.limited(split_joined(mixed.mixed(mixed.TANH, channels_last=channels_last)))
    network = quantize_graph(graph, mixed.observations(100), QuantizeConfig(), bits)
    checked = assert_same_integers(network, mixed.observations(50, seed=1), tmp_path / "model.onnx")
    assert {"hidden", "output"} <= checked
