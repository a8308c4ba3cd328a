"""Blocks of four rows for vectors of 16 inputs, as ``pp_mve.h`` describes them, and which layers they take."""

from __future__ import annotations

from typing import Literal

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, TransposedConv2d
from policyport.deploy.layout_blocks import Words

VectorLayout = Literal["bytes", "nibbles"]
"""``bytes``: a byte per weight. ``nibbles``: half a byte per weight of at most four bits."""

INPUTS: dict[VectorLayout, int] = {"bytes": 16, "nibbles": 32}
"""Inputs that share a run of 64 bytes of weights."""

LARGEST_STEP = 255
"""Largest kernel, stride and padding, which ``pp_mve_conv_t`` holds in a byte."""


def vector_layout(layer: Affine) -> VectorLayout | None:
    """The layout of a layer with weights, the smallest that holds it; None where the kernels do not compute it."""
    if any(tensor.bits != 8 for tensor in (layer.input, layer.before_table, layer.output)):
        return None
    if isinstance(layer, Conv2d):
        if isinstance(layer, TransposedConv2d) or layer.groups != 1 or layer.window.dilation != (1, 1):
            return None
        if max(*layer.window.kernel, *layer.window.stride, *layer.window.pads) > LARGEST_STEP:
            return None
    elif not isinstance(layer, FullyConnected):
        return None
    low, high = int(layer.weights.min(initial=0)), int(layer.weights.max(initial=0))
    return "nibbles" if low >= -8 and high <= 7 else "bytes"


def gathers(layer: Affine, layout: VectorLayout) -> bool:
    """Whether a layer's inputs are copied before they are multiplied: a window that is no pixel, or a row of nibbles
    whose last vector would be read beyond its end.
    """
    if isinstance(layer, Conv2d):
        window = layer.window
        plain = window.kernel == window.stride == (1, 1) and not any(window.pads)
        return not plain or layout == "nibbles"
    return layout == "nibbles" and layer.input.size % INPUTS[layout] != 0


def scratch_bytes(layer: Affine, layout: VectorLayout) -> int:
    """Bytes of the copy, up to the next whole vector."""
    taps = int(np.prod(layer.weights.shape[1:]))
    return 32 * -(-taps // 32) if gathers(layer, layout) else 0


def pack_vectors(rows: Integers, bias: Integers, multiplier: Integers, layout: VectorLayout) -> Words:
    """All blocks of a layer, [blocks * words per block].

    :param rows: [rows, inputs]
    :param bias: [rows], the input's zero point folded in
    :param multiplier: [rows]
    """
    group = INPUTS[layout]
    padded = np.pad(rows, ((0, -rows.shape[0] % 4), (0, -rows.shape[1] % group)))
    bias, multiplier = (np.pad(values, (0, -len(values) % 4)) for values in (bias, multiplier))
    parts = []
    for first in range(0, len(padded), 4):
        block = padded[first : first + 4].reshape(4, -1, group).transpose(1, 0, 2)
        if layout == "nibbles":
            block = ((block[..., 16:] & 15) << 4) | (block[..., :16] + 8)
        weights = np.ascontiguousarray(block & 0xFF, np.uint8).reshape(-1).view("<u4")
        parts += [bias[first : first + 4] & 0xFFFFFFFF, weights, multiplier[first : first + 4]]
    return np.concatenate(parts).astype(np.uint32)
