"""Observations of images beside vectors: the same network, grids of their own, integers that are near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.entry import enter
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.nodes import NONE, RELU
from policyport.quantize.observation_parts import parts_of, split_joined
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import predict

from .mixed import PIXELS, TANH, VECTORS, limited, mixed, observations


@pytest.mark.parametrize("function", [NONE, RELU, TANH])
@given(seed=st.integers(0, 2**31))
def test_a_layer_of_joined_parts_is_the_sum_of_two(function, seed):
    graph, given_ = mixed(function, seed=seed), observations(5, seed)
    parted = split_joined(graph)
    assert "joined" not in parted.shapes
    np.testing.assert_allclose(parted.evaluate(given_), graph.evaluate(given_), rtol=1e-4, atol=1e-3)


def test_what_joins_no_parts_stays_as_it_is():
    graph = mixed()
    last = graph.nodes[-1]
    assert split_joined(graph).nodes[-1] == last


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_host_does_what_the_layers_undo(bits, channels_last):
    graph, given_ = limited(split_joined(mixed(channels_last=channels_last))), observations(40)
    entered, entry = enter(graph, given_, QuantizeConfig(), bits)
    np.testing.assert_allclose(entered.evaluate(given_), graph.evaluate(given_), rtol=2e-4, atol=2e-3)
    q = entry.quantize(entered.enter(given_))
    assert q.min() >= entry.low and q.max() <= entry.high
    spread = q.astype(np.float64).max(axis=0) - q.min(axis=0)
    assert spread.min() > 0.4 * (entry.high - entry.low)  # every feature has the grid for itself


def test_an_image_is_taken_over_exactly():
    graph, given_ = limited(split_joined(mixed())), observations(40)
    entered, entry = enter(graph, given_, QuantizeConfig(), 8)
    span = slice(VECTORS[0], VECTORS[0] + PIXELS)
    np.testing.assert_array_equal(entry.quantize(entered.enter(given_))[:, span], given_[:, span] - 128)


def test_a_margin_keeps_the_image_off_centre():
    graph = split_joined(mixed(pads=(1, 1, 0, 0)))
    assert parts_of(graph) is None
    entered, _ = enter(graph, observations(40), QuantizeConfig(), 16)
    assert entered.prefix is graph.prefix


@pytest.mark.parametrize(("bits", "least_db"), [(8, 25.0), (16, 40.0)])
@pytest.mark.parametrize("function", [RELU, TANH])
def test_integers_are_near(bits, least_db, function):
    graph = limited(split_joined(mixed(function)))
    network = quantize_graph(graph, observations(200), QuantizeConfig(), bits)
    fresh = observations(200, seed=1)
    assert sqnr_db(graph.evaluate(fresh), predict(network, fresh)) > least_db
