"""The integer program: a network as integers alone, in the order the device runs it.

It is what the lowering of a QDQ ONNX yields, and what the reference interpreter, the C generator, the
memory planner and the exporters read. Stored as ``program.json`` (structure) and ``program.npz`` (arrays).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Requantization


@dataclass(frozen=True)
class Tensor:
    """An activation vector: ``real = scale * (q - zero_point)``."""

    name: str
    size: int
    """Number of elements."""

    bits: int
    """8 (int8, asymmetric) or 16 (int16, zero point 0)."""

    scale: float
    """A float32 value."""

    zero_point: int
    low: int
    """Smallest integer it can hold, at most its width's: what a clamp or a table leaves."""

    high: int


@dataclass(frozen=True)
class HostInput:
    """What the host does to an observation before it quantizes it, in float32 and in this order:
    ``clip((observation - offset) * gain, low, high)``; then QuantizeLinear with the input tensor's scale.
    """

    offset: NDArray[np.float32]
    """[inputs]"""

    gain: NDArray[np.float32]
    """[inputs]"""

    low: float
    """``-inf`` where nothing is clipped."""

    high: float


@dataclass(frozen=True)
class FullyConnected:
    """``lookup(requantize(W q + b))``; the table is there where an activation function is fused."""

    name: str
    """Name of its output in the ONNX it came from."""

    input: Tensor
    output: Tensor
    weights: Integers
    """[outputs, inputs], values of ``weight_bits``."""

    weight_bits: int
    weight_scale: NDArray[np.float64]
    """[outputs], for exporters; the device never sees it."""

    bias: Integers
    """[outputs], int32, the input's zero point folded in."""

    requantize: Requantization
    before_table: Tensor
    """What the requantization yields; equal to ``output`` where there is no table."""

    table: Integers | None
    """[256] for int8, [257] for int16: see :func:`policyport.core.semantics.lookup`."""

    function: str
    """ONNX operator that the table holds, ``Tanh`` say; empty without one."""


@dataclass(frozen=True)
class Lookup:
    """A pointwise function by its table, where it could not be fused."""

    name: str
    input: Tensor
    output: Tensor
    table: Integers
    function: str


Layer = FullyConnected | Lookup


@dataclass(frozen=True)
class Program:
    """A network as integers: a chain of layers from one input to one output."""

    name: str
    host_input: HostInput
    input: Tensor
    output: Tensor
    layers: tuple[Layer, ...]
