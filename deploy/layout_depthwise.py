"""Depthwise 3x3 weights in the order in which ``pp_depthwise`` reads them."""

from __future__ import annotations

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layout_blocks import Words, halves

WORDS_PER_CHANNEL = 8
"""Bias, multiplier, and two words for each row of weights."""


def pack_depthwise(weights: Integers, bias: Integers, multiplier: Integers) -> Words:
    """[channels * 8] words, channels rounded up to a multiple of four: see ``pp_depthwise.h``.

    :param weights: [channels, 3, 3], at least four channels
    :param bias: [channels], the input's zero point folded in
    :param multiplier: [channels]
    """
    rows = np.stack([halves(weights[:, :, 0], weights[:, :, 1]), halves(weights[:, :, 1], weights[:, :, 2])], axis=2)
    words = np.concatenate([bias[:, None], multiplier[:, None], rows.reshape(len(weights), -1)], axis=1)
    return (words[channel_order(len(weights))].reshape(-1) & 0xFFFFFFFF).astype(np.uint32)


def channel_order(channels: int) -> Integers:
    """The channels as the kernel computes them: by fours, at last the last four, some of them again."""
    whole = channels // 4 * 4
    return np.concatenate([np.arange(whole), np.arange(channels - 4, channels)[: 4 if channels % 4 else 0]])


def ring_bytes(stride: int, output_width: int) -> int:
    """Bytes of ``PP_DEPTHWISE_RING_BYTES``: three rows of four channels."""
    return 48 * (stride * ((output_width + 1) // 2) + 1)
