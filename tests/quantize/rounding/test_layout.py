"""Layouts: rows times features are what torch computes, for every kind of layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import UnsupportedModelError
from policyport.quantize.rounding.layout import ConvolutionLayout, LinearLayout


@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_features_times_rows_are_the_convolution(
    groups, fan_in, fan_out, kernel, stride, padding, dilation, transposed, grow
):
    rng = np.random.default_rng(0)
    channels = groups * fan_in
    x = rng.normal(size=(2, channels, 7, 6))
    first, second = (channels, fan_out) if transposed else (groups * fan_out, fan_in)
    weights = rng.normal(size=(first, second, *kernel))
    pads = tuple(min(padding, dilation * (kernel[i] - 1)) if transposed else padding for i in range(2))
    output_padding = tuple(int(grow and transposed and max(stride[i], dilation) > 1) for i in range(2))
    function = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
    more = {"output_padding": output_padding} if transposed else {}
    expected = function(
        torch.from_numpy(x),
        torch.from_numpy(weights),
        stride=stride,
        padding=pads,
        dilation=dilation,
        groups=groups,
        **more,
    ).numpy()
    layout = ConvolutionLayout(
        kernel, channels, stride, (*pads, *pads), (dilation, dilation), groups, transposed, output_padding
    )
    rows = layout.rows(weights)
    got = np.einsum("npgd,grd->ngrp", layout.features(x), rows).reshape(expected.shape)
    assert np.allclose(got, expected)
    assert np.array_equal(layout.weights(rows), weights)


def test_padding_may_differ_from_side_to_side():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5))
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 3))
    layout = ConvolutionLayout((3, 3), 3, (2, 2), (0, 1, 1, 0))
    padded = torch.nn.functional.pad(torch.from_numpy(x), (1, 0, 0, 1))
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(weights), stride=2).numpy()
    got = np.einsum("npgd,grd->ngrp", layout.features(x), layout.rows(weights)).reshape(expected.shape)
    assert np.allclose(got, expected)


def test_a_fully_connected_layer_has_one_group_and_one_position():
    x, weights = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)
    layout = LinearLayout()
    assert layout.features(x).shape == (2, 1, 1, 3)
    assert np.array_equal(layout.weights(layout.rows(weights)), weights)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(UnsupportedModelError, match="groups"):
        ConvolutionLayout((3, 3), 4, groups=3)
