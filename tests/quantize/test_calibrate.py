"""Ranges and the activations made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ObservationError
from policyport.quantize.calibrate import (
    LARGEST_SAMPLE,
    Range,
    Statistics,
    activation_for,
    before_function,
    collect,
    least_error_range,
    minmax_range,
    moving_average_range,
    observed_range,
    percentile_range,
    rounded,
    stride_for,
)
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.entropy import LARGEST_BINS, LEVELS, entropy_limit
from policyport.quantize.nodes import RELU

ends = st.floats(-1e4, 1e4, allow_nan=False)


@given(ends, ends, st.sampled_from([8, 16]))
def test_a_range_is_covered_to_one_step_and_zero_is_exact(a, b, bits):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    activation = activation_for("x", (1,), Range(low, high), bits)
    reach = activation.range
    step = activation.scale
    assert reach[0] <= low + step and high - step <= reach[1]
    assert rounded(np.zeros(1), activation)[0] == 0
    inside = np.linspace(low, high, 50)
    assert np.abs(rounded(inside, activation) - inside).max() <= step * 1.01
    if bits == 16:
        assert activation.zero_point == 0


def test_relu_holds_its_clamp():
    eight = activation_for("x", (1,), Range(0.0, 3.0), 8).clamped(RELU)
    sixteen = activation_for("x", (1,), Range(0.0, 3.0), 16).clamped(RELU)
    assert (eight.zero_point, eight.low) == (-128, -128)
    assert (sixteen.zero_point, sixteen.low) == (0, 0)


def test_values_that_are_all_zero_get_a_sane_scale():
    assert activation_for("x", (1,), Range(0.0, 0.0), 8).scale == pytest.approx(2 / 255)
    assert activation_for("x", (1,), Range(0.0, 0.0), 16).scale == pytest.approx(1 / 32767)


def test_observers_differ_on_an_outlier():
    values = np.append(np.random.default_rng(0).normal(size=20_000), 60.0)
    widest = minmax_range(values)
    assert widest.high == 60.0
    assert percentile_range(values, 99.9).high < 5
    assert 5 < least_error_range(values, 8).high < 60
    assert least_error_range(values, 16).high > 50, "16 bits have no need to cut"


@pytest.mark.parametrize("calibrator", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_every_calibrator_is_reached(calibrator):
    values = np.linspace(-1, 2, 1000)
    statistics = Statistics()
    statistics.update(values)
    found = observed_range(statistics, QuantizeConfig(calibrator=calibrator), 8)
    assert -1.0 <= found.low < -0.2 and 0.5 < found.high <= 2.0


def test_entropy_cuts_an_outlier_as_onnxruntime_does():
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=60_000), [14.0, -12.0]])
    limit = entropy_limit(values)
    counts, edges = np.histogram(values, LARGEST_BINS, (-14.0, 14.0))
    collector = calibrate.HistogramCollector("entropy", False, LARGEST_BINS, LEVELS, 99.9, "same")
    low, high = collector.get_entropy_threshold((counts, edges, -14.0, 14.0, 14.0), LEVELS)[:2]
    assert 3 < limit < 8
    assert limit == pytest.approx(float(high), rel=0.25) and limit == pytest.approx(-float(low), rel=0.25)


def test_entropy_keeps_a_range_of_even_values_or_of_few():
    values = np.random.default_rng(0).uniform(-1, 1, 50_000)
    assert entropy_limit(values) > 0.97
    assert entropy_limit(values[:500]) == np.abs(values[:500]).max()
    assert entropy_limit(np.zeros(10_000)) == 0


def test_a_moving_average_follows_the_batches():
    batches = [Range(-1.0, 1.0), Range(-3.0, 2.0), Range(-1.0, 0.0)]
    assert moving_average_range(batches, 0.0) == batches[0]
    assert moving_average_range(batches, 1.0) == batches[-1]
    found = moving_average_range(batches, 0.5)
    assert (found.low, found.high) == (-1.5, 0.75)


@given(st.integers(1, 90), st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_statistics_over_batches_are_those_of_the_whole(make_graph, count, seed):
    graph = make_graph((4, 8, 2), ("Relu", "Tanh"), seed)
    observations = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    traced = graph.trace(observations)
    for name, found in collect(graph, observations).items():
        assert found.range.low == pytest.approx(float(traced[name].min()), rel=1e-5, abs=1e-6)
        assert found.range.high == pytest.approx(float(traced[name].max()), rel=1e-5, abs=1e-6)
        assert found.sample.size == traced[name].size


def test_a_sample_is_thinned_out_evenly():
    for ends in ([250, 500, 750], [3, 4, 17, 18, 500], []):
        found = Statistics(stride=7)
        for part in np.split(np.arange(1000.0), ends):
            found.update(part)
        assert found.range == Range(0.0, 999.0)
        assert found.sample.tolist() == list(range(0, 1000, 7))


@given(st.integers(1, 5000), st.integers(1, 10**6))
def test_a_sample_sees_every_feature(size, count):
    stride = stride_for(size, count)
    assert size * count / stride <= LARGEST_SAMPLE
    if count >= stride:
        assert len({place % size for place in range(0, stride * size, stride)}) == size


def test_nothing_to_calibrate_on_is_an_error():
    with pytest.raises(ObservationError):
        least_error_range(np.zeros(0), 8)


@pytest.mark.parametrize("function", ["Tanh", "Sigmoid"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_range_before_a_function_ends_where_the_function_is_flat(function, bits):
    values = np.random.default_rng(0).normal(0, 20, (2000, 3))
    cut = before_function("x", (3,), function, values, minmax_range(values), bits)
    width = 1 if function == "Tanh" else 2
    assert 2 * width <= cut.range[1] <= 7 * width
    narrow = values / 100
    kept = before_function("x", (3,), function, narrow, minmax_range(narrow), bits)
    assert kept.range[1] == pytest.approx(max(narrow.max(), -narrow.min() if bits == 16 else 0), rel=0.02)
