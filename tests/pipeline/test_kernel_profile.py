"""The table of what kernels take: fitted as it says, and near what emulated boards execute."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ToolError
from policyport.core.operators import Window
from policyport.deploy.board import Board, load_board
from policyport.deploy.kernel_cycles import TABLE, Factors, kernels_of, layer_figures
from policyport.deploy.layers import Lookup
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.toolchain import find_toolchain
from policyport.hil.rig import choose_emulator
from policyport.pipeline.kernel_profile import BOARDS, Measured, fit_factors, fit_kernels, profile_program

LAYER, TOTAL = 0.15, 0.05
"""Largest errors of a layer that takes a twentieth of a network, and of all layers together."""


def network() -> Program:
    """A small network of images, in sizes that the table was not fitted to."""
    graph = RandomGraph(np.random.default_rng(11), (11, 13, 3))
    same = Window((3, 3), pads=(1, 1, 1, 1))
    x = graph.convolution(graph.input, 20, same, clamp=(0.0, np.inf))
    y = graph.convolution(x, 20, same, groups=20, clamp=(0.0, np.inf))
    x = graph.add(x, graph.convolution(y, 20, Window((1, 1))))
    x = graph.max_pool(x, Window((2, 2), (2, 2)))
    return graph.finish(graph.softmax(graph.dense(graph.dense(x, 40, weight_bits=4), 6)))


def profiled(program: Program, board: Board) -> list[Measured]:
    pytest.importorskip("capstone", reason="the package capstone is not installed")
    try:
        find_toolchain("auto", board.linux)
        choose_emulator(board, "auto")
    except ToolError as error:
        pytest.skip(str(error))
    return profile_program(program, board, "size")


@pytest.mark.parametrize("name", BOARDS)
def test_estimates_are_near_the_profile_of_an_emulated_board(name: str) -> None:
    board = load_board(name)
    measured = profiled(network(), board)
    figures = [layer_figures(each.layer, each.called, each.formula, board.core) for each in measured]
    whole = sum(each.instructions for each in measured)
    for each, found in zip(measured, figures, strict=True):
        assert found is not None, each.called
        if each.instructions > whole / 20:
            assert found.instructions == pytest.approx(each.instructions, rel=LAYER), each.layer.name
            assert found.cycles == pytest.approx(each.cycles, rel=LAYER), each.layer.name
    assert sum(found.instructions for found in figures if found) == pytest.approx(whole, rel=TOTAL)
    cycles = sum(each.cycles for each in measured)
    assert sum(found.cycles for found in figures if found) == pytest.approx(cycles, rel=TOTAL)


def test_a_core_without_timing_rules_is_refused() -> None:
    with pytest.raises(ToolError, match="no timing rules"):
        profile_program(network(), load_board("mps3-an547"), "size")


def test_a_fit_holds_what_it_was_fitted_to() -> None:
    """A helper is counted by itself, and its layer's kernel without it."""
    board = load_board("mps2-an386")
    graph = RandomGraph(np.random.default_rng(3), (6, 6, 8))
    clamped = graph.convolution(graph.input, 8, Window((1, 1)), clamp=(0.0, 0.5))
    measured = profiled(graph.finish(graph.lookup(clamped, "HardSwish")), board)
    rows = fit_kernels(measured)
    assert {"pp_conv_pairs", "pp_clamp_s8", "pp_lookup_s8"} == set(rows)
    assert all(row["error"] < 1e-4 and row["layers"] == 1 for row in rows.values())
    assert isinstance(measured[1].layer, Lookup) and measured[1].instructions > 5 * 288


@given(st.tuples(*[st.floats(0, 50)] * 4), st.integers(0, 2**32 - 1))
def test_factors_come_back_from_exact_counts(factors: Factors, seed: int) -> None:
    amounts = np.random.default_rng(seed).integers(1, 2000, (12, 4)).astype(float)
    counts = amounts @ np.array(factors) + 1e-9
    fitted, error = fit_factors(amounts, counts)
    assert all(factor >= 0 for factor in fitted)
    if max(factors) > 1:
        assert error < 0.01 and amounts @ np.array(fitted) == pytest.approx(counts, rel=0.01)


def test_the_table_has_every_core_and_errors() -> None:
    cores = {load_board(name).core.removesuffix("f") for name in BOARDS}
    table = json.loads(TABLE.read_text())
    assert set(table["cores"]) == cores and table["compiler"]
    for core in cores:
        assert len(kernels_of(core)) > 40 and all(0 <= row.error < 0.6 for row in kernels_of(core).values())
