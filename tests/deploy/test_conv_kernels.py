"""Convolutions of two pixels at a time: numpy's integers, with and without the DSP extension, and their cost."""

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
from policyport.deploy.kernel_cost import Window, conv_instructions
from policyport.deploy.layout_conv import choose_layout, pack_conv, scratch_bytes

FILES = ("pp_conv.S", "pp_conv.c")


@dataclass(frozen=True)
class Shape:
    """A convolution in numbers."""

    height: int
    width: int
    channels: int
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    """Top, left, bottom, right."""

    weight_bits: int = 8
    shift: int = 0

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        top, left, bottom, right = self.pads
        rows = (self.height + top + bottom - self.kernel[0]) // self.stride[0] + 1
        return rows, (self.width + left + right - self.kernel[1]) // self.stride[1] + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        return int(np.prod((*self.places, self.outputs, *self.kernel, self.channels)))


class Case:
    """Random weights and input, and what they must yield."""

    def __init__(self, shape: Shape, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.shape = shape
        largest = 127 if shape.weight_bits == 8 else 7
        smallest = -127 if shape.weight_bits == 8 else -8
        self.weights = rng.integers(smallest, largest + 1, (shape.outputs, *shape.kernel, shape.channels))
        self.bias = rng.integers(-(2**17), 2**17, shape.outputs)
        taps = int(np.prod((*shape.kernel, shape.channels)))
        spread = largest / 1.7 * 74 * np.sqrt(taps) * 2**shape.shift
        self.multiplier = np.round(2**32 * 60 / spread * rng.uniform(0.3, 1.5, shape.outputs)).astype(np.int64)
        self.multiplier = np.minimum(self.multiplier, 2**31 - 1)
        self.input_zero_point, self.zero_point = (int(v) for v in rng.integers(-128, 128, 2))
        self.input = rng.integers(-128, 128, (shape.height, shape.width, shape.channels))

    @property
    def expected(self) -> Integers:
        """[rows, columns, outputs] by the formula."""
        shape = self.shape
        top, left, bottom, right = shape.pads
        image = np.pad(self.input, ((top, bottom), (left, right), (0, 0)), constant_values=self.input_zero_point)
        windows = np.lib.stride_tricks.sliding_window_view(image, shape.kernel, (0, 1))
        windows = windows[:: shape.stride[0], :: shape.stride[1]]
        accumulator = np.einsum("yxcij,oijc->yxo", windows, self.weights) + self.bias
        by = Requantization(self.multiplier, shape.shift)
        return semantics.requantize(accumulator, by, self.zero_point, -128, 127)

    def layer(self, blocks: int) -> bytes:
        """``pp_conv_t``."""
        shape = self.shape
        row = shape.kernel[1] * shape.channels
        groups = -(-row // 4)
        window = (shape.kernel[0], groups, shape.width * shape.channels - 4 * groups, row, 0)
        sizes = (shape.height, shape.width, shape.channels, *shape.places, shape.outputs, shape.kernel[1])
        geometry = (*shape.stride, *shape.pads[:2], self.input_zero_point)
        head = (blocks, self.zero_point, 2 * shape.kernel[0] * groups, shape.shift)
        return struct.pack("<IiHH HHiHH 7H 4Bb3x", *head, *window, *sizes, *geometry)


def run(machine: Any, case: Case, layout: str) -> Integers:
    """The kernel's output."""
    machine.clear()
    shape = case.shape
    words = pack_conv(case.weights, case.bias, case.multiplier, layout)  # type: ignore[arg-type]
    layer = machine.put(case.layer(machine.put(words.tobytes())))
    source = machine.put(case.input.astype(np.int8).tobytes())
    scratch_size = scratch_bytes(*shape.kernel, shape.channels)
    scratch, size = machine.put(scratch_size), int(np.prod((*shape.places, shape.outputs)))
    target = machine.put(size)
    machine.call(f"pp_conv_{layout}{'_shifted' if shape.shift else ''}", layer, source, target, scratch)
    machine.get(scratch, scratch_size)
    return np.frombuffer(machine.get(target, size), np.int8).reshape(*shape.places, shape.outputs).astype(np.int64)


def check(machine: Any, shape: Shape, seed: int, layout: str) -> None:
    case = Case(shape, seed)
    np.testing.assert_array_equal(run(machine, case, layout), case.expected)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Small convolutions of every kind, with at least one place."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    height, width = (draw(st.integers(kernel[i], 7)) for i in (0, 1))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    channels, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return Shape(height, width, channels, outputs, kernel, stride, pads, shift=draw(st.sampled_from([0, 0, 2])))  # type: ignore[arg-type]


@pytest.mark.parametrize("core", ["m4", "m3"])
@pytest.mark.parametrize("layout", ["pairs", "nibbles"])
@settings(max_examples=40, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 2**32 - 1))
def test_random_convolutions(kernels: Callable[..., Any], core: str, layout: str, shape: Shape, seed: int) -> None:
    bits = 8 if layout == "pairs" else 4
    check(kernels(core, *FILES), Shape(**{**vars(shape), "weight_bits": bits}), seed, layout)


@pytest.mark.parametrize("core", ["m7", "m33", "m0"])
@pytest.mark.parametrize("layout", ["pairs", "nibbles"])
def test_other_cores(kernels: Callable[..., Any], core: str, layout: str) -> None:
    check(kernels(core, *FILES), Shape(5, 6, 8, 12, weight_bits=8 if layout == "pairs" else 4), 3, layout)


@pytest.mark.parametrize(
    ("layout", "shape", "per_mac"),
    [
        ("pairs", Shape(32, 32, 16, 16), 0.925),
        ("nibbles", Shape(32, 32, 16, 16, weight_bits=4), 1.03),
        ("pairs", Shape(16, 16, 64, 64, (1, 1), pads=(0, 0, 0, 0)), 0.9),
        ("nibbles", Shape(16, 16, 64, 64, (1, 1), pads=(0, 0, 0, 0), weight_bits=4), 0.97),
        ("pairs", Shape(48, 48, 8, 16, (1, 1), pads=(0, 0, 0, 0)), 1.9),
        ("pairs", Shape(96, 96, 3, 8, stride=(2, 2), pads=(0, 0, 1, 1)), 1.71),
        ("pairs", Shape(49, 10, 1, 64, (10, 4), (2, 2), (4, 1, 5, 1)), 1.17),
    ],
)
def test_cost(kernels: Callable[..., Any], layout: str, shape: Shape, per_mac: float) -> None:
    """Measured with room of about 1 %. CMSIS-NN takes 2.33 instructions per multiply-accumulate for 3x3 (4.09 with
    4-bit weights) and 2.07 for 1x1."""
    machine = kernels("m4", *FILES)
    check(machine, shape, 1, layout)
    assert machine.instructions <= per_mac * shape.macs
    sizes = (shape.height, shape.width, shape.channels), (*shape.places, shape.outputs)
    window = Window(*sizes, shape.kernel, shape.stride, shape.pads[:2])
    assert machine.instructions == pytest.approx(conv_instructions(window, layout), rel=0.03)  # type: ignore[arg-type]


def test_kernels_are_small(kernels: Callable[..., Any]) -> None:
    machine = kernels("m4", *FILES)
    driver = machine.code_bytes("pp_run", "pp_window_row", "pp_widen_windows")
    assert driver + machine.code_bytes("pp_columns_pairs") <= 1_800
    assert driver + machine.code_bytes("pp_columns_nibbles") <= 1_950


def test_a_layout_is_chosen_only_where_it_is_exact() -> None:
    ones = np.ones((4, 1, 1, 64), np.int64)
    assert choose_layout(ones * 7, np.zeros(4, np.int64), -128, 127) == "nibbles"
    assert choose_layout(ones * 8, np.zeros(4, np.int64), -128, 127) == "pairs"
    assert choose_layout(ones * 7, np.full(4, 2**20), -128, 127) == "pairs"
    assert choose_layout(ones * 8, np.full(4, 2**24), -128, 127) is None
    assert choose_layout(ones * -128, np.zeros(4, np.int64), -128, 127) is None
