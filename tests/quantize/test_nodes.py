"""Operators in float32 against PyTorch's, over shapes and windows of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.core.semantics import POINTWISE
from policyport.quantize import nodes
from policyport.quantize.nodes import (
    NONE,
    AveragePool,
    Convolution,
    Function,
    MaxPool,
    Reshape,
    Resize,
    TransposedConvolution,
    clip,
)

torch = pytest.importorskip("torch")
functional = torch.nn.functional

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
small = st.integers(0, 2)


@st.composite
def windows(draw):
    """Every window fits an image of 9 by 8, whose sides the widest one, 7 across, does not reach."""
    pads = tuple(draw(small) for _ in range(4))
    return Window(draw(pair), draw(pair), draw(pair), pads)


@st.composite
def covered_windows(draw):
    """Windows padded by less than their extent, so that none lies in the padding alone."""
    window = draw(windows())
    pads = tuple(pad % extent for pad, extent in zip(window.pads, window.extent * 2, strict=True))
    return replace(window, pads=pads)


def image(seed, channels, height=9, width=8, n=3):
    return np.random.default_rng(seed).normal(size=(n, channels, height, width)).astype(np.float32)


def padded(x, window, value=0.0):
    top, left, bottom, right = window.pads
    return functional.pad(torch.from_numpy(x), (left, right, top, bottom), value=value)


@given(windows(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_convolution(window, groups, share_in, share_out, seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(groups * share_out, share_in, *window.kernel)).astype(np.float32)
    bias = rng.normal(size=groups * share_out).astype(np.float32)
    shared = {"name": "y", "inputs": ("x",), "linear_name": "y", "weights": weights, "bias": bias}
    node, x = Convolution(**shared, window=window, groups=groups), image(seed, groups * share_in)
    geometry = {"stride": window.stride, "dilation": window.dilation, "groups": groups}
    expected = functional.conv2d(padded(x, window), torch.from_numpy(weights), torch.from_numpy(bias), **geometry)
    got = node.evaluate(x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert got.shape[1:] == node.shape(x.shape[1:])
    products = node.rows(x) @ node.matrix.transpose(0, 2, 1)
    np.testing.assert_allclose(node.fold(products, got.shape[1:]) + bias[:, None, None], expected, rtol=1e-4, atol=1e-4)


@given(covered_windows(), pair, st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_transposed_convolution(window, extra, groups, share_in, share_out, seed):
    extra = tuple(e % max(s, d) for e, s, d in zip(extra, window.stride, window.dilation, strict=True))
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(groups * share_out, share_in, *window.kernel)).astype(np.float32)
    bias = rng.normal(size=groups * share_out).astype(np.float32)
    shared = {"name": "y", "inputs": ("x",), "linear_name": "y", "weights": weights, "bias": bias}
    node = TransposedConvolution(**shared, window=window, output_padding=extra, groups=groups)
    x = image(seed, groups * share_in, 5, 4)
    stored = weights.reshape(groups, share_out, share_in, *window.kernel).transpose(0, 2, 1, 3, 4)
    stored = torch.from_numpy(stored.reshape(groups * share_in, share_out, *window.kernel).copy())
    geometry = {"stride": window.stride, "dilation": window.dilation, "groups": groups}
    whole = functional.conv_transpose2d(torch.from_numpy(x), stored, **geometry)
    top, left, bottom, right = window.pads
    expected = functional.pad(whole, (-left, extra[1] - right, -top, extra[0] - bottom))
    expected = expected + torch.from_numpy(bias)[:, None, None]
    np.testing.assert_allclose(node.evaluate(x), expected, rtol=1e-4, atol=1e-4)


@given(covered_windows(), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_pools(window, count_padding, seed):
    x = image(seed, 2)
    ones = functional.pad(torch.ones(1, 1, 9, 8), _torch_pads(window), value=float(count_padding))
    count = functional.conv2d(ones, torch.ones(1, 1, *window.kernel), stride=window.stride, dilation=window.dilation)
    highest = functional.max_pool2d(
        padded(x, window, -torch.inf), window.kernel, window.stride, dilation=window.dilation
    )
    np.testing.assert_array_equal(MaxPool(name="y", inputs=("x",), window=window).evaluate(x), highest)
    taps = torch.ones(2, 1, *window.kernel)
    sums = functional.conv2d(padded(x, window), taps, stride=window.stride, dilation=window.dilation, groups=2)
    mean = AveragePool(name="y", inputs=("x",), window=window, count_padding=count_padding).evaluate(x)
    np.testing.assert_allclose(mean, sums / count, rtol=1e-4, atol=1e-5)


def _torch_pads(window):
    top, left, bottom, right = window.pads
    return left, right, top, bottom


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_nearest_pixels(height, width, seed):
    x = image(seed, 2, 5, 4)
    got = Resize(name="y", inputs=("x",), height=height, width=width).evaluate(x)
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 4 // width
    np.testing.assert_array_equal(got, x[:, :, rows][:, :, :, columns])


def test_flattening_with_channels_last_and_back():
    x = image(0, 2, 3, 4)
    last = Reshape(name="y", inputs=("x",), target=(24,), channels_last=True).evaluate(x)
    np.testing.assert_array_equal(last, x.transpose(0, 2, 3, 1).reshape(3, 24))
    np.testing.assert_array_equal(Reshape(name="y", inputs=("x",), target=(4, 3, 2)).evaluate(x), x.reshape(3, 4, 3, 2))


@pytest.mark.parametrize("name", sorted(set(POINTWISE) - {"Relu"}))
def test_functions_are_those_of_torch(name):
    from policyport.quantize.fake_rounding import EXACT

    x = np.linspace(-30, 30, 2001).astype(np.float32)
    got = Function(name)(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, EXACT[name](torch.from_numpy(x).double()), rtol=1e-5, atol=1e-6)
    assert Function(name).has_table and not nodes.RELU.has_table


def test_clamps():
    x = np.linspace(-9, 9, 19).astype(np.float32)
    np.testing.assert_array_equal(clip(-1.0, 6.0)(x), np.clip(x, -1, 6))
    assert clip(0.0, np.inf) == nodes.RELU and clip(0.0, 6.0) == nodes.RELU6
    assert NONE(x) is x


@given(st.integers(1, 40), st.integers(1, 10**7))
def test_parts_are_the_whole_in_order(count, work):
    whole = np.arange(count)
    found = [part for (part,) in nodes.parts(work, whole)]
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert all(len(part) * work <= nodes.LARGEST_BATCH or len(part) == 1 for part in found)
