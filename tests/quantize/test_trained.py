"""Integers that training left: read back as they were written, and taken by the stage as they are."""

from __future__ import annotations

import numpy as np
import pytest
from policyport.core.artifact import write_artifact
from policyport.core.errors import ArtifactError
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import simulate
from policyport.quantize.source import open_source
from policyport.quantize.trained import INTEGERS, read_trained, write_trained


@pytest.fixture
def trained_folder(model_folder):
    """A train artifact with integers of 3-bit weights, and the network they are of."""
    source = open_source(model_folder / "policy.onnx")
    network = quantize_graph(source.graph, source.observations, QuantizeConfig(weight_bits=3), 8)
    folder = model_folder / "train"
    with write_artifact(folder, "train", inputs={}, config={}, code="") as writer:
        for name in ("policy.onnx", "task.json", "observations.npz"):
            writer.copy(model_folder / name)
        write_trained(network, writer.path / INTEGERS)
    return folder, network, source


def assert_same(network, other, observations):
    ours, theirs = simulate(network, observations), simulate(other, observations)
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, q in ours.tensors.items():
        np.testing.assert_array_equal(q, theirs.tensors[name], err_msg=name)
    np.testing.assert_array_equal(ours.output, theirs.output)


def test_what_is_read_computes_what_was_written(image_model, image_observations, tmp_path):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=4), 8)
    write_trained(network, tmp_path / INTEGERS)
    assert_same(read_trained(graph, tmp_path / INTEGERS), network, observations * 2)


def test_the_stage_takes_them_as_they_are(trained_folder):
    folder, network, source = trained_folder
    found = open_source(folder)
    assert_same(read_trained(found.graph, found.integers), network, source.held_out)
    artifact = quantize(folder, QuantizeConfig(centre_outputs=False), folder.parent / "out")
    figures = artifact.manifest.figures
    assert figures["weight_bytes"] == network.weight_bytes and figures["activations"] == "int8"
    assert list(figures["tried"]) == ["int8"]
    other = quantize(folder, QuantizeConfig(centre_outputs=False, trained=False), folder.parent / "other")
    assert other.manifest.figures["weight_bytes"] > network.weight_bytes


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_torn_integers_are_one_clear_error(trained_folder, tmp_path, content):
    _, _, source = trained_folder
    torn = tmp_path / "torn.npz"
    torn.write_bytes(content)
    with pytest.raises(ArtifactError, match="torn, or of another network"):
        read_trained(source.graph, torn)


def test_integers_of_another_network_are_refused(trained_folder, make_graph):
    folder, *_ = trained_folder
    for sizes in ((4, 16, 2), (5, 32, 32, 3)):
        with pytest.raises(ArtifactError, match="of another network"):
            read_trained(make_graph(sizes, ("Tanh",) * (len(sizes) - 1)), folder / INTEGERS)
