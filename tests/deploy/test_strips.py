"""Layers that run together by rows: what each step reads is there, the C computes the same, and the plan fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.errors import ConfigError
from policyport.core.operators import Window
from policyport.deploy import reference
from policyport.deploy.codegen import generate, write_sources
from policyport.deploy.codegen_memory import plan_memory
from policyport.deploy.explain import explain
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.footprint_page import footprint_map
from policyport.deploy.fusing import extra_instructions, fit, fused
from policyport.deploy.host import HostLibrary
from policyport.deploy.layers import Add, Conv2d, Layer, Pool, Strips
from policyport.deploy.program import Program, program_sha256, read_program, write_program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.strips import Move, runs_by_rows, schedule, stepped_rows, sums_rows, yielded_by
from policyport.deploy.variant import VARIANTS, Variant
from policyport.deploy.vectors import random_inputs
from policyport.pipeline.cli import main

SAME = Window((3, 3), pads=(1, 1, 1, 1))
RELU = (0.0, np.inf)


@st.composite
def together(draw: st.DrawFn) -> Program:
    """Layers behind one another, with shortcuts around some, all of them together, by some rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graph = RandomGraph(rng, (draw(st.integers(7, 15)), draw(st.integers(4, 6)), draw(st.sampled_from([1, 4]))))
    x = graph.input
    for _ in range(draw(st.integers(2, 4))):
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
        window = Window(kernel, (draw(st.integers(1, 2)), 1), (1, 1), pads)  # type: ignore[arg-type]
        if min(window.output_size(*x.shape[1:])) < 2:
            window = Window((1, 1))
        kinds = ["conv", "conv", "depthwise", "max", "mean", "rescale", "lookup", "residual", "concat"]
        kind = draw(st.sampled_from(kinds))
        if kind == "residual":
            x = graph.add(graph.convolution(x, x.shape[0], SAME, clamp=RELU), x)
        elif kind == "concat":
            x = graph.concat([graph.max_pool(x, SAME), x], axis=0)
        elif kind == "conv":
            x = graph.convolution(x, draw(st.sampled_from([3, 4, 8])), window, clamp=(0.0, 1.0))
        elif kind == "depthwise":
            x = graph.convolution(x, x.shape[0], SAME, x.shape[0], clamp=RELU)
        elif kind == "rescale":
            x = graph.rescale(x)
        elif kind == "lookup":
            x = graph.lookup(x, "Tanh")
        else:
            x = graph.max_pool(x, window) if kind == "max" else graph.average_pool(x, window)
    if draw(st.booleans()):
        x = graph.average_pool(x, Window(x.shape[1:]))  # type: ignore[arg-type]
    program = graph.finish(x)
    assert all(map(runs_by_rows, program.layers))
    return fused(program, 0, len(program.layers) - 1, draw(st.integers(1, 4)))


def strips_of(program: Program) -> Strips:
    return next(layer for layer in program.layers if isinstance(layer, Strips))


def rows_seen(layer: Layer, row: int) -> set[int]:
    """Rows of the image that a row of the result sees."""
    window = layer.window if isinstance(layer, (Conv2d, Pool)) else Window((1, 1))
    first = row * window.stride[0] - window.pads[0]
    return {first + tap * window.dilation[0] for tap in range(window.kernel[0])} & set(range(layer.input.shape[0]))


@settings(max_examples=150, deadline=None)
@given(program=together())
def test_every_row_is_computed_once_from_rows_that_are_there(program: Program) -> None:
    layer = strips_of(program)
    found, last = schedule(layer), len(layer.layers) - 1
    buffers: list[list[int | None]] = [[None] * rows for rows in found.buffer_rows]
    done, yielded = [0] * len(layer.layers), yielded_by(layer)
    for action in (action for step in found.steps for action in step):
        if isinstance(action, Move):
            buffer = buffers[action.part]
            buffer[: action.rows] = buffer[action.row : action.row + action.rows]
            continue
        shape, part = action.shape, layer.layers[action.part]
        if action.part == last and sums_rows(part):
            (row,), rows = action.source_rows, range(done[last], done[last] + shape.rows)
            assert buffers[last - 1][row : row + shape.rows] == list(rows) and action.target_row == done[last]
            done[last] += shape.rows
            continue
        first = done[action.part] * (part.window.stride[0] if isinstance(part, (Conv2d, Pool)) else 1)
        pad = part.window.pads[0] if isinstance(part, (Conv2d, Pool)) else 0
        assert shape.top == max(0, pad - first)
        for operand, row in zip(part.inputs, action.source_rows, strict=True):
            source = buffers[yielded[operand.name]] if operand.name in yielded else list(range(operand.shape[0]))
            there = source[row : row + shape.source_rows]
            for i in range(shape.rows):
                assert rows_seen(part, done[action.part] + i) <= {row for row in there if row is not None}
            begin = max(0, first - pad)
            assert there == list(range(begin, begin + shape.source_rows))
        if action.part < last:
            target = buffers[action.part]
            assert action.target_row + shape.rows <= len(target)
            target[action.target_row : action.target_row + shape.rows] = range(
                done[action.part], done[action.part] + shape.rows
            )
        else:
            assert action.target_row == done[action.part]
        done[action.part] += shape.rows
    assert done[-1] == stepped_rows(layer.layers[-1])
    assert all(count <= part.output.shape[0] for count, part in zip(done[:-1], layer.layers, strict=False))


def face(rng: np.random.Generator) -> Program:
    """Convolutions with pools, as those that see action units, and a head."""
    graph = RandomGraph(rng, (24, 20, 2))
    x = graph.max_pool(graph.convolution(graph.input, 8, SAME, clamp=RELU), Window((2, 2), (2, 2)))
    x = graph.convolution(x, 8, SAME, 8, clamp=RELU)
    x = graph.convolution(x, 16, Window((1, 1)), clamp=(0.0, 1.0))
    x = graph.max_pool(x, Window((2, 2), (2, 2)))
    x = graph.average_pool(graph.convolution(x, 8, SAME, bits=16), Window((2, 2), (2, 2)))
    return graph.finish(graph.dense(x, 5, weight_bits=4))


def words(rng: np.random.Generator, bits: int = 8, rows: int = 25) -> Program:
    """Convolutions, depthwise and not, and the mean of what they leave, as those that hear words."""
    graph = RandomGraph(rng, (rows, 8, 4))
    x = graph.convolution(graph.input, 16, Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), clamp=RELU)
    for _ in range(2):
        x = graph.convolution(x, 16, SAME, 16, clamp=RELU)
        x = graph.convolution(x, 16, Window((1, 1)), clamp=RELU, bits=bits)
    x = graph.average_pool(x, Window((rows, 8)))
    return graph.finish(graph.dense(x, 5))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_added_to_a_mean(tmp_path: Path, variant: Variant, bits: int) -> None:
    rng = np.random.default_rng(4)
    program = words(rng, bits, rows=48)
    fitting = fused(program, 0, 5, 3)
    strips = strips_of(fitting)
    assert sums_rows(strips.layers[-1]) and len(schedule(strips).steps) == 16
    assert max(schedule(strips).buffer_rows) < 8
    inputs = random_inputs(program, 4, rng)
    generated = write_sources(fitting, variant, tmp_path, "size")
    assert generated.arena_bytes < plan_memory(program, variant, "size").plan.arena_bytes
    expected = reference.run(program, inputs)[-1].reshape(4, -1)
    assert len(np.unique(expected)) > 1
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(inputs), expected)


def test_a_mean_by_rows_costs_few_instructions(policies: Callable[..., Any]) -> None:
    rng = np.random.default_rng(4)
    program = words(rng)
    arena = plan_memory(program, "dsp").plan.arena_bytes
    small = fit(program, "dsp", "size", 3 * arena // 4)
    assert sums_rows(strips_of(small).layers[-1])
    inputs = random_inputs(program, 1, rng)
    whole, strips = policies("m4", program, "size"), policies("m4", small, "size")
    for policy in (whole, strips):
        np.testing.assert_array_equal(policy.infer(inputs[0]), reference.run(program, inputs)[-1].reshape(-1))
    assert whole.instructions < strips.instructions <= 1.15 * whole.instructions


@pytest.mark.parametrize(
    ("variant", "optimize"), [(variant, "speed" if variant == "dsp" else "size") for variant in VARIANTS]
)
def test_the_c_computes_the_same(tmp_path: Path, variant: Variant, optimize: Any) -> None:
    rng = np.random.default_rng(3)
    program = face(rng)
    whole = plan_memory(program, variant, optimize).plan.arena_bytes
    fitting = fit(program, variant, optimize, whole * 2 // 3)
    assert strips_of(fitting) and fitting.operators == program.layers
    inputs = random_inputs(program, 4, rng)
    generated = write_sources(fitting, variant, tmp_path, optimize)
    assert generated.arena_bytes <= whole * 2 // 3
    expected = reference.run(program, inputs)[-1].reshape(4, -1)
    np.testing.assert_array_equal(reference.run(fitting, inputs)[-1].reshape(4, -1), expected)
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(inputs), expected)
        for got, layer in zip(library.trace(inputs[-1]), reference.run(fitting, inputs), strict=True):
            np.testing.assert_array_equal(got, layer[-1])


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=together())
def test_any_chain_in_c(tmp_path: Path, program: Program) -> None:
    inputs = random_inputs(program, 2, np.random.default_rng(3))
    write_sources(program, "dsp", tmp_path, "speed")
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(inputs), reference.run(program, inputs)[-1].reshape(2, -1))


@settings(max_examples=4, deadline=None)
@given(program=together())
def test_any_chain_on_the_m4(policies: Callable[..., Any], program: Program) -> None:
    inputs = random_inputs(program, 2, np.random.default_rng(3))
    policy = policies("m4", program, "size")
    for q, expected in zip(inputs, reference.run(program, inputs)[-1], strict=True):
        np.testing.assert_array_equal(policy.infer(q), expected.reshape(-1))


def residual(rng: np.random.Generator) -> Program:
    """Two residual blocks, the second of which halves the picture, and a head."""
    graph = RandomGraph(rng, (32, 32, 3))
    x = graph.convolution(graph.input, 16, SAME, clamp=RELU)
    inner = graph.convolution(x, 16, SAME, clamp=RELU)
    x = graph.add(graph.convolution(inner, 16, SAME), x)
    inner = graph.convolution(x, 16, Window((3, 3), (2, 2), pads=(0, 0, 1, 1)), clamp=RELU)
    shortcut = graph.convolution(x, 16, Window((1, 1), (2, 2)))
    x = graph.add(graph.convolution(inner, 16, SAME), shortcut)
    return graph.finish(graph.dense(graph.average_pool(x, Window((16, 16), (16, 16))), 4))


def test_residual_blocks_run_by_rows_in_half_the_memory(policies: Callable[..., Any]) -> None:
    rng = np.random.default_rng(5)
    program = residual(rng)
    arena = plan_memory(program, "dsp").plan.arena_bytes
    small = fit(program, "dsp", "size", arena // 2)
    assert any(isinstance(part, Add) for part in strips_of(small).layers)
    inputs = random_inputs(program, 1, rng)
    whole, strips = policies("m4", program, "size"), policies("m4", small, "size")
    for policy in (whole, strips):
        np.testing.assert_array_equal(policy.infer(inputs[0]), reference.run(program, inputs)[-1].reshape(-1))
    assert strips.generated.arena_bytes <= arena // 2
    assert strips.instructions <= 1.1 * whole.instructions


def test_strips_cost_few_instructions(policies: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    program = face(rng)
    inputs = random_inputs(program, 1, rng)
    small = fit(program, "dsp", "size", 2_800)
    whole, strips = policies("m4", program, "size"), policies("m4", small, "size")
    for policy in (whole, strips):
        np.testing.assert_array_equal(policy.infer(inputs[0]), reference.run(program, inputs)[-1].reshape(-1))
    assert strips.generated.arena_bytes <= 2_800 < whole.generated.arena_bytes
    assert whole.instructions < strips.instructions <= 1.06 * whole.instructions


def test_what_fits_stays_as_it_is() -> None:
    program = face(np.random.default_rng(3))
    arena = plan_memory(program, "dsp").plan.arena_bytes
    assert fit(program, "dsp", "size", None) is program
    assert fit(program, "dsp", "size", arena) is program
    assert strips_of(fit(program, "dsp", "size", arena - 8)).rows >= 1


def test_what_fits_by_no_plan_is_refused_with_what_it_takes() -> None:
    program = face(np.random.default_rng(3))
    with pytest.raises(ConfigError, match=r"at most 500 bytes[\s\S]*bytes needed") as refused:
        fit(program, "dsp", "size", 500)
    needed = int(str(refused.value).split("--ram ")[1].split(",")[0])
    assert plan_memory(fit(program, "dsp", "size", needed), "dsp").plan.arena_bytes <= needed


def test_a_fused_program_is_written_and_read_as_it_is(tmp_path: Path) -> None:
    program = face(np.random.default_rng(3))
    together = fused(program, 0, 2, 2)
    write_program(together, tmp_path)
    assert program_sha256(read_program(tmp_path)) == program_sha256(together) != program_sha256(program)
    assert generate(read_program(tmp_path), "dsp") == generate(together, "dsp")
    assert together.macs == program.macs and together.weight_count == program.weight_count


def test_only_what_sees_some_rows_at_every_place_runs_by_rows() -> None:
    graph = RandomGraph(np.random.default_rng(1), (6, 6, 4))
    x = graph.convolution(graph.input, 4, Window((1, 3), pads=(1, 1, 0, 1)))
    x = graph.convolution(x, 4, Window((3, 3), (2, 2), pads=(1, 1, 1, 1)), output_padding=(0, 0))
    program = graph.finish(graph.add(graph.max_pool(x, SAME), x))
    assert [runs_by_rows(layer) for layer in program.layers] == [False, False, True, True]


def test_page_and_explanation_show_the_strips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = face(np.random.default_rng(3))
    text = explain(program, "dsp", "size", "1", 2_800)
    assert text.count("  strips    ") >= 2 and "pp_max_pool_s8x4" in text and "instructions more" in text
    small = fit(program, "dsp", "size", 2_800)
    found = footprint_map(small, "dsp", "size", generate(small, "dsp"), "cortex-m4f")
    assert found.arena_bytes <= 2_800 and " at a time" in found.layers[0].name and " then " in found.layers[0].kernel
    assert sum(row.weights for row in found.layers) == program.weight_count
    alone = footprint_map(program, "dsp", "size", generate(program, "dsp"), "cortex-m4f").layers
    whole = {row.name: row.instructions_estimated or 0 for row in alone}
    parts = sum(whole[part.name] for part in strips_of(small).layers)
    assert found.layers[0].instructions_estimated == parts + extra_instructions(strips_of(small))
    cycles = {row.name: row.cycles_estimated or 0 for row in alone}
    assert (found.layers[0].cycles_estimated or 0) > sum(cycles[part.name] for part in strips_of(small).layers)
    path = tmp_path / "face.tflite"
    graph = RandomGraph(np.random.default_rng(3), (24, 20, 2))
    pooled = graph.max_pool(graph.convolution(graph.input, 8, SAME), Window((2, 2), (2, 2)))
    path.write_bytes(tflite_bytes(graph.finish(graph.dense(pooled, 4))))
    assert main(["deploy", str(path), "--explain", "--ram", "3K"]) == 0
    assert "at a time" in capsys.readouterr().out
    assert main(["deploy", str(path), "--explain", "--ram", "0.5K"]) == 2
    assert main(["deploy", str(path), "--explain", "--ram", "small"]) == 2
