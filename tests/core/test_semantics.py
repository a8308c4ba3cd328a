"""Integer semantics: each formula against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core import semantics
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import INT32_MAX, Requantization

INT32 = st.integers(-INT32_MAX, INT32_MAX)
MULTIPLIER = st.integers(0, INT32_MAX)
WIDTHS = st.sampled_from([8, 16])


def integers(*values: int) -> semantics.Integers:
    return np.array(values, np.int64)


@given(accumulator=INT32, multiplier=MULTIPLIER, zero_point=st.integers(-128, 127))
def test_requantize_is_exact_rounding_half_up(accumulator: int, multiplier: int, zero_point: int) -> None:
    exact = math.floor(Fraction(accumulator * multiplier, 2**32) + Fraction(1, 2)) + zero_point
    by = Requantization(integers(multiplier), 0)
    got = semantics.requantize(integers(accumulator), by, zero_point, -(2**40), 2**40)
    assert got.tolist() == [exact]


@given(accumulator=st.integers(-(2**20), 2**20), multiplier=MULTIPLIER, shift=st.integers(0, 11))
def test_the_shift_comes_before_the_multiply(accumulator: int, multiplier: int, shift: int) -> None:
    exact = math.floor(Fraction((accumulator << shift) * multiplier, 2**32) + Fraction(1, 2))
    got = semantics.requantize(integers(accumulator), Requantization(integers(multiplier), shift), 0, -(2**60), 2**60)
    assert got.tolist() == [exact]


@given(accumulator=INT32, multiplier=MULTIPLIER, width=WIDTHS)
def test_requantize_stays_in_its_range(accumulator: int, multiplier: int, width: int) -> None:
    low, high = semantics.activation_range(width)
    got = semantics.requantize(integers(accumulator), Requantization(integers(multiplier), 0), 0, low, high)
    assert low <= got[0] <= high


@given(first=INT32, second=INT32, multiplier=MULTIPLIER)
def test_requantize_keeps_the_order(first: int, second: int, multiplier: int) -> None:
    low, high = sorted((first, second))
    by = Requantization(integers(multiplier, multiplier), 0)
    a, b = semantics.requantize(integers(low, high), by, 0, -(2**40), 2**40)
    assert a <= b


@given(ratio=st.floats(1e-12, 100.0), others=st.lists(st.floats(0.0, 0.4), max_size=3))
def test_the_multiplier_is_the_nearest_to_the_ratio(ratio: float, others: list[float]) -> None:
    by = semantics.requantization(np.array([ratio, *others]), 1)
    assert by.multiplier.min() >= 0 and by.multiplier.max() <= INT32_MAX
    unit = Fraction(2**by.shift, 2**32)
    for wanted, multiplier in zip([ratio, *others], by.multiplier.tolist(), strict=True):
        assert abs(multiplier * unit - Fraction(wanted)) <= unit / 2
    if by.shift:
        assert math.floor(max(ratio, *others, 0) * 2.0 ** (33 - by.shift) + 0.5) > INT32_MAX


@pytest.mark.parametrize("ratio", [-0.1, math.inf, math.nan, 2.0**29])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(UnsupportedModelError, match="layer 3"):
        semantics.requantization(np.array([ratio]), 1, "layer 3")


def test_an_accumulator_that_can_overflow_is_refused() -> None:
    semantics.requantization(np.array([0.1]), INT32_MAX)
    with pytest.raises(UnsupportedModelError, match="overflow"):
        semantics.requantization(np.array([0.1]), INT32_MAX + 1)
    with pytest.raises(UnsupportedModelError, match="shifted left by 1"):
        semantics.requantization(np.array([0.9]), INT32_MAX)


ROW = st.integers(1, 12)


@given(data=st.data(), inputs=ROW, outputs=ROW, width=WIDTHS)
def test_the_bound_holds_for_every_input(data: st.DataObject, inputs: int, outputs: int, width: int) -> None:
    low, high = semantics.activation_range(width)
    draw = lambda count, a, b: data.draw(st.lists(st.integers(a, b), min_size=count, max_size=count))  # noqa: E731
    weights = np.array(draw(inputs * outputs, -127, 127), np.int64).reshape(outputs, inputs)
    bias, q = np.array(draw(outputs, -(2**20), 2**20)), np.array(draw(inputs, low, high))
    bound = semantics.accumulator_bound(weights, bias, low, high)
    assert np.all(np.abs(semantics.accumulate(q, weights, bias)) <= bound)


@given(entries=st.lists(st.integers(-128, 127), min_size=256, max_size=256), q=st.integers(-128, 127))
def test_a_table_of_8_bits_holds_every_value(entries: list[int], q: int) -> None:
    assert semantics.lookup(integers(q), integers(*entries)).tolist() == [entries[q + 128]]


TABLE16 = st.lists(st.integers(-(2**15), 2**15 - 1), min_size=257, max_size=257)


@given(entries=TABLE16, q=st.integers(-(2**15), 2**15 - 1))
def test_a_table_of_16_bits_is_interpolated_exactly(entries: list[int], q: int) -> None:
    place, fraction = divmod(q + 2**15, 256)
    left, right = entries[place], entries[place + 1]
    exact = math.floor(left + Fraction((right - left) * fraction, 256) + Fraction(1, 2))
    got = int(semantics.lookup(integers(q), integers(*entries))[0])
    assert got == exact
    assert min(left, right) <= got <= max(left, right)


@given(entries=TABLE16.map(sorted), first=st.integers(-(2**15), 2**15 - 1), step=st.integers(0, 300))
def test_a_rising_table_keeps_the_order(entries: list[int], first: int, step: int) -> None:
    second = min(first + step, 2**15 - 1)
    a, b = semantics.lookup(integers(first, second), integers(*entries))
    assert a <= b


@pytest.mark.parametrize("function", ["Tanh", "Sigmoid", "Relu"])
@pytest.mark.parametrize("width", [8, 16])
def test_a_table_is_within_half_a_step_of_its_function(function: str, width: int) -> None:
    low, high = semantics.activation_range(width)
    scale_in, scale_out = 8.0 / 2 ** (width - 1), 16.0 / 2 ** (width - 1)
    table = semantics.pointwise_table(function, scale_in, 0, scale_out, 0, width)
    step = 1 if width == 8 else 256
    exact = semantics.POINTWISE[function](scale_in * np.arange(low, high + 2, step)[: len(table)]) / scale_out
    assert np.all(np.abs(table - np.clip(exact, low, high)) <= 0.5)


def test_interpolated_tanh_is_close_everywhere() -> None:
    scale = 4.0 / 2**15
    table = semantics.pointwise_table("Tanh", scale, 0, 2.0**-15, 0, 16)
    q = np.arange(-(2**15), 2**15)
    error = np.abs(semantics.lookup(q, table) * 2.0**-15 - np.tanh(q * scale))
    assert error.max() < 1.3e-4  # h^2 / 8 * max|tanh''| with h = 8 / 256, plus the rounding of 16 bits


@given(value=st.floats(-1e6, 1e6, width=32), scale=st.floats(2.0**-20, 2.0**10, width=32), width=WIDTHS)
def test_quantize_is_onnx_quantize_linear(value: float, scale: float, width: int) -> None:
    low, high = semantics.activation_range(width)
    steps = Fraction(float(np.float32(value) / np.float32(scale)))
    expected = min(max(round(steps) + 3, low), high)  # Python's round is half to even
    assert semantics.quantize(np.array([value], np.float32), scale, 3, width).tolist() == [expected]


@given(q=st.integers(-128, 127), scale=st.floats(2.0**-20, 2.0**10, width=32), zero_point=st.integers(-128, 127))
def test_an_integer_survives_being_real(q: int, scale: float, zero_point: int) -> None:
    real = semantics.dequantize(integers(q), scale, zero_point)
    assert semantics.quantize(real, scale, zero_point, 8).tolist() == [q]


@given(bias=st.floats(-1e3, 1e3), scale=st.floats(1e-9, 1.0))
def test_a_bias_is_within_half_a_step_or_saturated(bias: float, scale: float) -> None:
    q = int(semantics.quantize_bias(np.array([bias]), 1.0, np.array([scale]))[0])
    assert abs(q) <= INT32_MAX
    assert abs(q) == INT32_MAX or abs(q - bias / scale) <= 0.5 + 1e-6


def test_argmax_takes_the_first_of_a_tie() -> None:
    assert semantics.argmax(np.array([[1, 5, 5], [7, 7, 7]])).tolist() == [1, 0]


@pytest.mark.parametrize("bits", [0, 1, 9, 15, 32])
def test_an_activation_of_another_width_is_refused(bits: int) -> None:
    with pytest.raises(UnsupportedModelError, match="2 to 8 bits, or 16"):
        semantics.activation_range(bits)


@pytest.mark.parametrize(
    ("bits", "low", "high"),
    [(8, -127, 127), (7, -64, 63), (6, -32, 31), (5, -16, 15), (4, -8, 7), (3, -4, 3), (2, -2, 1)],
)
def test_weights_are_symmetric_at_8_bits_and_full_below(bits: int, low: int, high: int) -> None:
    assert semantics.weight_range(bits) == (low, high)


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_a_weight_of_another_width_is_refused(bits: int) -> None:
    with pytest.raises(UnsupportedModelError, match="2 to 8 bits"):
        semantics.weight_range(bits)


def test_a_weight_takes_its_own_width_in_memory_or_a_byte() -> None:
    assert [semantics.stored_bits(bits) for bits in range(2, 9)] == [2, 3, 4, 8, 8, 8, 8]
