"""Layers given as data yield what the integer reference does, whatever comes after one another in one library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ObservationError
from policyport.deploy import reference
from policyport.deploy.chain import Chain, ChainLayer, compile_chain
from policyport.deploy.layers import FullyConnected
from policyport.deploy.program import Program
from policyport.deploy.vectors import Spec, random_inputs, random_program

SPECS = (
    Spec((4, 16, 16, 2), (8, 8, 8, 8), ("Relu", "Relu", "")),
    Spec((4, 9, 16, 2), (16, 16, 16, 16), ("Tanh", "Tanh", "")),
    Spec((7, 20, 12, 1), (16, 8, 8, 16), ("Tanh", "Relu", "Tanh")),
    Spec((33, 5), (8, 16), ("Clip",), gain=8.0),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "chain.so"
    compile_chain(path)
    return path


def chain_of(program: Program, library: Path) -> Chain:
    layers = []
    for layer in program.layers:
        assert isinstance(layer, FullyConnected)
        before, by = layer.before_table, layer.requantize
        integers = layer.weights.astype(np.int8), layer.bias.astype(np.int32), by.multiplier.astype(np.int32)
        layers.append(
            ChainLayer(*integers, by.shift, before.zero_point, before.low, before.high, layer.table, layer.output.bits)
        )
    return Chain(library, layers, program.input.bits)


def test_every_chain_is_the_reference(library: Path) -> None:
    rng = np.random.default_rng(5)
    programs = [random_program(spec, rng) for spec in SPECS for _ in range(3)]
    chains = [chain_of(program, library) for program in programs]
    for program, chain in zip(programs, chains, strict=True):  # all of them alive in one library
        q = random_inputs(program, 20, rng)
        np.testing.assert_array_equal(chain.infer(q), reference.run(program, q)[-1])


def test_inputs_of_another_size_are_refused(library: Path) -> None:
    chain = chain_of(random_program(SPECS[0], np.random.default_rng(0)), library)
    with pytest.raises(ObservationError, match="wrong shape"):
        chain.infer(np.zeros((2, 5), np.int64))
