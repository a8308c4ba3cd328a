"""Sums, pools and clamps of four int8 at a time: the operators' integers, with and without the DSP extension."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core import operators, semantics
from policyport.core.operators import Window
from policyport.core.semantics import Integers

FILES = ("pp_s8x4.c", "pp_pool_s8x4.c")
CORES = pytest.mark.parametrize("core", ["m4", "m3"])


def bytes_of(values: Integers) -> bytes:
    return values.astype(np.int8).tobytes()


def integers(data: bytes) -> Integers:
    return np.frombuffer(data, np.int8).astype(np.int64)


def bounds(draw: st.DrawFn) -> tuple[int, int]:
    """Smallest and largest integer of an output."""
    low, high = sorted(draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127))))
    return draw(st.sampled_from([(-128, 127), (low, high)]))


@CORES
@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_clamps(kernels: Callable[..., Any], core: str, data: st.DataObject, size: int, seed: int) -> None:
    machine = kernels(core, *FILES)
    machine.clear()
    low, high = bounds(data.draw)
    values = np.random.default_rng(seed).integers(-128, 128, size)
    place = machine.put(bytes_of(values))
    machine.call("pp_clamp_s8", place, size, low & 0xFFFFFFFF, high & 0xFFFFFFFF)
    np.testing.assert_array_equal(integers(machine.get(place, size)), np.clip(values, low, high))


def run_sum(machine: Any, size: int, ratios: tuple[float, float], limits: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    zero_points = [int(v) for v in rng.integers(-128, 128, 2)]
    by = operators.weighted_sum(ratios, zero_points, [(-128, 127)] * 2, int(rng.integers(-128, 128)))
    a, b = rng.integers(-128, 128, (2, size))
    machine.clear()
    struct_ = machine.put(struct.pack("<hhiHhhxx", *by.multipliers, by.constant, by.shift, *limits))
    places = [machine.put(bytes_of(a)), machine.put(bytes_of(b))]
    # In place of the second operand.
    machine.call("pp_sum_s8x4", struct_, *places, places[1], size)
    np.testing.assert_array_equal(integers(machine.get(places[1], size)), operators.add([a, b], by, *limits))


@CORES
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    size=st.integers(1, 40),
    ratios=st.tuples(st.floats(-3, 3), st.floats(-3, 3)).filter(lambda pair: any(pair)),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums(
    kernels: Callable[..., Any], core: str, data: st.DataObject, size: int, ratios: tuple[float, float], seed: int
) -> None:
    run_sum(kernels(core, *FILES), size, ratios, bounds(data.draw), seed)


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, int], Window]:
    """An image's height and width, and a window that sees at least one pixel at each place."""
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    kernel = draw(st.tuples(st.integers(1, size[0]), st.integers(1, size[1])))
    pads = tuple(draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    return size, Window(kernel, draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), (1, 1), pads)  # type: ignore[arg-type]


def run_pool(
    machine: Any,
    kind: str,
    shape: tuple[int, int, int],
    window: Window,
    seed: int,
    limits: tuple[int, int] = (-128, 127),
    count_padding: bool = False,
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(-128, 128, (1, *shape))
    zero_points = [int(v) for v in rng.integers(-128, 128, 2)]
    by = operators.average_requantization(0.1, float(rng.uniform(0.03, 0.2)), window, -255, 255)
    ones = np.ones((1, *shape[:2], 1), np.int64)
    fewest = int(operators.patches(ones, window, int(count_padding)).sum(axis=(3, 4)).min())
    places = window.output_size(*shape[:2])
    machine.clear()
    multiplier = machine.put(by.multiplier[fewest - 1 :].astype(np.int32).tobytes())
    sizes = (*shape, *places, shape[2], *window.kernel, *window.stride, *window.dilation, *window.pads[:2])
    tail = (multiplier, fewest, int(count_padding), by.shift)
    layer = machine.put(struct.pack("<14H4hI3Hxx", *sizes, *limits, *zero_points, *tail))
    source, size = machine.put(bytes_of(image)), places[0] * places[1] * shape[2]
    target = machine.put(size)
    machine.call(f"pp_{kind}_pool_s8x4", layer, source, target)
    got = integers(machine.get(target, size)).reshape(1, *places, shape[2])
    if kind == "max":
        expected = np.clip(operators.max_pool(image, window), *limits)
    else:
        expected = operators.average_pool(image, window, by, *zero_points, *limits, count_padding)
    np.testing.assert_array_equal(got, expected)


@CORES
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    kind=st.sampled_from(["max", "average"]),
    pool=windows(),
    channels=st.sampled_from([4, 8, 12]),
    count_padding=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_pools(
    kernels: Callable[..., Any],
    core: str,
    data: st.DataObject,
    kind: str,
    pool: tuple[tuple[int, int], Window],
    channels: int,
    count_padding: bool,
    seed: int,
) -> None:
    (height, width), window = pool
    machine = kernels(core, *FILES)
    run_pool(machine, kind, (height, width, channels), window, seed, bounds(data.draw), count_padding)


def test_a_mean_of_255_pixels_of_one_sign_fits(kernels: Callable[..., Any]) -> None:
    machine = kernels("m4", *FILES)
    window = Window((15, 17))
    run_pool(machine, "average", (15, 17, 4), window, 1)
    assert machine.instructions < 15 * 17 * 4 * 3
    assert semantics.activation_range(8)[0] * 255 >= -(2**15)


def test_cost(kernels: Callable[..., Any]) -> None:
    """Per element of the output. The plain kernels take 19 for a sum and 70 for a pool of 2 x 2."""
    machine = kernels("m4", *FILES)
    run_sum(machine, 1024, (0.7, 0.4), (-128, 127), 1)
    assert machine.instructions <= 10.2 * 1024
    run_pool(machine, "max", (16, 16, 32), Window((2, 2), (2, 2)), 1)
    assert machine.instructions <= 7.5 * 8 * 8 * 32
