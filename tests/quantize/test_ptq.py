"""Post-training quantization: what the integers and scales must be, and how close they come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from policyport.core import semantics
from policyport.core.errors import UnsupportedModelError
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.entry import feature_ranges
from policyport.quantize.graph import HostPrefix
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.quantizers import BIAS_LIMIT, layer_scales, round_bias, round_weights, row_scales
from policyport.quantize.simulate import predict, quantize_input, simulate
from policyport.quantize.transforms import centre_outputs

SPREAD = np.array([2.0, 0.5, 0.1, 1.0], np.float32)


def draw(seed, n=500, size=4):
    spread = np.resize(SPREAD, size)
    return (np.random.default_rng(seed).normal(size=(n, size)) * spread).astype(np.float32)


def quantized(graph, bits, **options):
    return quantize_graph(graph, draw(0, size=graph.input_size), QuantizeConfig(**options), bits)


@pytest.mark.parametrize("functions", [("Tanh", "Tanh", ""), ("Relu", "Relu", "Tanh"), ("Sigmoid", "", "Sigmoid")])
@pytest.mark.parametrize(("bits", "least_db"), [(8, 20.0), (16, 35.0)])
def test_outputs_are_close_on_observations_not_calibrated_on(make_graph, functions, bits, least_db):
    graph = make_graph((4, 32, 32, 2), functions, seed=5)
    held_out = draw(1)
    got = simulate(quantized(graph, bits), held_out).output
    assert sqnr_db(graph.evaluate(held_out), got) > least_db


@pytest.mark.parametrize("calibrator", ["percentile", "mse"])
def test_other_calibrators_are_close_too(make_graph, calibrator):
    graph = make_graph((4, 32, 2), ("Relu", ""), seed=5)
    got = simulate(quantized(graph, 8, calibrator=calibrator), draw(1)).output
    assert sqnr_db(graph.evaluate(draw(1)), got) > 18


def test_weights_are_symmetric_per_row(make_graph):
    layer = quantized(make_graph((4, 16, 2), ("Relu", "")), 8).layers[1]
    assert (np.abs(layer.weights).max(axis=1) == 127).all()
    assert layer.weight_scale.shape == (2,) and layer.weight_scale.dtype == np.float32
    error = layer.weights * layer.weight_scale.astype(np.float64)[:, None] - layer.node.weights
    assert (np.abs(error) <= 0.5001 * layer.weight_scale[:, None]).all()


@pytest.mark.parametrize(
    ("function", "bits", "scale", "zero_point"),
    [
        ("Tanh", 8, 1 / 128, 0),
        ("Tanh", 16, 1 / 32768, 0),
        ("Sigmoid", 8, 1 / 256, -128),
        ("Sigmoid", 16, 1 / 32768, 0),
    ],
)
def test_tables_have_the_output_scale_that_tflite_demands(make_graph, function, bits, scale, zero_point):
    layer = quantized(make_graph((4, 8, 2), (function, "")), bits).layers[0]
    assert (layer.output.scale, layer.output.zero_point) == (scale, zero_point)
    assert layer.table is not None and layer.table.size == (256 if bits == 8 else 257)


def test_relu_range_is_that_of_its_output(make_graph):
    graph = make_graph((4, 16, 2), ("Relu", ""))
    layer = quantized(graph, 8).layers[0]
    largest = float(graph.trace(draw(0))["hidden0"].max())
    assert layer.before is layer.output
    assert layer.output.range == pytest.approx((0.0, largest), rel=1e-5, abs=1e-6)


def test_dead_rows_and_dead_layers_get_sane_scales(make_graph):
    graph = make_graph((4, 8, 2), ("Relu", ""))
    first = graph.weighted[0]
    weights, bias = first.weights.copy(), first.bias.copy()
    weights[2:4], bias[2], bias[3] = 0, 0, 1.5
    some = graph.replaced(replace(first, weights=weights, bias=bias))
    every = graph.replaced(replace(first, weights=weights * 0, bias=bias * 0))
    for dead in (some, every):
        network = quantized(dead, 8)
        scales = network.layers[0].weight_scale
        assert np.isfinite(scales).all() and (scales > 1e-6).all() and (scales < 1e3).all()
        error = simulate(network, draw(0)).output - dead.evaluate(draw(0))
        assert np.abs(error).max() < 0.1


def test_a_bias_that_dwarfs_its_weights_is_not_saturated():
    scales = row_scales(np.array([[1e-9, -1e-9]]), np.array([3.0]), 1e-3, 8)
    assert 3.0 / (1e-3 * scales[0]) <= BIAS_LIMIT * 1.001
    assert (round_weights(np.array([[1e-9, -1e-9]]), scales, 8) == 0).all()


@pytest.mark.parametrize("bits", [8, 2])
def test_a_row_of_tiny_weights_leaves_room_for_the_shift_that_another_row_asks_for(bits):
    """The shift is one for the layer: what fits by itself must fit shifted."""
    weights, bias = np.array([[1e-9, -1e-9], [50.0, -30.0]]), np.array([3.0, 0.0])
    scale_in, scale_out = 0.02, 0.01
    scales = layer_scales(weights, bias, scale_in, scale_out, bits)
    q_weights, q_bias = round_weights(weights, scales, bits), round_bias(bias, scale_in, scales)
    reach = semantics.accumulator_bound(q_weights, q_bias, -128, 127)
    by = semantics.requantization(scale_in * scales.astype(np.float64) / scale_out, int(reach.max()))
    assert by.shift > 0
    assert q_bias[0] * scale_in * scales[0] == pytest.approx(3.0, rel=1e-4)


def test_input_gain_spreads_features_of_different_size(make_graph):
    graph = make_graph((4, 16, 2), ("Tanh", ""))
    with_gain, without = quantized(graph, 8), quantized(graph, 8, input_gain=False)
    used = [np.ptp(quantize_input(network, draw(0)).astype(int), axis=0) for network in (with_gain, without)]
    assert used[0].min() >= 250 and used[1].min() < 40
    expected = graph.evaluate(draw(1))
    errors = [sqnr_db(expected, simulate(network, draw(1)).output) for network in (with_gain, without)]
    assert errors[0] > errors[1]
    assert not np.any(without.prefix.offset) and np.all(without.prefix.gain == 1)


def test_headroom_keeps_16_bits_from_saturating_just_outside(make_graph):
    network = quantized(make_graph((4, 16, 2), ("Tanh", "")), 16, headroom=1.5)
    beyond = 1.4 * np.abs(draw(0)).max(axis=0, keepdims=True)
    assert np.abs(quantize_input(network, beyond)).max() < 32767


def test_no_range_reaches_beyond_the_clip_at_the_head():
    features = np.clip(draw(0) * 20, -1, 10)
    prefix = HostPrefix(np.zeros(4, np.float32), np.ones(4, np.float32), -1.0, 10.0)
    for bits, headroom in ((8, 1.0), (16, 1.0), (16, 2.0)):
        centre, radius = feature_ranges(features, prefix, bits, headroom)
        assert (centre - radius >= -1 - 1e-6).all() and (centre + radius <= 10 + 1e-6).all()
        assert (centre - radius <= features.min(axis=0) + 1e-6).all()
        assert (centre + radius >= features.max(axis=0) - 1e-6).all()


def test_the_clip_at_the_head_still_holds_far_outside(make_graph):
    graph = make_graph((4, 16, 2), ("Tanh", ""))
    head = HostPrefix(np.full(4, 0.5, np.float32), np.full(4, 2.0, np.float32), -1.0, 1.0)
    graph = replace(graph, prefix=head)
    network = quantized(graph, 16)
    far = np.float32(100) * draw(1)
    assert sqnr_db(graph.evaluate(far), simulate(network, far).output) > 35


def test_constant_features_do_not_break_the_gain(make_graph):
    observations = draw(0)
    observations[:, 1], observations[:, 2] = 0.0, 7.0
    graph = make_graph((4, 16, 2), ("Tanh", ""))
    for bits in (8, 16):
        network = quantize_graph(graph, observations, QuantizeConfig(), bits)
        assert np.isfinite(network.prefix.gain).all()
        assert sqnr_db(graph.evaluate(observations), simulate(network, observations).output) > 20


def test_bias_correction_removes_the_mean_error(make_graph):
    graph = make_graph((4, 32, 32, 2), ("Relu", "Relu", ""), seed=2)
    biases = []
    for correct in (True, False):
        output = simulate(quantized(graph, 16, bias_correction=correct), draw(0)).output
        biases.append(np.abs(np.mean(output - graph.evaluate(draw(0)), axis=0)).max())
    assert biases[0] < 0.1 * biases[1]


def wide(make_graph, inputs):
    """The second layer's rows are so wide that 16-bit inputs can overflow 32 bits."""
    graph = make_graph((4, inputs, 2), ("Relu", ""))
    last = graph.weighted[1]
    full = np.where(np.arange(last.weights.size).reshape(last.weights.shape) % 2, 1, -1).astype(np.float32)
    return graph.replaced(replace(last, weights=full))


def test_a_layer_that_16_bits_could_overflow_reads_8(make_graph):
    network = quantized(wide(make_graph, 600), 16)
    assert [layer.input.bits for layer in network.layers] == [16, 8]
    assert [layer.output.bits for layer in network.layers] == [8, 16]
    for layer in network.layers:
        reach = semantics.accumulator_bound(layer.weights, layer.folded_bias, layer.input.low, layer.input.high)
        assert (int(reach.max()) << layer.requantize.shift) <= semantics.INT32_MAX


def test_a_layer_that_even_8_bits_could_overflow_is_refused(make_graph):
    with pytest.raises(UnsupportedModelError, match="overflow"):
        quantize_graph(wide(make_graph, 140_000), draw(0, n=5), QuantizeConfig(), 8)


def test_centred_outputs_decide_the_same_and_have_no_mean(make_graph):
    graph = make_graph((4, 16, 3), ("Relu", ""))
    last = graph.weighted[1]
    graph = graph.replaced(replace(last, bias=last.bias + np.float32(500)))
    centred = centre_outputs(graph).evaluate(draw(1))
    np.testing.assert_allclose(centred.mean(axis=1), 0, atol=1e-5)
    plain = graph.evaluate(draw(1))
    np.testing.assert_allclose(centred, plain - plain.mean(axis=1, keepdims=True), atol=2e-3)
    squashed = make_graph((4, 16, 3), ("Relu", "Tanh"))
    assert centre_outputs(squashed) is squashed


@pytest.mark.parametrize("functions", [("Relu", ""), ("Relu", "Tanh"), ("Tanh", "Relu")])
def test_a_wide_output_has_16_bits_and_fewer_ties(make_graph, functions):
    graph, held_out = make_graph((4, 32, 3), functions, seed=5), draw(1)
    narrow, wide = quantized(graph, 8), quantized(graph, 8, output_bits=16)
    assert [node.output.bits for node in wide.nodes] == [8, 16] and wide.input.bits == 8
    ties = [
        sum(len(set(row)) < 3 for row in simulate(network, held_out).tensors[network.output_name].tolist())
        for network in (narrow, wide)
    ]
    assert ties[1] < ties[0]
    assert quantized(graph, 16, output_bits=16).nodes[-1].output == quantized(graph, 16).nodes[-1].output
    named = quantized(graph, 8, output_bits=16, layer_activation_bits=(f"{graph.output_name}=8",))
    assert named.nodes[-1].output.bits == 8


@pytest.mark.parametrize("functions", [("Relu", ""), ("Tanh", "")])
def test_a_wide_input_has_16_bits_and_less_noise(make_graph, functions):
    graph, held_out = make_graph((4, 32, 3), functions, seed=5), draw(1)
    narrow, wide = (quantized(graph, 8, output_bits=16, input_bits=bits) for bits in (8, 16))
    assert wide.input.bits == 16 and [node.output.bits for node in wide.nodes] == [8, 16]
    exact = graph.evaluate(held_out)
    assert sqnr_db(exact, predict(wide, held_out)) > sqnr_db(exact, predict(narrow, held_out))
