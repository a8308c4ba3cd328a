"""The AArch64 kernels: the reference's integers on emulated cores, by every compiler that is here, and their cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aarch64 import CORES, Machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.core.semantics import Integers
from policyport.deploy import reference, vectors
from policyport.deploy.codegen import write_sources
from policyport.deploy.host import HostLibrary
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


def inputs_of(program: Program, count: int, rng: np.random.Generator) -> Integers:
    """Random ones, and the two extremes."""
    found = random_inputs(program, count + 2, rng)
    found[0], found[1] = program.input.low, program.input.high
    return found


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_every_kind_on_each_core_by_each_compiler(tmp_path: Path, core: str, compiler: str) -> None:
    rng = np.random.default_rng(2)
    program = every_kind(rng)
    inputs = inputs_of(program, 2, rng)
    got = Machine(tmp_path, core, program, compiler=compiler).infer(inputs)
    np.testing.assert_array_equal(got, reference.run(program, inputs)[-1].reshape(len(inputs), -1))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("case", CASES[:: max(1, len(CASES) // 6)], ids=lambda case: case.name)
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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=layers(), variant=st.sampled_from(NEON))
def test_random_layers_by_the_twins(tmp_path: Path, program: Program, variant: NeonVariant) -> None:
    inputs = inputs_of(program, 2, np.random.default_rng(3))
    write_sources(program, variant, tmp_path)
    with HostLibrary(tmp_path) as library:
        expected = reference.run(program, inputs)[-1].reshape(len(inputs), -1)
        np.testing.assert_array_equal(library.infer(inputs), expected)


@settings(max_examples=6, deadline=None)
@given(program=layers(), core=st.sampled_from(sorted(CORES)))
def test_random_layers_on_each_core(tmp_path_factory: pytest.TempPathFactory, program: Program, core: str) -> None:
    inputs = inputs_of(program, 2, np.random.default_rng(3))
    got = Machine(tmp_path_factory.mktemp("machine"), core, program).infer(inputs)
    np.testing.assert_array_equal(got, reference.run(program, inputs)[-1].reshape(len(inputs), -1))
