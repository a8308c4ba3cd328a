"""Fully connected layers of 3- and 2-bit weights: numpy's integers, with and without the DSP extension, and cost."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core import semantics
from policyport.core.semantics import Integers, Requantization, weight_range
from policyport.deploy.layout_digits import BITS, ROWS, DigitLayout, block_starts, fits, pack_digits

FILES = ("pp_digits.S", "pp_digits.c")


def run(
    machine: Any, layout: DigitLayout, inputs: int, outputs: int, seed: int, width: int = 8, shift: int = 0
) -> tuple[Integers, Integers]:
    """What the kernel yields and what it must yield, [outputs]."""
    rng = np.random.default_rng(seed)
    low, high = weight_range(BITS[layout])
    weights = rng.integers(low, high + 1, (outputs, inputs))
    bias = rng.integers(-1000, 1000, outputs)
    assert fits(weights, bias, -128, 127, layout)
    spread = high * 74 * np.sqrt(inputs) * 2**shift / (1 if width == 8 else 256)
    multiplier = np.round(2**32 * 40 / spread * rng.uniform(0.1, 1.0, outputs)).astype(np.int64)
    multiplier = np.minimum(multiplier, 2**31 - 1)
    zero_point = int(rng.integers(-128, 128))
    q_input = rng.integers(-128, 128, inputs)
    machine.clear()
    blocks = machine.put(pack_digits(weights, bias, multiplier, layout).tobytes())
    steps = -(-inputs // 4)
    layer = machine.put(struct.pack("<IiHHII", blocks, zero_point, steps, outputs, 0, shift))
    # The padding of the input may hold anything.
    stored = np.concatenate([q_input, rng.integers(-128, 128, 4 * steps - inputs)])
    source, target = machine.put(stored.astype(np.int16).tobytes()), machine.put(2 * outputs)
    machine.call(f"pp_digits_{layout}_s{width}{'_shifted' if shift else ''}", layer, source, target)
    got = np.frombuffer(machine.get(target, 2 * outputs), np.int16).astype(np.int64)
    by = Requantization(multiplier, shift)
    limits = semantics.activation_range(width)
    return got, semantics.requantize(weights @ q_input + bias, by, zero_point, *limits)


@pytest.mark.parametrize("core", ["m4", "m3"])
@settings(max_examples=60, deadline=None)
@given(
    layout=st.sampled_from(["octals", "crumbs"]),
    inputs=st.integers(1, 70),
    more=st.integers(0, 20),
    width=st.sampled_from([8, 16]),
    shift=st.sampled_from([0, 0, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_layers(
    kernels: Callable[..., Any],
    core: str,
    layout: DigitLayout,
    inputs: int,
    more: int,
    width: int,
    shift: int,
    seed: int,
) -> None:
    got, expected = run(kernels(core, *FILES), layout, inputs, ROWS[layout] + more, seed, width, shift)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("layout", "instructions"), [("octals", 72_600), ("crumbs", 70_300)])
def test_cost(kernels: Callable[..., Any], layout: DigitLayout, instructions: int) -> None:
    """Measured with room of about 1 %, 256 x 256; no peer has such weights, CMSIS-NN takes 332,033 for 4-bit ones."""
    machine = kernels("m4", *FILES)
    got, expected = run(machine, layout, 256, 256, 1)
    np.testing.assert_array_equal(got, expected)
    assert machine.instructions <= instructions


def test_blocks_cover_every_row_and_take_their_bits() -> None:
    assert block_starts(13, "octals") == [0, 5, 8]
    weights = np.zeros((256, 256), np.int64)
    weights[:, 0] = 1
    assert pack_digits(weights, weights[:, 0], weights[:, 0], "crumbs").nbytes == 256 * 256 // 4 + 256 * 8
    assert pack_digits(weights, weights[:, 0], weights[:, 0], "octals").nbytes == 52 * (128 + 10) * 4


def test_fits_only_where_it_is_exact() -> None:
    ones, zeros = np.ones((8, 8), np.int64), np.zeros(8, np.int64)
    assert fits(ones, zeros, -128, 127, "crumbs")
    assert not fits(ones, zeros + 2**17, -128, 127, "crumbs")
    assert fits(ones, zeros + 2**17, -128, 127, "octals")
    assert not fits(2 * ones, zeros, -128, 127, "crumbs")
    assert not fits(ones[:4], zeros[:4], -128, 127, "octals")
