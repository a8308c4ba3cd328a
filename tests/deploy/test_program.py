"""The program on disk, its hash, and the host's part before and behind it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, ObservationError
from policyport.deploy import reference, vectors
from policyport.deploy.program import (
    HostInput,
    Program,
    dequantize_output,
    program_sha256,
    quantize_input,
    read_program,
    write_program,
)
from policyport.deploy.vectors import Spec


@pytest.fixture
def program() -> Program:
    spec = Spec((4, 9, 3), (8, 16, 16), ("Tanh", ""))
    made = vectors.with_lookup(vectors.random_program(spec, np.random.default_rng(1)), "Sigmoid")
    host = HostInput(np.float32([1, 0, 0, -2]), np.float32([1, 2, 0.5, 1]), -1.5, np.inf)
    return replace(made, host_input=host)


def test_what_is_written_is_read(program: Program, tmp_path: Path) -> None:
    write_program(program, tmp_path)
    again = read_program(tmp_path)
    assert program_sha256(again) == program_sha256(program)
    q = vectors.random_inputs(program, 20, np.random.default_rng(2))
    for a, b in zip(reference.run(program, q), reference.run(again, q), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.host_input.low == -1.5 and again.host_input.high == np.inf
    np.testing.assert_array_equal(again.host_input.offset, program.host_input.offset)
    assert (again.input, again.output) == (program.input, program.output)


def test_same_program_same_bytes(program: Program, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_program(program, tmp_path / name)
    for file in ("program.json", "program.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_hash_sees_every_change(program: Program) -> None:
    first = program.layers[0]
    bias = first.bias.copy()  # type: ignore[union-attr]
    bias[2] += 1
    changed = [
        replace(program, layers=(replace(first, bias=bias), *program.layers[1:])),  # type: ignore[call-arg]
        replace(program, input=replace(program.input, zero_point=program.input.zero_point + 1)),
        replace(program, host_input=replace(program.host_input, high=4.0)),
    ]
    assert len({program_sha256(p) for p in [program, *changed]}) == 4


@pytest.mark.parametrize("key", ["schema", "semantics"])
def test_other_versions_are_refused(program: Program, tmp_path: Path, key: str) -> None:
    write_program(program, tmp_path)
    table = json.loads((tmp_path / "program.json").read_text())
    table[key] += 1
    (tmp_path / "program.json").write_text(json.dumps(table))
    with pytest.raises(ArtifactError, match=f"another {key}"):
        read_program(tmp_path)


def test_torn_programs_are_refused(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no readable program"):
        read_program(tmp_path)
    write_program(program, tmp_path)
    archive = tmp_path / "program.npz"
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="no readable program"):
        read_program(tmp_path)
    write_program(program, tmp_path)
    table = json.loads((tmp_path / "program.json").read_text())
    del table["layers"][0]["requantize"]
    (tmp_path / "program.json").write_text(json.dumps(table))
    with pytest.raises(ArtifactError, match="torn program"):
        read_program(tmp_path)


def test_host_part_then_quantize_linear(program: Program) -> None:
    tensor = replace(program.input, scale=0.5, zero_point=3)
    q = quantize_input(replace(program, input=tensor), np.float32([[1.25, -9, 7, 1e9], [0.75, 0, 2.5, -2]]))
    # (x - offset) * gain = .25, -18 clipped to -1.5, 3.5, huge; -.25, 0, 1.25, 0; half to even, plus 3
    np.testing.assert_array_equal(q, [[3, 0, 10, 127], [3, 3, 5, 3]])


def test_outputs_become_real(program: Program) -> None:
    real = dequantize_output(program, np.array([[0, 32767, -5]]))
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, np.float32([[0, 32767 / 32768, -5 / 32768]]))


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.zeros(4), np.full((1, 4), np.nan), np.array([[0, 0, np.inf, 0]])])
def test_bad_observations_are_refused(program: Program, bad: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    with pytest.raises(ObservationError):
        quantize_input(program, bad.astype(np.float32))


def test_sizes(program: Program) -> None:
    assert program.macs == program.weight_count == 4 * 9 + 9 * 3
