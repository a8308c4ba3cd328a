"""Activations of 2 to 7 bits: the levels they have, and that simulation, onnxruntime and deploy compute the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from policyport.core import semantics
from policyport.core.errors import ConfigError
from policyport.deploy import reference
from policyport.deploy.codegen import write_sources
from policyport.deploy.exports import write_exports
from policyport.deploy.host import HostLibrary
from policyport.deploy.lower import lower
from policyport.deploy.program import quantize_input
from policyport.quantize.calibrate import (
    Range,
    activation_for,
    even_levels_range,
    least_error_range,
    minmax_range,
    rounded,
)
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import HostPrefix
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.nodes import Concat, Function, Pointwise, Softmax
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.ranges import Ties
from policyport.quantize.simulate import predict, simulate
from policyport.quantize.stage import quantize

from . import images
from .test_deploy_contract import assert_same_integers

FEW = (7, 6, 5, 4, 3, 2)
OBSERVATIONS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)

VALUES = arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32))


@pytest.mark.parametrize("bits", FEW)
def test_the_range_of_few_bits(bits):
    assert semantics.activation_range(bits) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert semantics.activation_stored_bits(bits) == 8 and semantics.activation_stored_bits(16) == 16


@given(st.sampled_from(FEW), st.floats(-1e3, 0), st.floats(0, 1e3), st.booleans())
def test_an_activation_covers_its_range_to_half_a_step(bits, low, high, symmetric):
    made = activation_for("x", (1,), Range(low, high), bits, symmetric=symmetric)
    assert made.high - made.low == 2**bits - 1 and made.low <= made.zero_point <= made.high
    ends = np.array([low, high], np.float32)
    step = 1.001 if symmetric else 0.501
    assert np.all(np.abs(rounded(ends, made) - ends) <= step * made.scale + 1e-6 * np.abs(ends))


@given(st.sampled_from(FEW), VALUES)
def test_the_least_error_is_at_most_that_of_all_that_was_seen(bits, values):
    def error(reach):
        return np.mean(np.square(rounded(values, activation_for("", (1,), reach, bits)) - values))

    assert error(least_error_range(values, bits)) <= error(minmax_range(values).with_zero()) * (1 + 1e-9) + 1e-12


@given(st.sampled_from(FEW), VALUES)
def test_even_levels_lie_within_what_was_seen(bits, values):
    found, seen = even_levels_range(values, bits), minmax_range(values)
    assert seen.low - 1e-9 <= found.low <= found.high <= seen.high + 1e-9


def test_few_levels_leave_outliers_out():
    values = np.append(np.random.default_rng(0).normal(size=5000), [30.0, -30.0])
    reaches = [least_error_range(values, bits).high for bits in (7, 4, 2)]
    assert reaches[0] > reaches[1] > reaches[2] and reaches[2] < 6
    assert even_levels_range(values, 2).high < 6


@given(st.sampled_from(FEW), st.sampled_from(sorted(semantics.POINTWISE)), st.integers(-8, 7))
def test_a_table_of_few_levels_is_that_of_8_bits_clamped(bits, function, zero_point):
    low, high = semantics.activation_range(bits)
    given_, few = (semantics.pointwise_table(function, 0.05, 3, 0.4, zero_point, width) for width in (8, bits))
    np.testing.assert_array_equal(few, np.clip(given_, low, high))


def assert_few_levels(network, observations, bits):
    """Every tensor between input and output has the levels of its width at the most, before a table those of a byte."""
    low, high = semantics.activation_range(bits)
    before = {layer.before.name: layer.output for layer in network.layers if layer.has_table}
    for name, q in simulate(network, observations).tensors.items():
        activation = network.activations[name]
        assert q.dtype == (np.int8 if activation.bits <= 8 else np.int16)
        if name in before:
            assert activation.bits == before[name].stored_bits
        elif name not in (network.input_name, network.output_name):
            assert activation.bits == bits and q.min() >= low and q.max() <= high, name


@pytest.mark.parametrize("functions", [("Tanh", "Relu", ""), ("Relu", "", "Tanh"), ("Sigmoid", "Silu", "Relu")])
@pytest.mark.parametrize("bits", FEW)
@pytest.mark.parametrize("ends", [(16, 16), (None, 3), (2, 4)])
def test_vector_networks(make_graph, tmp_path, functions, bits, ends):
    graph = make_graph((4, 16, 16, 3), functions, seed=1)
    config = QuantizeConfig(activation_bits=bits, input_bits=ends[0], output_bits=ends[1], weight_bits=4)
    network = quantize_graph(graph, OBSERVATIONS, config, 8)
    assert (network.input.bits, network.output.bits) == (ends[0] or 8, ends[1])
    assert_few_levels(network, 2 * OBSERVATIONS, bits)
    assert_same_integers(network, 2 * OBSERVATIONS, tmp_path / "model.onnx")


@pytest.mark.parametrize("bits", [4, 2])
def test_image_networks(image_model, image_observations, tmp_path, bits):
    graph, observations = read_onnx(image_model), image_observations(image_model)
    config = QuantizeConfig(activation_bits=bits, input_bits=bits)
    network, bytes_ = (quantize_graph(graph, observations, c, 8) for c in (config, QuantizeConfig()))
    assert len(assert_same_integers(network, 1.5 * observations, tmp_path / "model.onnx")) >= len(network.layers)
    write_qdq(bytes_, tmp_path / "bytes.onnx")
    kinds = [[type(layer) for layer in lower(tmp_path / name).layers] for name in ("model.onnx", "bytes.onnx")]
    assert len(kinds[0]) <= len(kinds[1]), "a clamp costs a layer of its own"


def test_onnxruntime_has_the_same_levels(make_graph, tmp_path):
    graph = make_graph((4, 16, 16, 3), ("Tanh", "Relu", ""), seed=1)
    config = QuantizeConfig(activation_bits=3, input_bits=2, output_bits=5)
    network, path = quantize_graph(graph, OBSERVATIONS, config, 8), tmp_path / "model.onnx"
    write_qdq(network, path)
    model = onnx.load(path)
    names = [f"{node.output.name}_quantized" for node in network.nodes]
    names.insert(0, f"{network.input_name}_quantized")
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(names, {"observation": 2 * OBSERVATIONS})
    want = simulate(network, 2 * OBSERVATIONS).tensors
    for name, q in zip(names, found, strict=True):
        difference = np.abs(q.astype(int) - want[name.removesuffix("_quantized")])
        assert np.mean(difference == 0) > 0.97 and difference.max() <= 2, name
    assert len(np.unique(found[0])) == 4 and len(np.unique(found[1])) <= 8


def test_all_levels_of_a_feature_are_used_whatever_its_size(make_graph):
    graph = make_graph((4, 8, 3), ("Relu", ""))
    given_ = OBSERVATIONS * np.array([0.01, 1, 100, 1], np.float32) + np.array([0, 5, 0, -900], np.float32)
    given_[:, 1] = 7.0
    for config in (QuantizeConfig(input_bits=2), QuantizeConfig(input_bits=2, calibrator="percentile")):
        network = quantize_graph(graph, given_, config, 8)
        q = simulate(network, given_).tensors[network.input_name]
        assert [len(np.unique(column)) for column in q.T] == [4, 1, 4, 4]


@pytest.mark.parametrize("bits", [4, 2])
def test_a_clip_that_the_model_has_ends_where_the_levels_do(make_graph, tmp_path, bits):
    graph = make_graph((4, 8, 3), ("Relu", ""))
    graph = replace(graph, prefix=HostPrefix(np.full(4, 0.1, np.float32), np.full(4, 2, np.float32), -1.5, 1.5))
    network = quantize_graph(graph, OBSERVATIONS, QuantizeConfig(input_bits=bits, activation_bits=3), 8)
    q = simulate(network, 3 * OBSERVATIONS).tensors[network.input_name]
    assert (q.min(), q.max()) == semantics.activation_range(bits)
    assert_same_integers(network, 3 * OBSERVATIONS, tmp_path / "model.onnx")


def test_more_levels_are_closer_and_the_search_is_closer_than_all_that_was_seen(make_graph):
    graph, held_out = make_graph((4, 32, 32, 3), ("Tanh", "Relu", ""), seed=5), OBSERVATIONS[::-1] * 1.1
    exact = graph.evaluate(held_out)

    def noise(bits, **more):
        network = quantize_graph(graph, OBSERVATIONS, QuantizeConfig(activation_bits=bits, **more), 8)
        return sqnr_db(exact, predict(network, held_out))

    found = [noise(bits) for bits in (8, 6, 4, 3, 2)]
    assert found == sorted(found, reverse=True)
    assert noise(2) > noise(2, calibrator="minmax") + 1 and noise(3) > noise(3, calibrator="minmax")


@pytest.mark.parametrize("calibrator", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_every_calibrator_takes_few_levels(make_graph, tmp_path, calibrator):
    graph = make_graph((4, 16, 16, 3), ("Tanh", "Relu", ""), seed=5)
    config = QuantizeConfig(activation_bits=3, input_bits=3, output_bits=3, calibrator=calibrator)
    network = quantize_graph(graph, np.tile(OBSERVATIONS, (3, 1)), config, 8)
    assert_few_levels(network, OBSERVATIONS, 3)
    assert_same_integers(network, OBSERVATIONS, tmp_path / "model.onnx")


def test_what_is_tied_has_one_width_and_what_is_said_wins(make_graph):
    graph = make_graph((4, 8, 3), ("Relu", ""))
    joined = Concat(name="joined", inputs=("hidden0", "output"))
    graph = replace(graph, nodes=(*graph.nodes, joined), output_name="joined")
    found = Ties(graph).widths(3, {"observation": 16, "joined": 8})
    assert [found[name] for name in ("observation", "hidden0", "output", "joined")] == [16, 8, 8, 8]
    assert Ties(graph).widths(8, {"hidden0": 4, "joined": 16})["joined"] == 4
    assert Ties(graph).widths(5, {})["hidden0"] == 5


def test_the_ends_of_a_table_are_stored_alike(make_graph):
    graph = make_graph((4, 8, 3), ("Relu", ""))
    graph = replace(
        graph, nodes=(*graph.nodes, Pointwise(name="y", inputs=("output",), function=Function("Tanh"))), output_name="y"
    )
    assert Ties(graph).widths(3, {"output": 8})["y"] == 3
    found = Ties(graph).widths(3, {"output": 16})
    assert (found["output"], found["y"]) == (8, 3)


def test_softmax_reads_8_bits_at_the_most(make_graph):
    graph = make_graph((4, 8, 3), ("Relu", ""))
    graph = replace(graph, nodes=(*graph.nodes, Softmax(name="y", inputs=("output",))), output_name="y")
    assert [Ties(graph).widths(3, {"y": 16})[name] for name in ("hidden0", "output", "y")] == [3, 8, 8]
    assert Ties(graph).widths(3, {"output": 4})["output"] == 4


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activations": "int16", "activation_bits": 4}, "stored as int8"),
        ({"activation_bits": 4, "flash_budget": "16K"}, "a budget chooses"),
        ({"input_bits": 4, "flash_budget": "16K"}, "a budget chooses"),
        ({"layer_activation_bits": ("hidden0=4",), "flash_budget": "16K"}, "a budget chooses"),
    ],
)
def test_what_does_not_go_together_is_refused(model_folder, options, match):
    with pytest.raises(ConfigError, match=match):
        quantize(model_folder / "policy.onnx", QuantizeConfig(**options), model_folder / "out")


def test_auto_widens_the_ends_of_few_levels_and_no_more(model_folder):
    config = QuantizeConfig(activation_bits=4, agreement_target=1.0)
    figures = quantize(model_folder / "policy.onnx", config, model_folder / "out").manifest.figures
    assert list(figures["tried"]) == ["int8", "int8-wide-ends"]
    assert figures["activation_bits"] == [16, 4, 4, 16]


@pytest.mark.parametrize(
    "method",
    [
        {"method": "gptq"},
        {"method": "adaround", "adaround_iterations": 50},
        {"method": "blocks", "blocks_iterations": 50},
        {"method": "qat", "qat_epochs": 3},
        {"method": "lattice", "last_layer": True},
    ],
)
def test_every_method_takes_few_levels(model_folder, method):
    if method["method"] in ("adaround", "blocks", "qat"):
        pytest.importorskip("torch")
    config = QuantizeConfig(activation_bits=3, input_bits=4, activations="int8", weight_bits=4, **method)
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    assert artifact.manifest.figures["activation_bits"] == [4, 3, 3, 8]
    rows = json.loads(artifact.file("layers.json").read_text())["layers"]
    assert [(row["input_bits"], row["before_bits"], row["output_bits"]) for row in rows] == [
        (4, 8, 3),
        (3, 8, 3),
        (3, 8, 8),
    ]
    assert "int3" in artifact.file("layers.html").read_text()
    program = lower(artifact.file("model.onnx"))
    assert (program.input.low, program.input.high) == (-8, 7)
    assert [(layer.output.low, layer.output.high) for layer in program.layers] == [(-4, 3), (-4, 3), (-128, 127)]


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("kind", ["mlp", "residual"])
def test_the_compiled_c_has_the_levels_that_quantize_simulates(make_graph, tmp_path, kind, bits):
    graph, observations = make_graph((4, 16, 16, 3), ("Tanh", "Relu", ""), seed=1), OBSERVATIONS
    if kind == "residual":
        graph = read_onnx(images.write("residual", tmp_path / "residual.onnx"))
        observations = np.random.default_rng(0).uniform(-2, 2, (24, *images.SHAPE)).astype(np.float32)
    config = QuantizeConfig(activation_bits=bits, input_bits=bits, output_bits=8, weight_bits=4)
    network = quantize_graph(graph, observations, config, 8)
    write_qdq(network, tmp_path / "model.onnx")
    program, want = lower(tmp_path / "model.onnx"), simulate(network, observations).tensors
    q = quantize_input(program, observations.reshape(len(observations), -1))
    assert q.min() >= program.input.low and len(np.unique(q)) <= 2**bits
    for variant in ("c", "dsp"):
        (tmp_path / variant).mkdir()
        write_sources(program, variant, tmp_path / variant)
        with HostLibrary(tmp_path / variant) as library:
            np.testing.assert_array_equal(library.infer(q), want[network.output_name])


def test_exports_have_the_levels_or_say_why_not(make_graph, tmp_path):
    reasons = {}
    for function in ("Relu", "Tanh"):
        graph = make_graph((4, 16, 3), (function, ""), seed=1)
        network = quantize_graph(graph, OBSERVATIONS, QuantizeConfig(activation_bits=3, input_bits=4), 8)
        write_qdq(network, tmp_path / "model.onnx")
        program = lower(tmp_path / "model.onnx")
        q = quantize_input(program, OBSERVATIONS)
        table = write_exports(program, None, q, reference.run(program, q), tmp_path)
        rows = [row for row in table["rows"] if row["runtime"].startswith("onnxruntime")]
        assert len(rows) == 2 and all(row["equal"] >= 0.97 * row["values"] for row in rows)
        reasons[function] = [entry["reason"] for entry in table["skipped"] if "tflite" in entry["export"]]
    assert "TANH whose result has another scale" in reasons["Tanh"][0]
    assert not any("TANH" in reason for reason in reasons["Relu"])
