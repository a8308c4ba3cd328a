"""Weights of 4, 3 and 2 bits as the plain C kernels read them from flash."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers


def packed_row_bytes(taps: int, bits: int) -> int:
    """Bytes that a row of weights takes; every row begins with a new byte."""
    return -(-taps * bits // 8)


def pack_rows(weights: Integers, bits: int) -> NDArray[np.uint8]:
    """Two's complement of ``bits`` bits, low bits first: weight ``i`` of a row takes its bits from ``i * bits`` on.

    :param weights: [rows, taps]
    :returns: [rows, :func:`packed_row_bytes`]
    """
    rows, taps = weights.shape
    unsigned = (np.asarray(weights, np.int64) & (2**bits - 1)).astype(np.uint8)
    each = np.unpackbits(unsigned[:, :, None], axis=2, count=bits, bitorder="little")
    return np.packbits(each.reshape(rows, taps * bits), axis=1, bitorder="little")
