"""Blocks of rows as kernels of whole rows read them, and which layers those kernels take.

Variant ``mve`` (``pp_mve.h``) has vectors of 16 inputs; ``thumb`` (``pp_quads.h``) multiplies one pair at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, TransposedConv2d
from policyport.deploy.layout_blocks import Words

RowsVariant = Literal["mve", "thumb"]
RowsLayout = Literal["bytes", "nibbles", "crumbs", "depthwise"]
"""``bytes``: a byte per weight. ``nibbles``: half a byte per weight of at most four bits. In variant ``thumb`` alone:
``crumbs``, a quarter per weight of two bits; ``depthwise``, a byte per weight, each output channel with its own input
channel alone."""

VECTOR_INPUTS = 16
"""Of variant ``mve``."""

NIBBLES_REACH = 2**27
"""Below which the sum of a row has to stay that lies in the high halves of bytes in variant ``mve``: it is summed 16
times too large."""

STEPS: dict[RowsLayout, int] = {"bytes": 8, "nibbles": 16, "crumbs": 8}
"""Inputs of a round in variant ``thumb``."""

OFFSETS: dict[RowsLayout, int] = {"bytes": 128, "nibbles": 8, "crumbs": 2}
"""What is added to each weight in variant ``thumb``."""

LARGEST_STEP = 255
"""Largest kernel, stride and padding, which ``pp_conv_rows_t`` holds in a byte."""


def rows_layout(layer: Affine, variant: RowsVariant, optimize: str) -> RowsLayout | None:
    """The layout of a layer with weights, the smallest that holds it; None where the kernels do not compute it, or
    where flash is saved and plain C keeps the weights in fewer bits.
    """
    if any(tensor.bits != 8 for tensor in (layer.input, layer.before_table, layer.output)):
        return None
    if isinstance(layer, Conv2d):
        if isinstance(layer, TransposedConv2d) or layer.window.dilation != (1, 1):
            return None
        if max(*layer.window.kernel, *layer.window.stride, *layer.window.pads) > LARGEST_STEP:
            return None
        if layer.groups != 1:
            alone = layer.groups == layer.input.shape[2] == layer.output.shape[2]
            return "depthwise" if alone and variant == "thumb" and layer.weight_bits == 8 else None
    elif not isinstance(layer, FullyConnected):
        return None
    low, high = int(layer.weights.min(initial=0)), int(layer.weights.max(initial=0))
    if variant == "thumb" and low >= -2 and high <= 1:
        return "crumbs"
    if variant == "thumb" and optimize == "size" and layer.weight_bits < 4:
        return None
    exact = variant == "thumb" or bool(np.all(layer.accumulator_bound[0::2] < NIBBLES_REACH))
    return "nibbles" if low >= -8 and high <= 7 and exact else "bytes"


def is_pointwise(layer: Affine) -> bool:
    """Whether each pixel of an image is a window."""
    if not isinstance(layer, Conv2d):
        return False
    return layer.window.kernel == layer.window.stride == (1, 1) and not any(layer.window.pads)


def copies(layer: Affine, variant: RowsVariant) -> bool:
    """Whether a layer's inputs are copied before they are multiplied: always in variant ``thumb``; in ``mve`` a window
    that is no pixel.
    """
    return variant == "thumb" or (isinstance(layer, Conv2d) and not is_pointwise(layer))


def scratch_bytes(layer: Affine, variant: RowsVariant, layout: RowsLayout) -> int:
    """Bytes of the copy, up to the next whole vector or round."""
    whole = STEPS["nibbles"] if variant == "thumb" else VECTOR_INPUTS
    taps = int(np.prod(layer.weights.shape[1:])) * (len(layer.weights) if layout == "depthwise" else 1)
    return whole * -(-taps // whole) if copies(layer, variant) else 0


def pack(layer: Affine, variant: RowsVariant, layout: RowsLayout) -> Words:
    """All blocks of a layer, [blocks * words per block]."""
    rows, multiplier = layer.weights.reshape(len(layer.weights), -1), layer.requantize.multiplier
    if layout == "depthwise":
        return pack_depthwise(rows, layer.bias, multiplier)
    if variant == "mve":
        return pack_vectors(rows, layer.bias, multiplier, layout)
    return pack_quads(rows, layer.bias, multiplier, layout)


def pack_vectors(rows: Integers, bias: Integers, multiplier: Integers, layout: RowsLayout) -> Words:
    """Blocks of ``pp_mve.h``.

    :param rows: [rows, inputs]
    :param bias: [rows], the input's zero point folded in
    :param multiplier: [rows]
    """
    parts: list[Words] = []
    for block, start, ending in _blocks(rows, bias, multiplier, (4,), VECTOR_INPUTS):
        weights = block.reshape(4, -1, VECTOR_INPUTS).transpose(1, 0, 2)
        if layout == "nibbles":
            weights = ((weights[:, 0::2] & 15) << 4) | (weights[:, 1::2] + 8)
            start[0::2] = 16 * start[0::2] + start[1::2]
        parts += [_whole(start), _words(weights), _whole(ending)]
    return np.concatenate(parts)


def pack_quads(rows: Integers, bias: Integers, multiplier: Integers, layout: RowsLayout) -> Words:
    """Blocks of ``pp_quads.h``; parameters as :func:`pack_vectors`."""
    starts = bias - 128 * np.asarray(rows, np.int64).sum(axis=1)
    sizes = (8, 4) if layout == "bytes" else (8,)
    parts: list[Words] = []
    for block, start, ending in _blocks(rows, starts, multiplier, sizes, STEPS[layout]):
        weights = block.T + OFFSETS[layout]
        if layout == "nibbles":
            weights = weights[:, 1::2] << 4 | weights[:, 0::2]
        if layout == "crumbs":
            weights = (weights.reshape(-1, 2, 2, 4) << (0, 2, 4, 6)).sum(axis=-1).transpose(0, 2, 1)
        parts += [_whole(start), _words(weights), _whole(ending)]
    return np.concatenate(parts)


def pack_depthwise(rows: Integers, bias: Integers, multiplier: Integers) -> Words:
    """Per channel a word of bias, one of its multiplier, and its taps as bytes, padded to whole words.

    :param rows: [channels, taps]
    """
    taps = _words(np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))).reshape(len(rows), -1)
    return np.concatenate([_whole(bias)[:, None], _whole(multiplier)[:, None], taps], axis=1).reshape(-1)


def _blocks(
    rows: Integers, starts: Integers, multiplier: Integers, sizes: tuple[int, ...], step: int
) -> Iterator[tuple[Integers, Integers, Integers]]:
    """Per block its rows, start values and multipliers, padded by zeros: as few rows as hold what is left.

    :param sizes: rows that a block may have, falling
    :param step: inputs are padded to a multiple of it
    """
    first = 0
    while first < len(rows):
        left = len(rows) - first
        size = min(size for size in sizes if size >= min(left, sizes[0]))
        part = slice(first, first + size)
        missing = max(0, size - left)
        block = np.pad(rows[part], ((0, missing), (0, -rows.shape[1] % step)))
        yield block, np.pad(starts[part], (0, missing)), np.pad(multiplier[part], (0, missing))
        first += size


def _whole(values: Integers) -> Words:
    return (values & 0xFFFFFFFF).astype(np.uint32)


def _words(weights: Integers) -> Words:
    return np.ascontiguousarray(weights & 0xFF, np.uint8).reshape(-1).view("<u4")
