"""Fully connected layers in blocks of four rows: numpy's integers, with and without the DSP extension, and cost."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core import semantics
from policyport.core.semantics import Integers, Requantization
from policyport.deploy.layout_blocks import fits, pack_blocks

FILES = ("pp_blocks.S", "pp_blocks.c")


@dataclass(frozen=True)
class Shape:
    """A fully connected layer in numbers."""

    inputs: int
    outputs: int
    layout: str
    largest: int = 127
    shift: int = 0


def run(machine: Any, shape: Shape, seed: int) -> tuple[Integers, Integers]:
    """What the kernel yields and what it must yield, [outputs]."""
    rng = np.random.default_rng(seed)
    smallest = -8 if shape.largest == 7 else -shape.largest
    weights = rng.integers(smallest, shape.largest + 1, (shape.outputs, shape.inputs))
    bias = rng.integers(-(2**16), 2**16, shape.outputs)
    assert fits(weights, bias, -128, 127, shape.layout)  # type: ignore[arg-type]
    spread = shape.largest * 43 * np.sqrt(shape.inputs) * 2**shape.shift
    multiplier = np.round(2**32 * 60 / spread * rng.uniform(0.3, 1.5, shape.outputs)).astype(np.int64)
    multiplier = np.minimum(multiplier, 2**31 - 1)
    zero_point = int(rng.integers(-128, 128))
    q_input = rng.integers(-128, 128, shape.inputs)
    machine.clear()
    blocks = machine.put(pack_blocks(weights, bias, multiplier, shape.layout).tobytes())  # type: ignore[arg-type]
    rows, steps = -(-shape.outputs // 4) * 4, -(-shape.inputs // 4)
    layer = machine.put(struct.pack("<IiHHII", blocks, zero_point, steps, rows, 0, shape.shift))
    # The padding of the input may hold anything.
    stored = np.concatenate([q_input, rng.integers(-128, 128, 4 * steps - shape.inputs)])
    source, target = machine.put(stored.astype(np.int16).tobytes()), machine.put(2 * rows)
    machine.call(f"pp_blocks_{shape.layout}_s8{'_shifted' if shape.shift else ''}", layer, source, target)
    got = np.frombuffer(machine.get(target, 2 * rows), np.int16)[: shape.outputs].astype(np.int64)
    by = Requantization(multiplier, shape.shift)
    return got, semantics.requantize(weights @ q_input + bias, by, zero_point, -128, 127)


@pytest.mark.parametrize("core", ["m4", "m3"])
@settings(max_examples=60, deadline=None)
@given(
    shape=st.builds(
        Shape,
        st.integers(1, 70),
        st.integers(1, 12),
        st.sampled_from(["pairs", "bytes", "halfwords", "nibbles"]),
        st.just(7),
        st.sampled_from([0, 0, 3]),
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_layers(kernels: Callable[..., Any], core: str, shape: Shape, seed: int) -> None:
    got, expected = run(kernels(core, *FILES), shape, seed)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("shape", "instructions"),
    [
        (Shape(256, 256, "pairs"), 60_500),
        (Shape(256, 256, "nibbles", 7), 69_300),
    ],
)
def test_cost(kernels: Callable[..., Any], shape: Shape, instructions: int) -> None:
    """Measured with room of about 1 %. CMSIS-NN takes 138,107 with 8-bit weights and 332,033 with 4-bit ones."""
    machine = kernels("m4", *FILES)
    got, expected = run(machine, shape, 1)
    np.testing.assert_array_equal(got, expected)
    assert machine.instructions <= instructions
