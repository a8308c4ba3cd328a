"""How many instructions the kernels of rows take for a layer: fully connected ones on cores with the DSP extension, and
what Cortex-M55, M3 and M0 compute by whole rows.

As in :mod:`policyport.deploy.kernel_cost`, but fitted to emulated runs of many sizes; a test holds them there.
"""

from __future__ import annotations

import math

from policyport.deploy.choice import BlockLayout, choose_runs
from policyport.deploy.layers import Affine, Conv2d, FullyConnected
from policyport.deploy.layout_digits import ROWS
from policyport.deploy.layout_rows import RowsLayout, RowsVariant, is_pointwise

BLOCK: dict[BlockLayout, tuple[float, float]] = {
    "pairs": (37.4, 14.3),
    "nibbles": (45.4, 16.3),
    "halfwords": (33.4, 11.3),
    "bytes": (37.4, 18.3),
    "octals": (64.3, 21.7),
    "crumbs": (98.0, 36.0),
}
"""Of ``pp_blocks`` and ``pp_digits``: instructions of a block of rows, and of four inputs in it."""

WIDEN, CALL = 3.9, 35
"""Instructions of an input that is widened, and of a call."""


def dense_instructions(layer: FullyConnected, optimize: str) -> int:
    """Instructions of ``pp_blocks`` or ``pp_digits`` on a Cortex-M4."""
    inputs = layer.weights.shape[1]
    total = WIDEN * inputs
    for run in choose_runs(layer, optimize):
        rows = ROWS[run.layout] if run.layout == "octals" or run.layout == "crumbs" else 4
        block, step = BLOCK[run.layout]
        total += CALL + -(-len(run.rows) // rows) * (block + step * -(-inputs // 4))
    return round(total)


def rows_instructions(layer: Affine, variant: RowsVariant, layout: RowsLayout) -> int:
    """Instructions of ``pp_mve`` on a Cortex-M55, or of ``pp_quads`` on a Cortex-M3."""
    outputs, taps = len(layer.weights), math.prod(layer.weights.shape[1:])
    windows = layer.output.size // outputs if isinstance(layer, Conv2d) else 1
    if layout == "depthwise":
        # 3x3 is written out; windows at the border are copied.
        each = 56 + 110 / outputs if taps == 9 else 40 + 8.9 * taps
        return round(windows * outputs * each)
    each = _vectors(outputs, taps, layout) if variant == "mve" else _quads(outputs, taps, layout)
    if isinstance(layer, Conv2d) and not is_pointwise(layer):
        rows, run = layer.window.kernel[0], layer.window.kernel[1] * layer.input.shape[2]
        each += rows * (47 + 3 * -(-run // 16)) if variant == "mve" else rows * (60 + 4.2 * -(-run // 4))
    return round(windows * each)


def _vectors(outputs: int, taps: int, layout: RowsLayout) -> float:
    """Rows over one window: a block takes the same for every 16 inputs, whatever its layout."""
    block, window = (22, 42) if layout == "nibbles" else (19, 26)
    vectors = -(-taps // 16)
    return window + vectors * (layout == "nibbles") + -(-outputs // 4) * (block + 10 * vectors)


def _quads(outputs: int, taps: int, layout: RowsLayout) -> float:
    taken = 71 + 13.5 * -(-taps // 4)
    if layout == "nibbles":
        return taken + 27 * outputs + -(-outputs // 8) * (4 + 209.5 * -(-taps // 16))
    if layout == "crumbs":
        return taken + 31 * outputs + 87.4 * -(-outputs // 8) * -(-taps // 8)
    fours = -(-outputs // 4)
    return taken + 19.6 * outputs + 62.1 * -(-fours // 2) + 72.4 * fours * -(-taps // 8)
