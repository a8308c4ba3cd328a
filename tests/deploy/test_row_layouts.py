"""Blocks of whole rows: what each layout holds, and that its twin in C computes the reference's integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policyport.core.semantics import Requantization
from policyport.deploy import reference
from policyport.deploy.codegen import write_sources
from policyport.deploy.host import HostLibrary
from policyport.deploy.layers import FullyConnected
from policyport.deploy.layout_rows import NIBBLES_REACH, RowsLayout, RowsVariant, rows_layout
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.vectors import random_inputs


def dense(inputs: int, rows: int, low: int, high: int, bias: int = 0, bits: int = 8) -> Program:
    """One layer whose first row's bias is given, all of whose weights from ``low`` to ``high`` occur."""
    rng = np.random.default_rng(inputs + rows)
    graph = RandomGraph(rng, (inputs,))
    program = graph.finish(graph.dense(graph.input, rows, weight_bits=bits))
    (layer,) = program.layers
    assert isinstance(layer, FullyConnected)
    weights = rng.integers(low, high + 1, layer.weights.shape)
    weights[0, :2], weights[-1, :2] = (low, high), (high, low)
    biases = rng.integers(-999, 1000, rows)
    biases[0] = bias or biases[0]
    reach = int(np.abs(weights).sum(axis=1).max()) * 256 + abs(bias)
    by = Requantization(np.full(rows, 2**32 // (reach // 100)), 0)
    return replace(program, layers=(replace(layer, weights=weights, bias=biases, requantize=by),))


def layout(program: Program, variant: RowsVariant, optimize: str = "size") -> RowsLayout | None:
    (layer,) = program.layers
    assert isinstance(layer, FullyConnected)
    return rows_layout(layer, variant, optimize)


@pytest.mark.parametrize("variant", ["mve", "thumb"])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (15, 5), (16, 4), (17, 9), (33, 8), (64, 6), (65, 7), (130, 10)])
@pytest.mark.parametrize("reach", [(-127, 127), (-8, 7), (-2, 1)], ids=str)
def test_any_size_and_every_weight(
    tmp_path: Path, variant: RowsVariant, sizes: tuple[int, int], reach: tuple[int, int]
) -> None:
    program = dense(max(2, sizes[0]), sizes[1], *reach)
    narrowest: dict[tuple[int, int], RowsLayout] = {(-127, 127): "bytes", (-8, 7): "nibbles", (-2, 1): "crumbs"}
    assert layout(program, variant) == ("nibbles" if reach[0] == -2 and variant == "mve" else narrowest[reach])
    check(program, variant, tmp_path)


def check(program: Program, variant: RowsVariant, folder: Path) -> None:
    write_sources(program, variant, folder)
    q = random_inputs(program, 6, np.random.default_rng(0))
    q[0], q[1] = program.input.low, program.input.high
    expected = reference.run(program, q)[-1]
    assert len(np.unique(expected)) > 1
    with HostLibrary(folder) as library:
        np.testing.assert_array_equal(library.infer(q), expected)


@pytest.mark.parametrize(("above", "expected"), [(False, "nibbles"), (True, "bytes")])
@pytest.mark.parametrize("sign", [-1, 1])
def test_nibbles_hold_sums_up_to_their_reach(tmp_path: Path, above: bool, expected: str, sign: int) -> None:
    """The first row is summed sixteen times too large: its sum may use all but four bits of a word."""
    free = dense(20, 4, -8, 7)
    (layer,) = free.layers
    assert isinstance(layer, FullyConnected)
    weights = int(layer.accumulator_bound[0]) - abs(int(layer.bias[0]))
    program = dense(20, 4, -8, 7, sign * (NIBBLES_REACH - 1 - weights + (weights + 1) * above))
    assert layout(program, "mve") == expected and layout(program, "thumb") == "nibbles"
    check(program, "mve", tmp_path)
