"""Depthwise 3x3 convolutions: numpy's integers, with and without the DSP extension, and their cost."""

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
from policyport.deploy.kernel_cost import Window, depthwise_instructions
from policyport.deploy.layout_depthwise import pack_depthwise, ring_bytes

FILES = ("pp_depthwise.S", "pp_depthwise.c")


@dataclass(frozen=True)
class Shape:
    """A depthwise convolution in numbers; its last row and column of padding are what the output's size asks for."""

    height: int
    width: int
    channels: int
    stride: int = 1
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Top, left, bottom, right."""

    shift: int = 0
    turned: bool = False
    """Rows run along the height."""

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        top, left, bottom, right = self.pads
        return (self.height + top + bottom - 3) // self.stride + 1, (self.width + left + right - 3) // self.stride + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        return int(np.prod(self.places)) * self.channels * 9


def _packed(shape: Shape, weights: Integers, bias: Integers, multiplier: Integers) -> bytes:
    return pack_depthwise(weights.transpose(0, 2, 1) if shape.turned else weights, bias, multiplier).tobytes()


def _layer(shape: Shape, weights: int, zero_point: int, padding: int) -> bytes:
    """``pp_depthwise_t``."""
    (height, width), channels = shape.places, shape.channels
    pixel, rows = (channels, channels), (shape.width * channels, width * channels)
    sizes, pads = (shape.height, shape.width, height, width), shape.pads[:2]
    if shape.turned:
        pixel, rows = rows, pixel
        sizes, pads = (shape.width, shape.height, width, height), pads[::-1]
    steps = (pixel[0], rows[0], pixel[1], rows[1])
    return struct.pack("<Ii4I5H3Bbxx", weights, zero_point, *steps, *sizes, channels, *pads, shape.shift, padding)


def run(machine: Any, shape: Shape, seed: int) -> tuple[Integers, Integers]:
    """What the kernel yields and what it must yield, [rows, columns, channels]."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (shape.channels, 3, 3))
    bias = rng.integers(-(2**17), 2**17, shape.channels)
    multiplier = rng.integers(2**30, 2**31, shape.channels) >> (9 + shape.shift)
    source_zero_point, zero_point = (int(v) for v in rng.integers(-128, 128, 2))
    image = rng.integers(-128, 128, (shape.height, shape.width, shape.channels))
    machine.clear()
    layer = machine.put(
        _layer(shape, machine.put(_packed(shape, weights, bias, multiplier)), zero_point, source_zero_point)
    )
    ring_size, size = (
        ring_bytes(shape.stride, shape.places[0 if shape.turned else 1]),
        int(np.prod(shape.places)) * shape.channels,
    )
    source, ring, target = machine.put(image.astype(np.int8).tobytes()), machine.put(ring_size), machine.put(size)
    machine.call(f"pp_depthwise_s{shape.stride}{'_shifted' if shape.shift else ''}", layer, source, target, ring)
    machine.get(ring, ring_size)
    got = np.frombuffer(machine.get(target, size), np.int8).reshape(*shape.places, shape.channels)

    top, left, bottom, right = shape.pads
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=source_zero_point)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))[:: shape.stride, :: shape.stride]
    accumulator = np.einsum("yxcij,cij->yxc", windows, weights) + bias
    by = Requantization(multiplier, shape.shift)
    return got.astype(np.int64), semantics.requantize(accumulator, by, zero_point, -128, 127)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Small images with any padding that leaves a place."""
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    height, width = (draw(st.integers(max(1, 3 - pads[i] - pads[i + 2]), 9)) for i in (0, 1))
    channels, stride = draw(st.integers(4, 9)), draw(st.integers(1, 2))
    return Shape(height, width, channels, stride, pads, draw(st.sampled_from([0, 0, 3])), draw(st.booleans()))  # type: ignore[arg-type]


@pytest.mark.parametrize("core", ["m4", "m3"])
@settings(max_examples=60, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 2**32 - 1))
def test_random_images(kernels: Callable[..., Any], core: str, shape: Shape, seed: int) -> None:
    got, expected = run(kernels(core, *FILES), shape, seed)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("core", ["m7", "m33", "m0"])
@pytest.mark.parametrize("stride", [1, 2])
def test_other_cores(kernels: Callable[..., Any], core: str, stride: int) -> None:
    got, expected = run(kernels(core, *FILES), Shape(7, 5, 8, stride), 3)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("shape", "per_mac"),
    [
        (Shape(16, 16, 64), 1.86),
        (Shape(25, 5, 64, turned=True), 1.95),
        (Shape(48, 48, 8), 1.69),
        (Shape(48, 48, 16, 2, (0, 0, 1, 1)), 2.65),
    ],
)
def test_cost(kernels: Callable[..., Any], shape: Shape, per_mac: float) -> None:
    """Measured with room of about 1 %. CMSIS-NN takes 7.96 instructions per multiply-accumulate for the first."""
    machine = kernels("m4", *FILES)
    got, expected = run(machine, shape, 1)
    np.testing.assert_array_equal(got, expected)
    assert machine.instructions <= per_mac * shape.macs
    sizes = (shape.height, shape.width, shape.channels), (*shape.places, shape.channels)
    window = Window(*sizes, (3, 3), (shape.stride, shape.stride), shape.pads[:2])
    estimate = depthwise_instructions(window.turned if shape.turned else window)
    assert machine.instructions == pytest.approx(estimate, rel=0.03)
