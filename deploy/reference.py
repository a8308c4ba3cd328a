"""The integer reference: a program run by the integer semantics alone, in numpy.

Host C, every kernel variant, the emulated board and the real one are compared with it, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from policyport.core import operators, semantics
from policyport.core.errors import ObservationError
from policyport.core.semantics import Integers
from policyport.deploy.layers import (
    Add,
    Affine,
    Argmax,
    Concat,
    Conv2d,
    FullyConnected,
    Layer,
    Lookup,
    Multiply,
    Pad,
    Pool,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Strips,
    Tensor,
    Transpose,
    TransposedConv2d,
)
from policyport.deploy.program import Program

BATCH = 16
"""Inputs computed at once: what a convolution sees of them lies in memory many times over."""


def run(program: Program, q_input: Integers) -> list[Integers]:
    """Every layer's output for a batch of quantized inputs.

    :param q_input: [n, inputs], inside the input tensor's range: see :func:`program.quantize_input`
    :returns: one [n, elements] int64 array per layer, in order of execution; images in the device's order
    :raises ObservationError: on another shape, or integers outside the input tensor's range
    """
    q = np.asarray(q_input, np.int64)
    tensor = program.input
    if q.ndim != 2 or q.shape[1] != tensor.size:
        raise ObservationError("quantized input of a wrong shape", expected=f"(n, {tensor.size})", got=q.shape)
    if q.size and (q.min() < tensor.low or q.max() > tensor.high):
        raise ObservationError(
            "quantized input out of range", expected=f"{tensor.low} to {tensor.high}", got=f"{q.min()} to {q.max()}"
        )
    batches = [_run_batch(program, q[i : i + BATCH]) for i in range(0, max(len(q), 1), BATCH)]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def _run_batch(program: Program, q: Integers) -> list[Integers]:
    known = {program.input.name: q}
    for layer in program.layers:
        known[layer.output.name] = run_layer(layer, [known[tensor.name] for tensor in layer.inputs])
    return [known[layer.output.name] for layer in program.layers]


def run_layer(layer: Layer, operands: Sequence[Integers]) -> Integers:
    """One layer's output.

    :param operands: one [n, elements] array per input of the layer
    :returns: [n, elements]
    """
    shaped = [np.asarray(q, np.int64).reshape(-1, *t.shape) for q, t in zip(operands, layer.inputs, strict=True)]
    return _RUN[type(layer)](layer, shaped).reshape(len(operands[0]), layer.output.size)


def finish(layer: Affine, accumulator: Integers) -> Integers:
    """Accumulators to activations: requantization, clamp, table.

    :param accumulator: [..., outputs]
    """
    before = layer.before_table
    q = semantics.requantize(accumulator, layer.requantize, before.zero_point, before.low, before.high)
    return q if layer.table is None else semantics.lookup(q, layer.table)


def _fully_connected(layer: FullyConnected, operands: Sequence[Integers]) -> Integers:
    vector = operands[0].reshape(len(operands[0]), -1)
    return finish(layer, semantics.accumulate(vector, layer.weights, layer.bias))


def _conv2d(layer: Conv2d, operands: Sequence[Integers]) -> Integers:
    zero_point = layer.input.zero_point
    return finish(
        layer, operators.convolve(operands[0], layer.weights, layer.bias, layer.window, layer.groups, zero_point)
    )


def _transposed(layer: TransposedConv2d, operands: Sequence[Integers]) -> Integers:
    accumulator = operators.convolve_transposed(
        operands[0],
        layer.weights,
        layer.bias,
        layer.window,
        layer.output_padding,
        layer.groups,
        layer.input.zero_point,
    )
    return finish(layer, accumulator)


def _pool(layer: Pool, operands: Sequence[Integers]) -> Integers:
    target: Tensor = layer.output
    if layer.requantize is None:
        return np.clip(operators.max_pool(operands[0], layer.window), target.low, target.high)
    return operators.average_pool(
        operands[0],
        layer.window,
        layer.requantize,
        layer.input.zero_point,
        target.zero_point,
        target.low,
        target.high,
        layer.count_padding,
    )


def _add(layer: Add, operands: Sequence[Integers]) -> Integers:
    return operators.add(operands, layer.by, layer.output.low, layer.output.high)


def _multiply(layer: Multiply, operands: Sequence[Integers]) -> Integers:
    (a, b), target = layer.inputs, layer.output
    return operators.multiply(
        operands[0],
        operands[1],
        a.zero_point,
        b.zero_point,
        layer.requantize,
        target.zero_point,
        target.low,
        target.high,
    )


def _pad(layer: Pad, operands: Sequence[Integers]) -> Integers:
    top, left, bottom, right = layer.pads
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(operands[0], border, constant_values=layer.value)


def _strips(layer: Strips, operands: Sequence[Integers]) -> Integers:
    known = {tensor.name: q.reshape(len(q), -1) for tensor, q in zip(layer.inputs, operands, strict=True)}
    for part in layer.layers:
        known[part.output.name] = run_layer(part, [known[operand.name] for operand in part.inputs])
    return known[layer.output.name]


def _transpose(layer: Transpose, operands: Sequence[Integers]) -> Integers:
    seen = operands[0].reshape(-1, *layer.shape)
    return seen.transpose(0, *(axis + 1 for axis in layer.order))


_RUN: dict[type[Layer], Callable[[Any, Sequence[Integers]], Integers]] = {
    FullyConnected: _fully_connected,
    Conv2d: _conv2d,
    TransposedConv2d: _transposed,
    Pool: _pool,
    Add: _add,
    Multiply: _multiply,
    Lookup: lambda layer, operands: semantics.lookup(operands[0], layer.table),
    Softmax: lambda layer, operands: operators.softmax(operands[0], layer.table),
    Argmax: lambda layer, operands: semantics.argmax(operands[0].reshape(len(operands[0]), -1)).astype(np.int64),
    Concat: lambda layer, operands: np.concatenate(operands, axis=layer.axis + 1),
    Pad: _pad,
    Resize: lambda layer, operands: operators.resize_nearest(operands[0], *layer.output.shape[:2]),
    Slice: lambda layer, operands: operands[0][:, layer.start : layer.start + layer.output.size],
    Transpose: _transpose,
    Reshape: lambda layer, operands: operands[0],
    Strips: _strips,
}
