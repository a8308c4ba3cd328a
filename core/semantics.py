"""The integer semantics, version 1, as executable numpy.

This file and docs/integer-semantics.md say the same thing; this one can be run. Fake quantization in
torch, the generated C in every kernel variant, the emulated board and the real one equal these
functions bit for bit.

A real value and its integer are related by ``real = scale * (q - zero_point)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError

SEMANTICS_VERSION = 1

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

INT32_MAX = 2**31 - 1
"""Largest magnitude an accumulator, a bias or a multiplier may reach."""

TABLE8_SIZE = 256
"""Entries of a pointwise table over int8: one per input value."""

TABLE16_SIZE = 257
"""Entries of a pointwise table over int16: one per 256 input values, and the end point."""


def activation_range(bits: int) -> tuple[int, int]:
    """Smallest and largest integer of an activation of ``bits`` (2 to 8, or 16) bits."""
    if not (2 <= bits <= 8 or bits == 16):
        raise UnsupportedModelError("no such activation width", expected="2 to 8 bits, or 16", got=bits)
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def activation_stored_bits(bits: int) -> int:
    """The width that an activation of ``bits`` takes in memory: a whole byte, or 16."""
    return 8 if bits <= 8 else 16


def weight_range(bits: int) -> tuple[int, int]:
    """Smallest and largest integer of a weight: symmetric at 8 bits, full two's complement below."""
    if not 2 <= bits <= 8:
        raise UnsupportedModelError("no such weight width", expected="2 to 8 bits", got=bits)
    return (-127, 127) if bits == 8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def stored_bits(bits: int) -> int:
    """The width that a weight of ``bits`` takes in memory: 2, 3, 4, or a whole byte."""
    return bits if bits <= 4 else 8


def quantize(real: NDArray[np.float32], scale: float, zero_point: int, bits: int) -> Integers:
    """Real values to integers, as ONNX ``QuantizeLinear``: divide in float32, round half to even, clamp.

    :param real: any shape, float32, finite
    :param scale: positive float32
    :returns: same shape, int64, inside :func:`activation_range`
    """
    low, high = activation_range(bits)
    steps = np.rint(np.asarray(real, np.float32) / np.float32(scale)).astype(np.float64)
    q: Integers = np.clip(steps + zero_point, low, high).astype(np.int64)
    return q


def dequantize(q: Integers, scale: float, zero_point: int) -> NDArray[np.float32]:
    """Integers to real values, as ONNX ``DequantizeLinear``: float32, same shape."""
    return ((np.asarray(q, np.int64) - zero_point).astype(np.float32) * np.float32(scale)).astype(np.float32)


@dataclass(frozen=True)
class Requantization:
    """From an int32 accumulator to the next activation: one rounding high-half multiply per channel."""

    multiplier: Integers
    """[channels], each in [0, 2**31): round(2**(32 - shift) * ratio)."""

    shift: int
    """Left shift of the accumulator before the multiply, one for the whole layer, usually 0."""


def requantization(ratio: Reals, accumulator_bound: int, where: object = None) -> Requantization:
    """The multiplier and shift that scale an accumulator by ``ratio``.

    ``shift`` is the smallest one for which every multiplier fits in int32; it is refused where the
    shifted accumulator would not fit.

    :param ratio: [channels], float64, ``scale_in * scale_weight / scale_out``, not negative
    :param accumulator_bound: largest magnitude that any channel's accumulator can reach
    :param where: the layer, for the error
    :raises UnsupportedModelError: where no shift fits
    """
    ratio = np.asarray(ratio, np.float64)
    if not np.all(np.isfinite(ratio)) or np.any(ratio < 0):
        raise UnsupportedModelError("a requantization ratio is not a finite positive number", where=where)
    for shift in range(31):
        multiplier = np.floor(ratio * 2.0 ** (32 - shift) + 0.5)
        if np.all(multiplier <= INT32_MAX):
            break
    else:
        raise UnsupportedModelError(
            "a requantization ratio is too large",
            where=where,
            expected="less than 2^29",
            got=float(np.max(ratio)),
            cure="check the scales of this layer's input, weights and output",
        )
    if (accumulator_bound << shift) > INT32_MAX:
        raise UnsupportedModelError(
            "an accumulator can overflow 32 bits",
            where=where,
            expected=f"at most {INT32_MAX}",
            got=f"{accumulator_bound} shifted left by {shift}",
            cure="quantize this layer's input to 8 bits instead of 16, or make the layer narrower",
        )
    return Requantization(multiplier.astype(np.int64), shift)


def requantize(accumulator: Integers, by: Requantization, zero_point: int, low: int, high: int) -> Integers:
    """``clamp((((acc << shift) * m + 2**31) >> 32) + zero_point, low, high)``, exactly.

    One ``SMMULR`` on Cortex-M4, ``VRMULH`` on M55.

    :param accumulator: [..., channels], int64 holding int32 values
    :returns: same shape
    """
    product = (np.asarray(accumulator, np.int64) << by.shift) * by.multiplier + 2**31
    q: Integers = np.clip((product >> 32) + zero_point, low, high)
    return q


def accumulate(q_input: Integers, weights: Integers, bias: Integers) -> Integers:
    """Fully connected accumulator ``W q + b``; the input's zero point is already folded into ``b``.

    :param q_input: [..., inputs]
    :param weights: [outputs, inputs]
    :param bias: [outputs], int32 values at scale ``s_in * s_w[c]``, with ``- zero_point_in * sum(W[c])``
    :returns: [..., outputs]
    """
    # Exact: an accumulator of 32 bits has no partial sum that float64 could not hold, and BLAS is fast.
    product = np.asarray(q_input, np.float64) @ np.asarray(weights, np.float64).T
    total: Integers = product.astype(np.int64) + np.asarray(bias, np.int64)
    return total


def accumulator_bound(weights: Integers, bias: Integers, low: int, high: int) -> Integers:
    """Largest magnitude of each row's accumulator, over every partial sum, for inputs in [low, high].

    :param weights: [outputs, ...]
    :returns: [outputs]; ``sum|w| * max(|low|, |high|) + |b|``
    """
    reach = max(abs(low), abs(high))
    magnitudes = np.abs(np.asarray(weights, np.int64)).reshape(len(weights), -1)
    rows: Integers = magnitudes.sum(axis=1) * reach + np.abs(np.asarray(bias, np.int64))
    return rows


def quantize_bias(bias: Reals, scale_input: float, scale_weight: Reals) -> Integers:
    """A real bias as int32 at ``scale_input * scale_weight[c]``: round half to even, saturated.

    :param bias: [outputs]
    :param scale_weight: [outputs]
    """
    steps = np.rint(np.asarray(bias, np.float64) / (float(scale_input) * np.asarray(scale_weight, np.float64)))
    return np.clip(steps, -INT32_MAX, INT32_MAX).astype(np.int64)


Pointwise = Callable[[Reals], NDArray[Any]]

LEAKY_SLOPE = 0.01
"""Of ``LeakyRelu`` below zero; another one stands behind the name: ``LeakyRelu(0.2)``."""

POINTWISE: dict[str, Pointwise] = {
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "Relu": lambda x: np.maximum(x, 0.0),
    "HardSigmoid": lambda x: np.clip(x / 6 + 0.5, 0.0, 1.0),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0),
    "LeakyRelu": lambda x: np.where(x < 0, LEAKY_SLOPE * x, x),
    "Elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0.0)), x),
    "Softplus": lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
    "Silu": lambda x: x * 0.5 * (1.0 + np.tanh(0.5 * x)),
}
"""Pointwise functions that a table may hold, by ONNX operator name, evaluated in float64.

HardSigmoid has the slope 1/6, LeakyRelu 0.01, Elu alpha 1; Silu is ``x * Sigmoid(x)``."""


def leaky_relu(slope: float) -> str:
    """The name of the function that is ``slope * x`` below zero, else ``x``."""
    return "LeakyRelu" if math.isclose(slope, LEAKY_SLOPE, rel_tol=1e-4) else f"LeakyRelu({float(np.float32(slope))!r})"


def leaky_slope(function: str) -> float | None:
    """The slope below zero of a function that :func:`leaky_relu` named; None of any other."""
    if function == "LeakyRelu":
        return LEAKY_SLOPE
    return float(function[10:-1]) if function.startswith("LeakyRelu(") else None


def pointwise(function: str) -> Pointwise:
    """A pointwise function by its name.

    :raises KeyError: there is none
    """
    slope = leaky_slope(function)
    return POINTWISE[function] if slope is None else lambda x: np.where(x < 0, slope * x, x)


def pointwise_table(
    function: str, scale_in: float, zero_point_in: int, scale_out: float, zero_point_out: int, bits: int
) -> Integers:
    """The table of a pointwise function between two activations stored in the same width.

    Stored in 8 bits: [256], entry ``q + 128`` is the output for input ``q``.
    16 bits: [257], entry ``i`` is the output for input ``256 * (i - 128)``; :func:`lookup` interpolates.

    Entries are ``clamp(floor(f(real) / scale_out + 0.5) + zero_point_out)`` in float64.

    :param bits: of the output, whose range entries are clamped to
    """
    low, high = activation_range(bits)
    stored = activation_stored_bits(bits)
    step, size = (1, TABLE8_SIZE) if stored == 8 else (256, TABLE16_SIZE)
    q = activation_range(stored)[0] + step * np.arange(size, dtype=np.float64)
    real = float(np.float32(scale_in)) * (q - zero_point_in)
    exact = pointwise(function)(real) / float(np.float32(scale_out))
    return np.clip(np.floor(exact + 0.5) + zero_point_out, low, high).astype(np.int64)


def lookup(q: Integers, table: Integers) -> Integers:
    """A pointwise function by its table.

    8 bits: ``table[q + 128]``. 16 bits, with ``i = (q >> 8) + 128`` and ``f = q & 255``:
    ``(table[i] * (256 - f) + table[i + 1] * f + 128) >> 8``.
    """
    q = np.asarray(q, np.int64)
    table = np.asarray(table, np.int64)
    if table.size == TABLE8_SIZE:
        return table[q + 128]
    index, fraction = (q >> 8) + 128, q & 255
    return (table[index] * (256 - fraction) + table[index + 1] * fraction + 128) >> 8


def argmax(q: Integers) -> NDArray[np.intp]:
    """Index of the largest value along the last axis; a tie takes the first."""
    return np.argmax(q, axis=-1)
