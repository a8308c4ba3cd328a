"""Winograd convolutions: the integers of any convolution, with and without the DSP extension, and their cost."""

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
from policyport.deploy.kernel_cost import Window, winograd_instructions
from policyport.deploy.layout_winograd import fits, pack_winograd, scratch_bytes

FILES = ("pp_winograd.S", "pp_winograd.c")


@dataclass(frozen=True)
class Shape:
    """A 3x3 convolution of stride 1 in numbers."""

    height: int
    width: int
    channels: int
    outputs: int
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Top, left, bottom, right."""

    shift: int = 0

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        top, left, bottom, right = self.pads
        return self.height + top + bottom - 2, self.width + left + right - 2

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the direct convolution, padding included."""
        return int(np.prod(self.places)) * self.outputs * self.channels * 9


def run(machine: Any, shape: Shape, seed: int) -> tuple[Integers, Integers]:
    """What the kernel yields and what it must yield, [rows, columns, outputs]."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (shape.outputs, 3, 3, shape.channels))
    bias = rng.integers(-(2**17), 2**17, shape.outputs)
    spread = 74 * 74 * np.sqrt(9 * shape.channels) * 2**shape.shift
    multiplier = np.round(2**32 * 60 / spread * rng.uniform(0.3, 1.5, shape.outputs)).astype(np.int64)
    source_zero_point, zero_point = (int(v) for v in rng.integers(-128, 128, 2))
    image = rng.integers(-128, 128, (shape.height, shape.width, shape.channels))
    assert fits(weights, bias, -128, 127)
    machine.clear()
    layer = machine.put(
        struct.pack(
            "<Ii6H3Bb",
            machine.put(pack_winograd(weights, bias, multiplier).tobytes()),
            zero_point,
            shape.height,
            shape.width,
            shape.channels,
            *shape.places,
            shape.outputs,
            *shape.pads[:2],
            shape.shift,
            source_zero_point,
        )
    )
    scratch_size, size = scratch_bytes(shape.channels), int(np.prod((*shape.places, shape.outputs)))
    source, scratch, target = (machine.put(x) for x in (image.astype(np.int8).tobytes(), scratch_size, size))
    machine.call(f"pp_winograd{'_shifted' if shape.shift else ''}", layer, source, target, scratch)
    machine.get(scratch, scratch_size)
    got = np.frombuffer(machine.get(target, size), np.int8).reshape(*shape.places, shape.outputs)

    top, left, bottom, right = shape.pads
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=source_zero_point)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
    accumulator = np.einsum("yxcij,oijc->yxo", windows, weights) + bias
    by = Requantization(multiplier, shape.shift)
    return got.astype(np.int64), semantics.requantize(accumulator, by, zero_point, -128, 127)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Small images with any padding that leaves a place."""
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    height, width = (draw(st.integers(max(1, 3 - pads[i] - pads[i + 2]), 7)) for i in (0, 1))
    channels, outputs = 8 * draw(st.integers(1, 2)), 2 * draw(st.integers(1, 3))
    return Shape(height, width, channels, outputs, pads, draw(st.sampled_from([0, 0, 2])))  # type: ignore[arg-type]


@pytest.mark.parametrize("core", ["m4", "m3"])
@settings(max_examples=40, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 2**32 - 1))
def test_random_images(kernels: Callable[..., Any], core: str, shape: Shape, seed: int) -> None:
    got, expected = run(kernels(core, *FILES), shape, seed)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("core", ["m7", "m33", "m0"])
def test_other_cores(kernels: Callable[..., Any], core: str) -> None:
    got, expected = run(kernels(core, *FILES), Shape(7, 5, 16, 6), 3)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("shape", "per_mac"),
    [(Shape(32, 32, 16, 16), 0.615), (Shape(16, 16, 32, 32), 0.48), (Shape(8, 8, 64, 64), 0.412)],
)
def test_cost(kernels: Callable[..., Any], shape: Shape, per_mac: float) -> None:
    """Measured with room of about 1 %. CMSIS-NN takes 2.33 instructions per multiply-accumulate for the first."""
    machine = kernels("m4", *FILES)
    got, expected = run(machine, shape, 1)
    np.testing.assert_array_equal(got, expected)
    assert machine.instructions <= per_mac * shape.macs
    sizes = (shape.height, shape.width, shape.channels), (*shape.places, shape.outputs)
    window = Window(*sizes, (3, 3), (1, 1), shape.pads[:2])
    assert machine.instructions == pytest.approx(winograd_instructions(window), rel=0.03)


def test_fits_only_where_it_is_exact() -> None:
    weights, zeros = np.full((2, 3, 3, 8), 127), np.zeros(2, np.int64)
    assert fits(weights, zeros, -128, 127)
    assert not fits(weights, zeros + 2**29, -128, 127)
    assert not fits(weights[:, :2], zeros, -128, 127)
    assert not fits(weights[..., :4], zeros, -128, 127)
    assert not fits(weights[:1], zeros[:1], -128, 127)
