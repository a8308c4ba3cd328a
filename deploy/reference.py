"""The integer reference: a program run by the integer semantics alone, in numpy.

Host C, every kernel variant, the emulated board and the real one are compared with it, bit for bit.
"""

from __future__ import annotations

import numpy as np
from policyport.core import semantics
from policyport.core.errors import ObservationError
from policyport.core.semantics import Integers
from policyport.deploy.program import FullyConnected, Layer, Program


def run(program: Program, q_input: Integers) -> list[Integers]:
    """Every layer's output for a batch of quantized inputs.

    :param q_input: [n, inputs], inside the input tensor's range: see :func:`program.quantize_input`
    :returns: one [n, outputs] int64 array per layer, in order; the last is the program's output
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
    outputs = []
    for layer in program.layers:
        q = run_layer(layer, q)
        outputs.append(q)
    return outputs


def run_layer(layer: Layer, q_input: Integers) -> Integers:
    """One layer's output: [n, inputs] to [n, outputs]."""
    if not isinstance(layer, FullyConnected):
        return semantics.lookup(q_input, layer.table)
    accumulator = semantics.accumulate(q_input, layer.weights, layer.bias)
    before = layer.before_table
    q = semantics.requantize(accumulator, layer.requantize, before.zero_point, before.low, before.high)
    return q if layer.table is None else semantics.lookup(q, layer.table)
