"""The reference interpreter against the golden vectors, and against arithmetic written out another way."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ArtifactError, ObservationError
from policyport.core.semantics import Integers
from policyport.deploy import reference, vectors
from policyport.deploy.layers import FullyConnected, Lookup
from policyport.deploy.program import Program
from policyport.deploy.vectors import Case, Spec

GOLDEN = Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME
CASES = vectors.read_cases(GOLDEN)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_golden_vectors(case: Case) -> None:
    for got, expected in zip(reference.run(case.program, case.input), case.layers, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_golden_vectors_are_those_of_this_version(tmp_path: Path) -> None:
    assert vectors.main([str(tmp_path)]) == 0
    assert {case.name for case in CASES} == {case.name for case in vectors.read_cases(tmp_path / vectors.FILE_NAME)}


def test_golden_vectors_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_text('{"vectors": 99, "semantics": 1, "cases": []}')
    with pytest.raises(ArtifactError, match="another version"):
        vectors.read_cases(path)


def by_hand(program: Program, row: list[int]) -> list[list[int]]:
    """The program in exact fractions and plain Python integers."""
    outputs = []
    for layer in program.layers:
        if isinstance(layer, FullyConnected):
            row = [_output(layer, o, row) for o in range(len(layer.bias))]
        else:
            assert isinstance(layer, Lookup)
            row = [_by_table(layer.table.tolist(), q) for q in row]
        outputs.append(row)
    return outputs


def _output(layer: FullyConnected, o: int, row: list[int]) -> int:
    total = int(layer.bias[o]) + sum(int(w) * q for w, q in zip(layer.weights[o], row, strict=True))
    by, before = layer.requantize, layer.before_table
    scaled = Fraction(total * 2**by.shift * int(by.multiplier[o]), 2**32)
    q = max(before.low, min(before.high, floor(scaled + Fraction(1, 2)) + before.zero_point))
    return q if layer.table is None else _by_table(layer.table.tolist(), q)


def _by_table(table: list[int], q: int) -> int:
    if len(table) == 256:
        return table[q + 128]
    index, fraction = divmod(q + 32768, 256)
    return floor(Fraction(table[index] * (256 - fraction) + table[index + 1] * fraction, 256) + Fraction(1, 2))


@given(
    bits=st.lists(st.sampled_from([8, 16]), min_size=3, max_size=3),
    functions=st.lists(st.sampled_from(["", "Relu", "Clip", "Tanh", "Sigmoid"]), min_size=2, max_size=2),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_exact_fractions(bits: list[int], functions: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = vectors.random_program(Spec((5, 4, 3), tuple(bits), tuple(functions), gain=3.0), rng)
    inputs = vectors.random_inputs(program, 5, rng)
    got = reference.run(program, inputs)
    for i, row in enumerate(inputs.tolist()):
        assert [layer[i].tolist() for layer in got] == by_hand(program, row)


@pytest.mark.parametrize("bad", [np.zeros((3, 4), int), np.zeros(5, int), np.full((1, 5), 200), np.full((1, 5), -129)])
def test_bad_inputs_are_refused(bad: Integers) -> None:
    program = CASES[0].program
    assert program.input.size == 5 and program.input.bits == 8
    with pytest.raises(ObservationError):
        reference.run(program, bad)
