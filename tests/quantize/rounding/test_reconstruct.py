"""Block reconstruction: blocks as the graph has them, integers on their grids, never worse held out, gone on from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from policyport.core.errors import ObservationError
from policyport.core.operators import Window
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import NONE, RELU, AveragePool, Convolution, Linear, Reshape, Sum
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding import reconstruct as module
from policyport.quantize.rounding.block_sides import Grid, IntegerSide, RealSide, float_graph
from policyport.quantize.rounding.blocks import blocks
from policyport.quantize.rounding.lattice import lattice
from policyport.quantize.rounding.layer import in_place, layer_problem
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.rounding.reconstruct import BlockSettings, reconstruct
from policyport.quantize.rounding.sequential import rounded_graph
from policyport.quantize.simulate import predict, simulate
from policyport.quantize.stage import quantize

torch = pytest.importorskip("torch")
SHORT = BlockSettings(iterations=60, batch=8)


def convolution(name, source, outputs, inputs, rng, *, groups=1, kernel=3, function=RELU):
    """A square convolution that keeps the size."""
    weights = rng.normal(0, 1 / np.sqrt(inputs // groups * kernel**2), (outputs, inputs // groups, kernel, kernel))
    linear = f"{name}.linear" if function.name else name
    bias = rng.normal(0, 0.1, outputs).astype(np.float32)
    margin = kernel // 2
    window = Window((kernel, kernel), (1, 1), pads=(margin,) * 4)
    given = {"weights": weights.astype(np.float32), "bias": bias, "function": function, "window": window}
    return Convolution(name=name, inputs=(source,), linear_name=linear, groups=groups, **given)


@pytest.fixture(scope="module")
def graph():
    """A stem, a residual block, a depthwise pair, and a last layer behind a mean."""
    rng = np.random.default_rng(0)
    last = rng.normal(0, 0.5, (3, 6)).astype(np.float32)
    nodes = (
        convolution("stem", "image", 4, 2, rng),
        convolution("first", "stem", 4, 4, rng),
        convolution("second", "first", 4, 4, rng, function=NONE),
        Sum(name="sum", inputs=("second", "stem"), signs=(1, 1), function=RELU),
        convolution("depth", "sum", 4, 4, rng, groups=4),
        convolution("point", "depth", 6, 4, rng, kernel=1),
        AveragePool(name="mean", inputs=("point",), window=Window((4, 4), (4, 4))),
        Reshape(name="flat", inputs=("mean",), target=(6,)),
        Linear(name="out", inputs=("flat",), linear_name="out", weights=last, bias=np.zeros(3, np.float32)),
    )
    return FloatGraph("net", "image", (2, 4, 4), "out", HostPrefix.identity((2, 4, 4)), nodes)


@pytest.fixture(scope="module")
def observations():
    return np.random.default_rng(1).normal(size=(160, 2, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def side(graph, observations):
    """The graph as integers by the lattice."""
    solve = rounding("lattice", refit_bias=True)
    network = quantize_graph(graph, observations, QuantizeConfig(weight_bits=2), 8, solve)
    return IntegerSide(network, solve)


@pytest.fixture(scope="module")
def learned(side, observations):
    return reconstruct(side, observations, SHORT)


def test_blocks_lie_between_the_tensors_that_everything_passes(graph):
    names = [[node.name for node in block.nodes] for block in blocks(graph)]
    assert names == [["stem"], ["first", "second", "sum"], ["depth", "point", "mean", "flat"], ["out"]]
    assert [block.source for block in blocks(graph)] == ["image", "stem", "sum", "flat"]
    assert [block.target for block in blocks(graph)] == ["stem", "sum", "flat", "out"]
    longer = [[node.name for node in block.layers] for block in blocks(graph, 3)]
    assert longer == [["stem", "first", "second"], ["depth", "point", "out"]]


def test_a_tensor_read_later_on_is_in_no_gap_between_blocks(graph):
    """The output is read by whoever asked: a graph that ends inside of a shortcut is one block from there on."""
    inner = replace(graph, output_name="second", nodes=graph.nodes[:3])
    assert [block.target for block in blocks(inner)] == ["stem", "first", "second"]


def test_integers_are_on_their_grid_and_no_block_is_worse_held_out(side, learned):
    assert [result.target for result in learned.blocks] == ["stem", "sum", "flat", "out"]
    assert any(result.taken for result in learned.blocks)
    for result in learned.blocks:
        assert result.taken == (result.error_after < result.error_before)
    for grid in learned.grids.values():
        assert grid.integers.dtype == np.int64 and grid.integers.min() >= -2 and grid.integers.max() <= 1
    moved = [not np.array_equal(grid.integers, side.grids[name].integers) for name, grid in learned.grids.items()]
    assert any(moved)


def test_the_errors_told_are_those_of_the_integers(graph, side, observations, learned):
    made = side.with_grids(learned.grids)
    held = observations[4::5]
    exact, result = float_graph(made).trace(held)["sum"], learned.blocks[1]
    got = made.activations["sum"].dequantize(simulate(made, held).tensors["sum"])
    power = np.mean(np.square(float_graph(made).trace(observations)["sum"], dtype=np.float64))
    told = result.error_after if result.taken else result.error_before
    assert np.mean(np.square(got - exact, dtype=np.float64)) / power == pytest.approx(told, rel=1e-6)


def test_the_soft_block_is_the_integer_one_but_for_rounding(side, observations):
    """With its roundings settled where they start, a soft block computes what the integers compute."""
    from policyport.quantize.rounding.block_module import SoftBlock

    block = blocks(side.graph)[1]
    value = side.enter(observations)
    value = side.run(blocks(side.graph)[0], side.grids, value)
    soft = SoftBlock(block, side.grids, side.activations, dict.fromkeys(("first", "second"), 1.0))
    with torch.no_grad():
        for layer in soft.layers:
            layer.up.copy_(torch.where(layer.share() >= 0.5, 10.0, -10.0))
        assert all(np.array_equal(g.integers, side.grids[n].integers) for n, g in soft.rounded(side.grids).items())
        left = soft(torch.from_numpy(side.real("stem", value)), 0.0, torch.Generator()).numpy()
    step = side.activations["sum"].scale
    apart = np.abs(left - side.real("sum", side.run(block, side.grids, value))) / step
    assert apart.max() < 2.5 and np.mean(apart < 0.01) > 0.9


def test_what_is_dropped_is_as_in_the_float_network(graph, side, observations):
    """With every activation left alone and float weights, the block is the float network's."""
    from policyport.quantize.rounding.block_module import SoftBlock

    block = blocks(side.graph)[1]
    grids = {}
    for node in block.layers:  # a grid so fine that it holds the weights
        scale = np.full(len(node.weights), 2.0**-6, np.float32)
        node = replace(node, weights=np.rint(node.weights * 64) / 64)
        integers = np.rint(node.weights * 64).astype(np.int64)
        grids[node.name] = Grid(integers, scale, 8, node.bias.astype(np.float64))
    fine = replace(block, nodes=tuple(_with(node, grids) for node in block.nodes))
    soft = SoftBlock(fine, grids, side.activations, dict.fromkeys(grids, 1.0))
    source = graph.trace(observations)["stem"]
    values = {"stem": source}
    for node in fine.nodes:
        values[node.name] = node.evaluate(*(values[name] for name in node.inputs))
    with torch.no_grad():
        all_dropped, chance = 1.0, torch.Generator().manual_seed(0)
        assert np.allclose(soft(torch.from_numpy(source), all_dropped, chance).numpy(), values["sum"], atol=1e-4)
        kept = soft(torch.from_numpy(source), 0.0, chance).numpy()
    assert np.abs(kept - values["sum"]).max() > 1e-4


def _with(node, grids):
    return replace(node, weights=grids[node.name].weights) if node.name in grids else node


def test_the_same_seed_gives_the_same_integers(side, observations, learned):
    again = reconstruct(side, observations, SHORT)
    other = reconstruct(side, observations, replace(SHORT, seed=1))
    assert again.blocks == learned.blocks
    assert all(np.array_equal(again.grids[name].integers, grid.integers) for name, grid in learned.grids.items())
    assert other.blocks != learned.blocks


def test_an_interrupted_reconstruction_goes_on_block_by_block(side, observations, learned, tmp_path, monkeypatch):
    learn, calls = module._learn, []

    def interrupted(task, *more):
        calls.append(task.block.target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return learn(task, *more)

    monkeypatch.setattr(module, "_learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(side, observations, SHORT, tmp_path / "state")
    max((tmp_path / "state").glob("*.npz"), key=lambda path: path.stat().st_mtime_ns).write_bytes(b"torn")
    resumed = reconstruct(side, observations, SHORT, tmp_path / "state")
    assert calls == ["stem", "sum", "flat", "sum", "flat", "out"]
    assert resumed.blocks == learned.blocks
    for name, grid in learned.grids.items():
        assert grid.integers.tobytes() == resumed.grids[name].integers.tobytes()
        assert grid.bias.tobytes() == resumed.grids[name].bias.tobytes()
    reconstruct(side, observations, replace(SHORT, iterations=20), tmp_path / "state")
    assert len(calls) == 10, "kept blocks of other settings are not taken"


def test_fisher_weighs_what_the_outputs_depend_on(side, observations):
    """Of a linear network the weight of a feature is the square of what the outputs make of it."""
    block = blocks(side.graph)[2]
    wanted = side.graph.trace(observations)["flat"]
    weight = module._fisher(side.graph, block, wanted, BlockSettings(seed=3))
    last = side.graph.nodes[-1].weights.astype(np.float64)
    expected = np.square(last).sum(axis=0)
    assert weight.shape == wanted.shape and weight.mean() == pytest.approx(1.0, rel=1e-5)
    assert np.allclose(weight.mean(axis=0), expected / expected.mean(), rtol=0.2)
    found = reconstruct(side, observations, replace(SHORT, iterations=30, fisher=True))
    assert len(found.blocks) == 4


def test_weights_alone_are_learned_on_a_float_graph(graph, observations):
    grids = {}

    def rounder(node, exact, rounded):
        found = lattice(layer_problem(node, [(exact, rounded)], 2))
        scale = found.scales.reshape(-1).astype(np.float32)
        grids[node.name] = Grid(in_place(node, found.integers), scale, 2, found.bias.reshape(-1))
        return found

    rounded_graph(graph, observations, rounder)
    found = reconstruct(RealSide(graph, grids, rounder), observations, SHORT)
    assert any(result.taken for result in found.blocks)
    assert all(grid.integers.min() >= -2 and grid.integers.max() <= 1 for grid in found.grids.values())


def test_too_few_observations_are_refused(side, observations):
    with pytest.raises(ObservationError, match="too few"):
        reconstruct(side, observations[:4], SHORT)


def test_the_stage_writes_what_became_of_each_block(model_folder):
    config = QuantizeConfig(method="blocks", weight_bits=2, activations="int8", blocks_iterations=60)
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    told = artifact.manifest.figures["blocks"]
    assert [block["layers"] for block in told] == [[row["name"]] for row in _layers(artifact)]
    assert not (model_folder / "out.partial").exists()
    plain = quantize(model_folder / "policy.onnx", replace(config, method="lattice"), model_folder / "plain")
    assert "blocks" not in plain.manifest.figures
    changed = artifact.manifest.files["model.onnx"] != plain.manifest.files["model.onnx"]
    assert changed == any(block["taken"] for block in told)


def _layers(artifact):
    return json.loads(artifact.file("layers.json").read_text())["layers"]


def test_the_network_is_as_the_side_says(side, observations, learned):
    made = side.with_grids(learned.grids)
    exact = side.graph.evaluate(observations)
    errors = [np.mean(np.square(predict(network, observations) - exact)) for network in (side.network, made)]
    assert errors[1] != errors[0] and errors[1] < 2 * errors[0]
