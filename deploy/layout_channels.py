"""Depthwise weights two taps of four channels at a time: see ``pp_channels.h``."""

from __future__ import annotations

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layers import Conv2d
from policyport.deploy.layout_blocks import Words, halves
from policyport.deploy.layout_depthwise import channel_order


def pack_channels(layer: Conv2d) -> Words:
    """Blocks in the order [output of a channel][four channels], the last four whole.

    :param layer: depthwise, at least four channels
    """
    channels = layer.groups
    taps = layer.weights.reshape(channels, len(layer.weights) // channels, -1)
    taps = np.pad(taps, ((0, 0), (0, 0), (0, taps.shape[2] % 2)))
    words = halves(taps[:, :, 0::2], taps[:, :, 1::2])
    bias, multiplier = (values.reshape(channels, -1) for values in (layer.bias, layer.requantize.multiplier))
    order = (0, 2, 1, 3) if layer.input.bits == 8 else (0, 1, 2, 3)
    parts = []
    for share in range(taps.shape[1]):
        for four in channel_order(channels).reshape(-1, 4):
            parts += [bias[four, share], multiplier[four, share], words[four[list(order)], share].T.reshape(-1)]
    return (np.concatenate(parts) & 0xFFFFFFFF).astype(np.uint32)


def places(layer: Conv2d, width: int, dilation: tuple[int, int]) -> Integers:
    """Elements from a window's first tap to each, an even number: an odd last one is there twice.

    :param width: pixels from a row to the next
    """
    rows, columns = layer.window.kernel
    found = [(i * dilation[0] * width + j * dilation[1]) * layer.groups for i in range(rows) for j in range(columns)]
    return np.array(found + found[-1:] * (len(found) % 2), np.int64)


def scratch_bytes(layer: Conv2d) -> int:
    """A window of all channels, in the input's width."""
    return int(np.prod(layer.window.kernel)) * layer.groups * layer.input.bits // 8
