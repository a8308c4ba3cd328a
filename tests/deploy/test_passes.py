"""Program to program: whatever is fused, cut out or reordered, every integer of the output stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.deploy import reference
from policyport.deploy.dead_channels import remove_dead_channels
from policyport.deploy.layers import Affine, Conv2d, Layer
from policyport.deploy.passes import optimize, remove_dead_layers
from policyport.deploy.program import Program
from policyport.deploy.random_graph import THREE, RandomGraph, random_graph
from policyport.deploy.vectors import random_inputs

RELU = (0.0, np.inf)


def without_some_weights(program: Program, rng: np.random.Generator, share: float) -> Program:
    """The program with all weights of some output channels zero, and biases so small that ReLU cuts some off."""
    layers: list[Layer] = []
    for layer in program.layers:
        if isinstance(layer, Affine) and layer.output != program.output:
            weights = layer.weights.copy()
            weights[rng.random(len(weights)) < share] = 0
            layer = replace(layer, weights=weights)
        layers.append(layer)
    return replace(program, layers=tuple(layers))


def same_output(a: Program, b: Program) -> bool:
    q = random_inputs(a, 4, np.random.default_rng(0))
    return np.array_equal(reference.run(a, q)[-1], reference.run(b, q)[-1])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), layers=st.integers(1, 9), share=st.sampled_from([0.0, 0.3, 0.8]))
def test_random_graphs_keep_their_output(seed: int, layers: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    program = without_some_weights(random_graph(rng, layers), rng, share)
    assert same_output(program, optimize(program))


def mobile(rng: np.random.Generator, pads: tuple[int, int, int, int], clamped: bool) -> Program:
    """Depthwise and pointwise convolutions in turn, as MobileNet has them."""
    graph = RandomGraph(rng, (6, 6, 3))
    view = graph.convolution(graph.input, 8, THREE, clamp=RELU)
    window = Window((3, 3), (1, 1), (1, 1), pads)
    for _ in range(2):
        view = graph.convolution(view, view.shape[0], window, groups=view.shape[0], clamp=RELU if clamped else (-9, 9))
        view = graph.convolution(view, 8, Window((1, 1)), clamp=RELU)
    return graph.finish(graph.dense(graph.max_pool(view, Window((2, 2))), 3))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), padded=st.booleans(), clamped=st.booleans(), share=st.sampled_from([0.4, 1.0]))
def test_dead_channels_go_and_the_output_stays(seed: int, padded: bool, clamped: bool, share: float) -> None:
    rng = np.random.default_rng(seed)
    pads = (1, 1, 1, 1) if padded else (0, 0, 0, 0)
    program = without_some_weights(mobile(rng, pads, clamped), rng, share)
    cut = remove_dead_channels(program)
    assert same_output(program, cut)
    assert cut.macs <= program.macs
    if not padded:  # nothing stands in the way of folding: every channel without weights is gone
        for layer in cut.layers[:-2]:
            assert isinstance(layer, Affine)
            alive = layer.weights.reshape(len(layer.weights), -1).any(axis=1)
            assert alive.all() or layer.output.shape[-1] == 1


def test_under_padding_a_constant_folds_only_where_it_is_the_zero_point() -> None:
    """Two dead channels: ReLU makes the one the zero point, the other is above it, so that the border shows."""
    rng = np.random.default_rng(3)
    graph = RandomGraph(rng, (5, 5, 2))
    first = graph.convolution(graph.input, 4, Window((1, 1)), clamp=RELU)
    program = graph.finish(graph.dense(graph.convolution(first, 3, THREE, clamp=RELU), 2))
    stem, *rest = program.layers
    assert isinstance(stem, Affine)
    weights, bias = stem.weights.copy(), stem.bias.copy()
    weights[[0, 2]], bias[0], bias[2] = 0, -(2**20), 2**20
    program = replace(program, layers=(replace(stem, weights=weights, bias=bias), *rest))
    cut = remove_dead_channels(program)
    assert cut.layers[0].output.shape[-1] == 3 and same_output(program, cut)
    assert reference.finish(program.layers[0], bias)[2] != stem.output.zero_point  # type: ignore[arg-type]


def test_the_sums_of_a_layer_that_lost_channels_stay_proven() -> None:
    rng = np.random.default_rng(5)
    program = without_some_weights(mobile(rng, (0, 0, 0, 0), True), rng, 0.5)
    for before, after in zip(program.layers, remove_dead_channels(program).layers, strict=True):
        if isinstance(before, Affine) and isinstance(after, Affine):
            assert after.accumulator_bound.max() <= before.accumulator_bound.max()


def test_layers_that_nothing_reads_go() -> None:
    graph = RandomGraph(np.random.default_rng(0), (4, 4, 2))
    kept = graph.convolution(graph.input, 3, THREE)
    graph.convolution(kept, 5, THREE)
    program = remove_dead_layers(graph.finish(kept))
    assert [type(layer) for layer in program.layers] == [Conv2d]
