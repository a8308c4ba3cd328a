"""The AArch64 kernels: the reference's integers on emulated cores, by every compiler that is here, and their cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aarch64 import CORES, Machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.core.semantics import Integers
from policyport.deploy import reference, vectors
from policyport.deploy.choice_neon import neon_choice
from policyport.deploy.codegen import write_sources
from policyport.deploy.host import HostLibrary
from policyport.deploy.kernel_cost_neon import neon_instructions
from policyport.deploy.layers import Affine, Conv2d
from policyport.deploy.layout_neon import (
    CHANNELS,
    DOT,
    ROWS,
    ROWS_BY_FOUR,
    Arrangement,
    NeonKernel,
    Parts,
    halfword_taps,
    in_place,
    neon_kernels,
    pack_depthwise,
    pack_rows,
)
from policyport.deploy.layout_neon_ring import reading_of, ring_of, scratch_of
from policyport.deploy.lower_builder import OPEN
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.variant import NeonVariant
from policyport.deploy.vectors import random_inputs

SAME = (1, 1, 1, 1)
RELU = (0.0, np.inf)
NEON: tuple[NeonVariant, ...] = ("neon", "neon_dot")
CASES = vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME)


def every_kind(rng: np.random.Generator) -> Program:
    """Layers of each width and layout: windows in place and copied, groups, dilation, phases with and without taps."""
    graph = RandomGraph(rng, (11, 9, 3))
    x = graph.convolution(graph.input, 40, Window((3, 3), pads=SAME), clamp=RELU)
    x = graph.convolution(x, 21, Window((1, 1)), weight_bits=4, clamp=(0.0, 1.0))
    x = graph.convolution(x, 24, Window((3, 3), (2, 1), pads=SAME), weight_bits=4)
    x = graph.convolution(x, 16, Window((2, 3), dilation=(1, 2), pads=(1, 2, 0, 2)), bits=16)
    x = graph.convolution(x, 18, Window((3, 3), pads=SAME), bits=16, weight_bits=4)
    x = graph.convolution(x, 12, Window((3, 3), (2, 2), pads=SAME), output_padding=(1, 0))
    x = graph.convolution(x, 8, Window((2, 2), (3, 3)), output_padding=(0, 0))
    x = graph.convolution(x, 20, Window((3, 3), pads=SAME), groups=4)
    x = graph.convolution(x, 20, Window((3, 3), (3, 3)), groups=20)
    x = graph.dense(x, 37, bits=16, clamp=RELU)
    return graph.finish(graph.dense(graph.dense(x, 27, weight_bits=2), 5, weight_bits=4))


def every_point(rng: np.random.Generator) -> Program:
    """Sums, changes of scale, functions and pools, of sixteen channels and of some more."""
    graph = RandomGraph(rng, (17, 16, 19))
    x = graph.max_pool(graph.input, Window((3, 3), pads=SAME))
    x = graph.add(graph.lookup(x, "Tanh"), graph.rescale(graph.input, clamp=(0.0, 1.0)), clamp=RELU)
    wide = graph.average_pool(x, Window((17, 16)))
    x = graph.average_pool(x, Window((3, 2), (2, 2), pads=(1, 0, 1, 1)))
    x = graph.average_pool(x, Window((2, 2), pads=SAME), count_padding=True)
    x = graph.convolution(x, 18, Window((2, 2)))
    return graph.finish(graph.add(graph.dense(x, 5), graph.dense(graph.lookup(wide, "Sigmoid"), 5)))


def inputs_of(program: Program, count: int, rng: np.random.Generator) -> Integers:
    """Random ones, and the two extremes."""
    found = random_inputs(program, count + 2, rng)
    found[0], found[1] = program.input.low, program.input.high
    return found


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("made", [every_kind, every_point])
def test_each_core_by_each_compiler(
    tmp_path: Path, core: str, compiler: str, made: Callable[[np.random.Generator], Program]
) -> None:
    rng = np.random.default_rng(2)
    program = made(rng)
    inputs = inputs_of(program, 2, rng)
    got = Machine(tmp_path, core, program, compiler=compiler).infer(inputs)
    np.testing.assert_array_equal(got, reference.run(program, inputs)[-1].reshape(len(inputs), -1))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("case", CASES[:: max(1, len(CASES) // 4)], ids=lambda case: case.name)
def test_golden_vectors_on_each_core(tmp_path: Path, core: str, case: vectors.Case) -> None:
    np.testing.assert_array_equal(Machine(tmp_path, core, case.program).infer(case.input), case.layers[-1])


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_golden_vectors_on_each_core(tmp_path: Path, core: str, case: vectors.Case) -> None:
    np.testing.assert_array_equal(Machine(tmp_path, core, case.program).infer(case.input), case.layers[-1])


@st.composite
def layers(draw: st.DrawFn) -> Program:
    """One layer with weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits, target = draw(st.sampled_from([8, 8, 16])), draw(st.sampled_from([8, 8, 16]))
    weight_bits = draw(st.sampled_from([8, 4, 2] if bits == 8 else [4, 2]))
    clamp = draw(st.sampled_from([OPEN, RELU, (0.0, 1.0)]))
    outputs = draw(st.integers(1, 37))
    if draw(st.booleans()):
        graph = RandomGraph(rng, (draw(st.integers(1, 70)),), bits)
        return graph.finish(graph.dense(graph.input, outputs, weight_bits, target, clamp))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    graph = RandomGraph(
        rng, (draw(st.integers(3, 6)), draw(st.integers(3, 9)), groups * draw(st.integers(1, 17))), bits
    )
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]))
    extent = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    pads = tuple(draw(st.integers(0, extent[i % 2])) for i in range(4))
    window = Window(kernel, stride, dilation, pads)  # type: ignore[arg-type]
    padding = (0, 0) if draw(st.sampled_from([False, False, True])) else None
    if padding is None and min(window.output_size(*graph.input.shape[1:])) < 1:
        window = Window((1, 1), stride)
    made = graph.convolution(
        graph.input, groups * outputs, window, groups, weight_bits, target, clamp, output_padding=padding
    )
    return graph.finish(made)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=layers(), variant=st.sampled_from(NEON))
def test_random_layers_by_the_twins(tmp_path: Path, program: Program, variant: NeonVariant) -> None:
    inputs = inputs_of(program, 2, np.random.default_rng(3))
    write_sources(program, variant, tmp_path)
    with HostLibrary(tmp_path, flags=["-O1"]) as library:
        expected = reference.run(program, inputs)[-1].reshape(len(inputs), -1)
        np.testing.assert_array_equal(library.infer(inputs), expected)


@settings(max_examples=4, deadline=None)
@given(program=layers(), core=st.sampled_from(sorted(CORES)))
def test_random_layers_on_each_core(tmp_path_factory: pytest.TempPathFactory, program: Program, core: str) -> None:
    inputs = inputs_of(program, 2, np.random.default_rng(3))
    got = Machine(tmp_path_factory.mktemp("machine"), core, program).infer(inputs)
    np.testing.assert_array_equal(got, reference.run(program, inputs)[-1].reshape(len(inputs), -1))


THREE = Window((3, 3), pads=SAME)
MEASURED = [
    ((256,), lambda g, x: g.dense(x, 256), 0.312, 0.132),
    ((256,), lambda g, x: g.dense(x, 256, weight_bits=4), 0.355, 0.186),
    ((32, 32, 16), lambda g, x: g.convolution(x, 16, THREE), 0.326, 0.112),
    ((32, 32, 16), lambda g, x: g.convolution(x, 16, THREE, weight_bits=4), 0.449, 0.139),
    ((16, 16, 64), lambda g, x: g.convolution(x, 64, Window((1, 1))), 0.36, 0.119),
    ((16, 16, 64), lambda g, x: g.convolution(x, 64, THREE, groups=64), 0.63, 0.63),
    ((48, 48, 8), lambda g, x: g.convolution(x, 8, THREE, groups=8), 0.696, 0.696),
    ((32, 32, 3), lambda g, x: g.convolution(x, 8, THREE), 0.892, 0.387),
]
"""Shapes, layers, and instructions per multiply-accumulate on Cortex-A53 and A76, with room of about 5 %."""


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("shape", "layer", "a53", "a76"), MEASURED)
def test_cost(
    tmp_path: Path, core: str, shape: tuple[int, ...], layer: Callable[[RandomGraph, Any], Any], a53: float, a76: float
) -> None:
    """Copying the input and the output included."""
    rng = np.random.default_rng(3)
    graph = RandomGraph(rng, shape)
    program = graph.finish(layer(graph, graph.input))
    inputs = inputs_of(program, 0, rng)
    machine = Machine(tmp_path, core, program)
    np.testing.assert_array_equal(machine.infer(inputs), reference.run(program, inputs)[-1].reshape(2, -1))
    assert machine.instructions <= (a53 if core == "cortex-a53" else a76) * program.macs
    made = layer_of(program)
    kernel = neon_choice(made, CORES[core], "size")  # type: ignore[arg-type]
    assert kernel is not None
    assert machine.instructions == pytest.approx(neon_instructions(made, kernel), rel=0.2)


@pytest.mark.parametrize(("core", "per_mac"), [("cortex-a53", 0.505), ("cortex-a76", 0.218)])
def test_cost_of_16_bits(tmp_path: Path, core: str, per_mac: float) -> None:
    rng = np.random.default_rng(3)
    graph = RandomGraph(rng, (256,), 16)
    program = graph.finish(graph.dense(graph.input, 256, bits=16))
    inputs = inputs_of(program, 1, rng)
    machine = Machine(tmp_path, core, program)
    np.testing.assert_array_equal(machine.infer(inputs), reference.run(program, inputs)[-1].reshape(3, -1))
    assert machine.instructions <= per_mac * program.macs
    kernel = neon_choice(layer_of(program), CORES[core], "size")  # type: ignore[arg-type]
    assert kernel is not None
    assert machine.instructions == pytest.approx(neon_instructions(layer_of(program), kernel), rel=0.2)


POINTS = [
    ((32, 32, 16), lambda g, x: g.add(x, x), 2.6),
    ((32, 32, 16), lambda g, x: g.max_pool(x, Window((2, 2), (2, 2))), 1.8),
    ((20, 20, 16), lambda g, x: g.average_pool(x, Window((20, 20))), 0.8),
    ((4096,), lambda g, x: g.lookup(x, "Tanh"), 1.2),
]
"""Shapes, layers, and instructions for each input."""


@pytest.mark.parametrize(("shape", "layer", "per_input"), POINTS)
def test_cost_of_points(
    tmp_path: Path, shape: tuple[int, ...], layer: Callable[[RandomGraph, Any], Any], per_input: float
) -> None:
    rng = np.random.default_rng(3)
    graph = RandomGraph(rng, shape)
    program = graph.finish(layer(graph, graph.input))
    inputs = inputs_of(program, 1, rng)
    machine = Machine(tmp_path, "cortex-a53", program)
    expected = reference.run(program, inputs)[-1].reshape(3, -1)
    np.testing.assert_array_equal(machine.infer(inputs), expected)
    assert machine.instructions <= per_input * program.input.size


def layer_of(program: Program) -> Affine:
    layer = program.layers[0]
    assert isinstance(layer, Affine)
    return layer


def dense(inputs: int, outputs: int, weight_bits: int = 8, bits: int = 8) -> Affine:
    graph = RandomGraph(np.random.default_rng(1), (inputs,), bits)
    return layer_of(graph.finish(graph.dense(graph.input, outputs, weight_bits)))


def test_weights_that_a_layout_does_not_hold_take_another() -> None:
    assert [kernel.name for kernel in neon_kernels(dense(64, 64, 4), "neon")] == ["rows nibbles", "rows bytes"]
    assert [kernel.name for kernel in neon_kernels(dense(64, 64, 4), "neon_dot")] == ["dot nibbles", "dot bytes"]
    assert [kernel.name for kernel in neon_kernels(dense(64, 64, 4, 16), "neon_dot")] == ["dot bytes"]
    least = dense(64, 64)
    least.weights[3, 5] = -128
    assert neon_kernels(least, "neon") == ()
    assert [kernel.name for kernel in neon_kernels(least, "neon_dot")] == ["dot bytes"]
    large = dense(64, 64, 4)
    large.bias[7] = 2**27
    assert [kernel.name for kernel in neon_kernels(large, "neon_dot")] == ["dot bytes"]


def test_the_least_weight_stays_exact(tmp_path: Path) -> None:
    """Two products of -128 by -128 would not fit in int16: plain C computes them in one variant, SDOT in the other."""
    graph = RandomGraph(np.random.default_rng(1), (64,))
    program = graph.finish(graph.dense(graph.input, 64))
    layer_of(program).weights[:, :9] = -128
    inputs = inputs_of(program, 1, np.random.default_rng(2))
    for variant in NEON:
        folder = tmp_path / variant
        folder.mkdir()
        generated = write_sources(program, variant, folder)
        assert ("pp_neon_dot.c" in generated.kernels) == (variant == "neon_dot")
        with HostLibrary(folder) as library:
            np.testing.assert_array_equal(library.infer(inputs), reference.run(program, inputs)[-1])


def test_speed_takes_bytes_where_they_take_fewer_instructions() -> None:
    graph = RandomGraph(np.random.default_rng(1), (16, 16, 16))
    layer = layer_of(graph.finish(graph.convolution(graph.input, 16, THREE, weight_bits=4)))
    assert neon_choice(layer, "neon", "size").name == "rows nibbles"  # type: ignore[union-attr]
    assert neon_choice(layer, "neon", "speed").name == "rows bytes"  # type: ignore[union-attr]


def test_a_layer_of_a_few_weights_stays_with_plain_c() -> None:
    assert neon_choice(dense(2, 1), "neon_dot", "speed") is None
    assert neon_choice(dense(64, 64), "neon_dot", "speed") is not None


@given(rows=st.integers(1, 70), how=st.sampled_from([DOT, ROWS, ROWS_BY_FOUR, CHANNELS]))
def test_blocks_hold_each_row_once(rows: int, how: Arrangement) -> None:
    blocks = how.blocks(rows)
    assert [row for block in blocks for row in block] == list(range(rows))
    assert all(how.padded(block) in how.sizes for block in blocks)
    assert all(len(block) == how.padded(block) for block in blocks[:-1])


def weight(words: Any, kernel: NeonKernel, rows: int, inputs: int, row: int, at: int) -> int:
    """One weight of a block of one part, by the description in pp_neon.h."""
    bytes_ = words[rows : rows + rows * inputs // kernel.digits // 4].view(np.int8)
    step = kernel.how.step
    whole = inputs // (step * kernel.digits) * step * kernel.digits
    first, side = (at // (step * kernel.digits) * step * kernel.digits, step) if at < whole else (whole, step // 2)
    byte = int(bytes_[first // kernel.digits * rows + row * side + (at - first) % side])
    if kernel.digits == 1:
        return byte
    return byte >> 4 if (at - first) // side else ((byte & 15) ^ 8) - 8


@given(data=st.data(), rows=st.integers(1, 16), steps=st.integers(1, 5))
def test_each_weight_lies_where_the_header_says(data: st.DataObject, rows: int, steps: int) -> None:
    how, layout = data.draw(st.sampled_from([(DOT, "bytes"), (DOT, "nibbles"), (ROWS, "bytes"), (ROWS, "nibbles")]))
    kernel = NeonKernel(how, layout)
    inputs, block = steps * kernel.unit, how.blocks(rows)[0]
    weights = np.random.default_rng(rows).integers(-8, 8, (rows, inputs))
    ends = np.arange(rows), np.arange(rows) + 100
    words = pack_rows(weights, *ends, Parts(1, inputs, inputs), kernel)
    size = how.padded(block)
    for row in block:
        assert (words[row], words[size + size * inputs // kernel.digits // 4 + row]) == (row, row + 100)
        assert [weight(words, kernel, size, inputs, row, at) for at in range(inputs)] == weights[row].tolist()


@pytest.mark.parametrize(
    ("channels", "window", "reading"),
    [(16, THREE, "rows"), (16, Window((1, 1)), "pixels"), (16, Window((1, 1), (2, 2)), "rows"), (3, THREE, "gathered")],
)
def test_rows_that_windows_see_lie_in_a_ring(channels: int, window: Window, reading: str) -> None:
    graph = RandomGraph(np.random.default_rng(1), (6, 12, channels))
    layer = layer_of(graph.finish(graph.convolution(graph.input, 16, window)))
    kernel = neon_kernels(layer, "neon")[0]
    assert isinstance(layer, Conv2d)
    assert reading_of(layer, kernel) == reading
    assert in_place(layer, kernel) == (reading != "gathered")
    scratch, ring = scratch_of(layer, kernel), ring_of(layer, kernel)
    if reading == "pixels":
        assert scratch.size == 0
    else:
        assert (ring.rows, ring.columns) == ((3, 14) if window == THREE else (1, 11))
        assert scratch.size >= scratch.ring_first + ring.rows * ring.row_bytes
    if reading == "gathered":
        assert scratch.slot_step >= 27


WEIGHTS = st.one_of(st.integers(-127, 127), st.integers(-40, 40))


@given(taps=st.lists(st.lists(WEIGHTS, min_size=9, max_size=9), min_size=1, max_size=4))
def test_halfwords_hold_the_products_of_so_many_taps(taps: list[list[int]]) -> None:
    weights = np.array(taps)
    count = halfword_taps(weights)
    assert count in (2, 3, 5)
    for first in range(0, 9, count):
        for extreme in (np.where(weights > 0, 127, -128), np.where(weights > 0, -128, 127)):
            sums = (weights * extreme)[:, first : first + count].sum(axis=1)
            assert sums.min() >= -(2**15) and sums.max() < 2**15


@pytest.mark.parametrize(("channels", "firsts"), [(5, [0]), (16, [0]), (19, [0, 3]), (40, [0, 16, 24])])
def test_blocks_of_channels_end_with_the_last(channels: int, firsts: list[int]) -> None:
    weights = np.random.default_rng(1).integers(-127, 128, (channels, 3, 3, 1))
    words = pack_depthwise(weights, np.arange(channels), np.arange(channels) + 100)
    blocks = words.reshape(len(firsts), -1)
    for first, block in zip(firsts, blocks, strict=True):
        held = min(16, channels - first)
        assert block[1 : 1 + held].tolist() == list(range(first, first + held))
        taps = block[17:53].view(np.int8).reshape(9, 16)[:, :held]
        np.testing.assert_array_equal(taps.T, weights[first : first + held].reshape(held, 9))
        assert block[53 : 53 + held].tolist() == list(range(100 + first, 100 + first + held))


def test_eight_channels_are_held_twice() -> None:
    weights = np.random.default_rng(1).integers(-127, 128, (8, 3, 3, 1))
    words = pack_depthwise(weights, np.arange(8), np.arange(8) + 100)
    taps = words[17:53].view(np.int8).reshape(9, 16)
    np.testing.assert_array_equal(taps[:, :8], taps[:, 8:])
    assert words[1:17].tolist() == [*range(8), *range(8)]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("channels", [3, 8, 16, 21, 57])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_of_any_width(tmp_path: Path, core: str, channels: int, stride: int) -> None:
    """Eight channels of an odd number of pixels among them, and weights of each number of products in int16."""
    rng = np.random.default_rng(channels)
    graph = RandomGraph(rng, (5, 7, channels))
    x = graph.convolution(graph.input, channels, Window((3, 3), (stride, stride), pads=SAME), channels)
    program = graph.finish(graph.convolution(x, channels, Window((3, 3), (1, 1), (2, 1), (2, 1, 2, 1)), channels))
    for layer, least in zip(program.layers, (1, 3), strict=True):
        assert isinstance(layer, Affine)
        layer.weights[...] //= least
    inputs = inputs_of(program, 2, rng)
    got = Machine(tmp_path, core, program).infer(inputs)
    np.testing.assert_array_equal(got, reference.run(program, inputs)[-1].reshape(len(inputs), -1))
