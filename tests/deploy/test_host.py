"""The generated C on this machine, in every variant: the integers of the reference, under every compiler flag."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.errors import ObservationError, ToolError
from policyport.core.semantics import Integers
from policyport.deploy import reference, vectors
from policyport.deploy.choice import choose_runs
from policyport.deploy.codegen import KERNEL_FOLDER, write_sources
from policyport.deploy.codegen_memory import VARIANTS, Variant
from policyport.deploy.host import FLAGS, HostLibrary
from policyport.deploy.layers import FullyConnected
from policyport.deploy.program import Program, program_sha256
from policyport.deploy.random_graph import random_graph
from policyport.deploy.vectors import Case, Spec

CASES = vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME)
WAYS = [
    *[("c", "size"), ("dsp", "size"), ("dsp", "speed"), ("mve", "size")],
    *[("thumb", "speed"), ("neon", "size"), ("neon_dot", "size")],
]


def check(folder: Path, program: Program, inputs: Integers) -> None:
    expected = reference.run(program, inputs)
    with HostLibrary(folder) as library:
        assert library.model_sha256 == program_sha256(program)
        np.testing.assert_array_equal(library.infer(inputs), expected[-1])
        for got, layer in zip(library.trace(inputs[-1]), expected, strict=True):
            np.testing.assert_array_equal(got, layer[-1])


def ways(case: Case) -> list[tuple[str, str]]:
    """Those that differ for a case: only fully connected layers have kernels of their own in ``speed``."""
    dense = any(isinstance(layer, FullyConnected) for layer in case.program.layers)
    return WAYS if dense else [*WAYS[:2], *WAYS[3:]]


@pytest.mark.parametrize(
    ("case", "variant", "optimize"),
    [pytest.param(case, *way, id=f"{case.name}-{'-'.join(way)}") for case in CASES for way in ways(case)],
)
def test_golden_vectors(tmp_path: Path, case: Case, variant: str, optimize: str) -> None:
    write_sources(case.program, variant, tmp_path, optimize)  # type: ignore[arg-type]
    with HostLibrary(tmp_path) as library:
        np.testing.assert_array_equal(library.infer(case.input), case.layers[-1])
        for n, q in enumerate(case.input):
            for got, layer in zip(library.trace(q), case.layers, strict=True):
                np.testing.assert_array_equal(got, layer[n])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=4),
    bits=st.lists(st.sampled_from([8, 16]), min_size=4, max_size=4),
    functions=st.lists(st.sampled_from(["", "Relu", "Clip", "Tanh", "Sigmoid"]), min_size=3, max_size=3),
    lookup=st.booleans(),
    way=st.sampled_from(WAYS),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_networks(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    bits: list[int],
    functions: list[str],
    lookup: bool,
    way: tuple[str, str],
    seed: int,
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("random")
    layers = len(sizes) - 1
    spec = Spec(tuple(sizes), tuple(bits[: len(sizes)]), tuple(functions[:layers]), gain=2.0)
    program = vectors.random_program(spec, rng)
    program = vectors.with_lookup(program, "Tanh") if lookup else program
    write_sources(program, way[0], folder, way[1])  # type: ignore[arg-type]
    check(folder, program, vectors.random_inputs(program, 8, rng))
    shutil.rmtree(folder)


@pytest.mark.parametrize("way", WAYS[1:3])
def test_a_layer_in_several_layouts(tmp_path: Path, way: tuple[Variant, str]) -> None:
    rng = np.random.default_rng(9)
    program = vectors.random_program(Spec((700, 14, 3), (8, 8, 8), ("Relu", ""), largest_weight=7), rng)
    layer = program.layers[0]
    assert isinstance(layer, FullyConnected)
    layer.weights[[3, 4, 5, 6, 7]] = 7  # may reach 700 * 7 * 255: too far for the highest digit of a halfword
    runs = choose_runs(layer, way[1])
    assert [run.rows for run in runs] == [range(4), range(4, 8), range(8, 14)]
    assert runs[0].exchanged
    write_sources(program, way[0], tmp_path, way[1])
    inputs = vectors.random_inputs(program, 8, rng)
    inputs[0], inputs[1] = 127, -128
    check(tmp_path, program, inputs)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.integers(1, 8), variant=st.sampled_from(VARIANTS), seed=st.integers(0, 2**32 - 1))
def test_random_graphs(tmp_path_factory: pytest.TempPathFactory, layers: int, variant: Variant, seed: int) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("random")
    program = random_graph(rng, layers)
    write_sources(program, variant, folder)
    check(folder, program, vectors.random_inputs(program, 5, rng))
    shutil.rmtree(folder)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_every_compiler_takes_the_code_without_a_warning(tmp_path: Path, compiler: str) -> None:
    if compiler == "zig":
        pytest.importorskip("ziglang", reason="the compiler comes with policyport[rig]")
        command: tuple[str, ...] = (sys.executable, "-m", "ziglang", "cc")
    elif shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not on PATH")
    else:
        command = (compiler,)
    case = CASES[-1]
    for variant in VARIANTS:
        folder = tmp_path / variant
        folder.mkdir()
        write_sources(case.program, variant, folder)  # type: ignore[arg-type]
        with HostLibrary(folder, command) as library:
            np.testing.assert_array_equal(library.infer(case.input), case.layers[-1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_undefined_behaviour(tmp_path: Path, variant: str) -> None:
    """Extremes of every case under the undefined-behaviour sanitizer, whose traps would end the process."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not on PATH")
    for case in CASES:
        folder = tmp_path / case.name
        folder.mkdir()
        write_sources(case.program, variant, folder)  # type: ignore[arg-type]
        flags = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
        with HostLibrary(folder, (compiler,), flags) as library:
            np.testing.assert_array_equal(library.infer(case.input), case.layers[-1])


def test_multiply_without_a_long_multiply(tmp_path: Path) -> None:
    """The twin for Cortex-M0, against exact integers, corners first."""
    source = tmp_path / "twin.c"
    source.write_text(
        "#define PP_NO_LONG_MULTIPLY\n#include <stdint.h>\n"
        f'#include "{KERNEL_FOLDER / "pp_intrinsics.h"}"\n'
        "int32_t twin(int32_t a, int32_t m);\n"
        "int32_t twin(int32_t a, int32_t m) { return pp_multiply_high_round(a, m); }\n"
    )
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no host compiler on PATH")
    trap = "-ftrapv"
    subprocess.run(
        [compiler, *FLAGS, trap, "-shared", "-fPIC", "-o", str(tmp_path / "twin.so"), str(source)], check=True
    )
    twin = ctypes.CDLL(str(tmp_path / "twin.so")).twin
    corners = [0, 1, -1, 2, 32767, 32768, 65535, 65536, -65536, 2**30, 2**31 - 1, -(2**31), 0x7FFF8000, -0x7FFF8001]
    rng = np.random.default_rng(0)
    pairs = [(a, m) for a in corners for m in corners if m >= 0]
    pairs += [
        (int(a), int(m)) for a, m in zip(rng.integers(-(2**31), 2**31, 5000), rng.integers(0, 2**31, 5000), strict=True)
    ]
    for a, m in pairs:
        assert twin(a, m) == (a * m + 2**31) >> 32, (a, m)


def test_bad_inputs_are_refused(tmp_path: Path) -> None:
    program = vectors.random_program(Spec((3, 2), (8, 8), ("",)), np.random.default_rng(0))
    write_sources(program, "c", tmp_path)
    with HostLibrary(tmp_path) as library:
        for bad in (np.zeros((2, 4), int), np.zeros(3, int), np.full((1, 3), 128)):
            with pytest.raises(ObservationError):
                library.infer(bad)


def test_a_compiler_that_refuses_is_one_error(tmp_path: Path) -> None:
    program = vectors.random_program(Spec((3, 2), (8, 8), ("",)), np.random.default_rng(0))
    write_sources(program, "c", tmp_path)
    (tmp_path / "policy.c").write_text('#error "broken"\n')
    with pytest.raises(ToolError, match="broken"):
        HostLibrary(tmp_path)
