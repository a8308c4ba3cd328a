"""Transformed weights of Winograd convolutions in the order in which ``pp_winograd`` reads them."""

from __future__ import annotations

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layout_blocks import Words, accumulator_range, halves

TRANSFORM = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
"""2G of F(2x2, 3x3), Lavin and Gray, arXiv:1509.09308, section 4.1: twice, so that it is of integers."""

ACCUMULATOR_LIMIT = 2**29
"""Magnitude below which an accumulator must stay: the kernel holds it four times too large."""


def fits(weights: Integers, bias: Integers, low: int, high: int) -> bool:
    """Whether Winograd is exact for a convolution.

    :param weights: [outputs, 3, 3, channels] or of another kernel, which does not fit
    :param bias: [outputs], the input's zero point folded in
    :param low: smallest input, or padding
    :param high: largest
    """
    if weights.shape[1:3] != (3, 3) or weights.shape[3] % 8 or weights.shape[0] % 2:
        return False
    lowest, highest = accumulator_range(weights.reshape(len(weights), -1), bias, low, high)
    return bool(max(-int(lowest.min()), int(highest.max())) < ACCUMULATOR_LIMIT)


def pack_winograd(weights: Integers, bias: Integers, multiplier: Integers) -> Words:
    """See ``pp_winograd.h``; 3.56 times the bytes of the weights.

    :param weights: [outputs, 3, 3, channels], 8 bits
    :param bias: [outputs], the input's zero point folded in
    :param multiplier: [outputs]
    """
    outputs, _, _, channels = weights.shape
    places = np.einsum("ik,oklc,jl->oijc", TRANSFORM, weights, TRANSFORM).reshape(outputs // 2, 2, 16, channels)
    first = np.arange(0, channels, 4)
    order = np.concatenate([first, first + 1])
    words = halves(places[..., order], places[..., order + 2]).transpose(0, 2, 3, 1)
    heads = np.concatenate([4 * bias.reshape(-1, 2), multiplier.reshape(-1, 2)], axis=1)
    return (np.concatenate([heads, words.reshape(outputs // 2, -1)], axis=1).reshape(-1) & 0xFFFFFFFF).astype(np.uint32)


def scratch_bytes(channels: int) -> int:
    """Bytes of ``PP_WINOGRAD_SCRATCH_BYTES``."""
    return 144 * channels + 516
