"""Convolution weights in the order in which ``pp_conv`` meets the inputs of a window."""

from __future__ import annotations

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layout_blocks import Layout, Words, fits, pack_blocks

COLUMN_ORDER = (0, 2, 1, 3)
"""Inputs of a group of four as SXTB16 takes them apart."""


def window_rows(weights: Integers) -> Integers:
    """Each output channel's weights as one row, in the order of the columns.

    :param weights: [outputs, kernel_height, kernel_width, channels]
    :returns: [outputs, kernel_height * 4 * ceil(kernel_width * channels / 4)]; a window's row is padded by zeros
    """
    outputs, height, width, channels = weights.shape
    rows = weights.reshape(outputs, height, width * channels)
    rows = np.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[2] % 4)))
    return in_column_order(rows.reshape(outputs, -1))


def in_column_order(rows: Integers) -> Integers:
    """[rows, a multiple of four]: the inputs of each group of four in :data:`COLUMN_ORDER`."""
    return rows.reshape(len(rows), -1, 4)[:, :, list(COLUMN_ORDER)].reshape(rows.shape)


def choose_layout(weights: Integers, bias: Integers, low: int, high: int) -> Layout | None:
    """The smallest layout that is exact for a convolution, or None where ``pp_conv`` cannot hold it.

    :param weights: [outputs, kernel_height, kernel_width, channels]
    :param bias: [outputs], the input's zero point folded in
    :param low: smallest input, or padding
    :param high: largest
    """
    rows = weights.reshape(len(weights), -1)
    layouts: tuple[Layout, ...] = ("nibbles", "pairs")
    return next((layout for layout in layouts if fits(rows, bias, low, high, layout)), None)


def pack_conv(weights: Integers, bias: Integers, multiplier: Integers, layout: Layout) -> Words:
    """The blocks of a convolution: see ``pp_conv.h``.

    :param weights: [outputs, kernel_height, kernel_width, channels]
    :param bias: [outputs], the input's zero point folded in
    :param multiplier: [outputs]
    :param layout: ``pairs`` or ``nibbles``; :func:`choose_layout` says which is exact
    """
    return pack_blocks(window_rows(weights), bias, multiplier, layout)


def scratch_bytes(kernel_height: int, kernel_width: int, channels: int) -> int:
    """Bytes of ``PP_CONV_SCRATCH_BYTES``: two columns, and a row of a window for each."""
    groups = -(-kernel_width * channels // 4)
    return 16 * kernel_height * groups + 8 * groups
