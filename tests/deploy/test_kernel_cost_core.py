"""What a core is said to take for layers that no kernel formula has, beside what it takes in an emulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.core.operators import Window
from policyport.deploy.board import load_board
from policyport.deploy.fusing import fused
from policyport.deploy.kernel_cost_core import Core
from policyport.deploy.kernel_cost_points import CALL, point_instructions
from policyport.deploy.layers import Reshape
from policyport.deploy.lower_builder import View
from policyport.deploy.program import Program
from policyport.deploy.program_cost import program_cost
from policyport.deploy.random_graph import RandomGraph, golden_graphs
from policyport.deploy.vectors import random_inputs

BOARDS = {"m0": "microbit", "m3": "mps2-an385", "m4": "mps2-an386"}
HALVES = Window((2, 2), (2, 2))

Make = Callable[[RandomGraph, View], View]

IMAGES: dict[str, Make] = {
    "max": lambda g, x: g.max_pool(x, HALVES),
    "mean": lambda g, x: g.average_pool(x, HALVES),
    "mean of all": lambda g, x: g.average_pool(x, Window((8, 8))),
    "sum": lambda g, x: g.add(x, x, bits=x.tensor.bits),
    "rescale": lambda g, x: g.rescale(x, bits=x.tensor.bits),
    "product": lambda g, x: g.multiply(x, x, bits=x.tensor.bits),
    "table": lambda g, x: g.lookup(x, "HardSwish"),
    "pad": lambda g, x: g.pad(x, (1, 1, 1, 1), 0),
    "resize": lambda g, x: g.resize(x, 16, 16),
    "turned": lambda g, x: g.turned(x),
    "concat": lambda g, x: g.concat([x, x], 0),
}
WEIGHTED: dict[str, tuple[tuple[int, ...], int, Make]] = {
    "dense of 3 bits": ((64,), 8, lambda g, x: g.dense(x, 48, weight_bits=3)),
    "dense of 4 bits, 16 bits": ((64,), 16, lambda g, x: g.dense(x, 48, weight_bits=4, bits=16)),
    "3x3 of 3 bits": ((8, 8, 8), 8, lambda g, x: g.convolution(x, 12, Window((3, 3)), weight_bits=3)),
    "depthwise of 4 bits": ((8, 8, 16), 8, lambda g, x: g.convolution(x, 16, Window((3, 3)), 16, weight_bits=4)),
    "3x3, 16 bits": ((8, 8, 8), 16, lambda g, x: g.convolution(x, 12, Window((3, 3)), weight_bits=4, bits=16)),
    "dense and table": ((64,), 8, lambda g, x: g.lookup(g.dense(x, 48), "Tanh")),
}


def program_of(shape: tuple[int, ...], bits: int, make: Make) -> Program:
    graph = RandomGraph(np.random.default_rng(sum(shape)), shape, bits)
    return graph.finish(make(graph, graph.input))


def near(policies: Callable[..., Any], core: str, program: Program, share: float) -> None:
    given = Core.of(load_board(BOARDS[core]), "size")
    policy = policies(core, program, "size", given.variant)
    policy.infer(random_inputs(program, 1, np.random.default_rng(0))[0])
    expected = sum(given.layer_instructions(program)) + given.end_instructions(program)
    assert expected == pytest.approx(policy.instructions, rel=share)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("core", BOARDS)
def test_layers_without_weights(policies: Callable[..., Any], core: str, kind: str, bits: int) -> None:
    near(policies, core, program_of((8, 8, 16), bits, IMAGES[kind]), 0.3)


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("core", BOARDS)
def test_layers_that_plain_c_or_a_table_takes(policies: Callable[..., Any], core: str, kind: str) -> None:
    near(policies, core, program_of(*WEIGHTED[kind]), 0.2)


@pytest.mark.parametrize("board", [*BOARDS.values(), "mps3-an547", "raspberrypi3", "raspberrypi5"])
@pytest.mark.parametrize("name", golden_graphs())
def test_every_operator_has_a_cost_on_every_core(name: str, board: str) -> None:
    program, core = golden_graphs()[name], Core.of(load_board(board), "size")
    found = program_cost(program, core)
    assert [layer.name for layer in found.layers] == [layer.name for layer in program.layers]
    for layer, cost in zip(program.layers, found.layers, strict=True):
        assert cost.instructions > (-1 if isinstance(layer, Reshape) else CALL)


def test_layers_by_rows_cost_what_their_parts_do_and_more() -> None:
    graph = RandomGraph(np.random.default_rng(0), (12, 12, 4))
    first = graph.convolution(graph.input, 8, Window((3, 3), pads=(1, 1, 1, 1)))
    program = graph.finish(graph.max_pool(graph.convolution(first, 8, Window((3, 3), pads=(1, 1, 1, 1))), HALVES))
    core = Core.of(load_board("mps2-an386"), "size")
    whole = program_cost(program, core)
    strips = program_cost(fused(program, 0, 2, 2), core)
    assert len(strips.layers) == 1
    assert strips.layers[0].instructions > sum(layer.instructions for layer in whole.layers)
    assert strips.layers[0].flash_bytes == sum(layer.flash_bytes for layer in whole.layers)


def test_channels_that_no_kernel_takes_together_cost_more() -> None:
    costs = []
    for channels in (16, 17):
        graph = RandomGraph(np.random.default_rng(0), (8, 8, channels))
        (layer,) = graph.finish(graph.max_pool(graph.input, HALVES)).layers
        costs.append([point_instructions(layer, kernels) for kernels in ("dsp", "neon")])
    assert costs[1][0] > 5 * costs[0][0] and costs[0][1] < costs[1][1] < 3 * costs[0][1]


def test_a_core_of_plain_c_alone_is_refused() -> None:
    board = replace(load_board("raspberrypi3"), core="cortex-a32")
    with pytest.raises(ConfigError, match="what kernels take on this core is not known"):
        Core.of(board, "size")
