"""Fully connected layers by the C kernels, their integers given as data: for networks that change while they are used.

:class:`policyport.deploy.host.HostLibrary` compiles a network. Here one library is compiled once, and any chain of
layers runs by it; the kernels are those of a board's firmware in variant ``c``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError
from policyport.core.semantics import Integers
from policyport.deploy.host import FLAGS, KERNEL_FOLDER, compile_library, find_compiler

FAST = ("-O3",)
"""Not ``-march=native``: on a CPU with AVX-512's dot products of bytes, gcc 12.2 made wrong ones with it."""

_VOID, _WORDS = ctypes.c_void_p, ctypes.c_uint32


@dataclass(frozen=True)
class ChainLayer:
    """One layer's integers, as :class:`policyport.deploy.layers.FullyConnected` has them."""

    weights: NDArray[np.int8]
    """[outputs, inputs], of 8 bits."""

    bias: NDArray[np.int32]
    """[outputs], the input's zero point folded in."""

    multiplier: NDArray[np.int32]
    """[outputs]"""

    shift: int
    zero_point: int
    """Behind the requantization, as the bounds below."""

    low: int
    high: int
    table: NDArray[np.int64] | None
    """[256] or [257], of a function; None without one."""

    bits: int
    """Of the output."""


def compile_chain(library: Path) -> None:
    """Compile the library that every :class:`Chain` runs by, into the file ``library``.

    :raises ToolError: no compiler, or it refused the code
    """
    sources = (Path(__file__).with_name("chain.c"), KERNEL_FOLDER / "pp_fully_connected.c")
    compile_library(sources, KERNEL_FOLDER, library, find_compiler(), (*FLAGS, *FAST))


class Chain:
    """A chain of layers, ready to run.

    :param library: what :func:`compile_chain` wrote
    :param layers: at least one; each reads what the one before yields
    :param input_bits: 8 or 16
    """

    def __init__(self, library: Path, layers: Sequence[ChainLayer], input_bits: int) -> None:
        self._run = ctypes.CDLL(str(library)).pp_chain
        self._run.argtypes = [_VOID, _VOID, _VOID, _WORDS]
        self._kept = [_stored(layer) for layer in layers]
        """What the structures point at."""

        self._layers = (_FullyConnected * len(layers))(*map(_structure, layers, self._kept))
        widths = [input_bits, *(layer.bits for layer in layers)]
        sizes = [layers[0].weights.shape[1], *(len(layer.weights) for layer in layers)]
        self._bits = np.array(widths, np.uint8)
        self._tensors = [np.zeros(size, f"int{bits}") for size, bits in zip(sizes, widths, strict=True)]
        self._places = np.array([tensor.ctypes.data for tensor in self._tensors], np.uintp)

    def infer(self, q_input: Integers) -> Integers:
        """[n, inputs] integers to [n, outputs].

        :raises ObservationError: of another size
        """
        q = np.asarray(q_input)
        first, last = self._tensors[0], self._tensors[-1]
        if q.ndim != 2 or q.shape[1] != first.size:
            raise ObservationError("quantized input of a wrong shape", expected=f"(n, {first.size})", got=q.shape)
        outputs = np.empty((len(q), last.size), np.int64)
        for row, output in zip(q, outputs, strict=True):
            first[:] = row
            self._run(ctypes.addressof(self._layers), self._bits.ctypes.data, self._places.ctypes.data, len(self._kept))
            output[:] = last
        return outputs


class _Weights(ctypes.Structure):
    """``pp_weights_t``"""

    _fields_ = (("rows", _VOID), ("row_bytes", _WORDS), ("bits", _WORDS))


class _Requantize(ctypes.Structure):
    """``pp_requantize_t``"""

    _fields_ = (
        ("multiplier", _VOID),
        ("table", _VOID),
        ("zero_point", ctypes.c_int32),
        ("low", ctypes.c_int16),
        ("high", ctypes.c_int16),
        ("shift", ctypes.c_uint16),
    )


class _FullyConnected(ctypes.Structure):
    """``pp_fully_connected_t``"""

    _fields_ = (
        ("weights", _Weights),
        ("bias", _VOID),
        ("inputs", _WORDS),
        ("outputs", _WORDS),
        ("requantize", _Requantize),
    )


_Stored = tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.int32], NDArray[np.signedinteger] | None]  # type: ignore[type-arg]


def _stored(layer: ChainLayer) -> _Stored:
    """Weights, bias, multiplier and table as C reads them."""
    table = None if layer.table is None else np.ascontiguousarray(layer.table, f"int{layer.bits}")
    weights = np.ascontiguousarray(layer.weights, np.int8)
    bias, multiplier = (np.ascontiguousarray(array, np.int32) for array in (layer.bias, layer.multiplier))
    return weights, bias, multiplier, table


def _structure(layer: ChainLayer, stored: _Stored) -> _FullyConnected:
    weights, bias, multiplier, table = stored
    outputs, inputs = weights.shape
    entry = None if table is None else table.ctypes.data + 128 * table.itemsize
    by = _Requantize(multiplier.ctypes.data, entry, layer.zero_point, layer.low, layer.high, layer.shift)
    return _FullyConnected(_Weights(weights.ctypes.data, inputs, 8), bias.ctypes.data, inputs, outputs, by)
