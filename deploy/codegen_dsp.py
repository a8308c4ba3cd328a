"""Fully connected layers in blocks of four rows (variant ``dsp``): weights in the order the DSP kernels read them.

They read and write int16, whatever the width, so that SMLAD takes two at a time. A block is one run of
words: four start values, then per four inputs four words of weights (eight in the layout ``halfwords``),
then four multipliers. Rows and inputs are padded with zeros to a multiple of four.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers
from policyport.deploy import codegen_c
from policyport.deploy.codegen_affine import fused_table
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import FullyConnected, Layer

Layout = Literal["pairs", "bytes", "halfwords"]
"""``pairs``: two rows in each halfword, 256 * a + b; one byte per weight, 8-bit inputs.
``bytes``: four weights of one row in each word; one byte per weight, any input.
``halfwords``: two weights of one row in each word; two bytes per weight, fewest instructions."""

PAIRS_LIMIT = 2**23
"""Magnitude below which the accumulator of a row of ``pairs`` must stay: 256 times it fits in int32."""

KERNELS = ("pp_blocks.S", "pp_blocks.c", "pp_blocks.h", "pp_intrinsics.h", "pp_kernels.h")
WIDTHS = ("pp_kernels.h", "pp_moves.c")

Words = NDArray[np.uint32]


def layer_code(number: int, layer: Layer, memory: Memory, constants: Constants, optimize: str) -> LayerCode:
    """Constants and call of a layer; what has no kernel of its own here calls the plain C one.

    :param number: the layer's, counted from 1
    :param optimize: ``size`` or ``speed``
    """
    if isinstance(layer, FullyConnected):
        return _fully_connected(number, layer, memory, constants, optimize)
    return codegen_c.layer_code(number, layer, memory, constants)


def choose_layout(layer: FullyConnected, optimize: str) -> Layout:
    """The layout that is exact for the layer and takes fewest instructions (``speed``) or bytes (``size``)."""
    if optimize == "speed":
        return "halfwords"
    fits = layer.input.bits == 8 and int(np.abs(layer.weights).max()) <= 127
    return "pairs" if fits and int(layer.accumulator_bound.max()) < PAIRS_LIMIT else "bytes"


def pack(layer: FullyConnected, layout: Layout) -> Words:
    """The layer's blocks as 32-bit words, [blocks * words per block]."""
    weights = _padded(layer.weights, 4, 4)
    bias, multiplier = (_padded(v[:, None], 4, 1)[:, 0] for v in (layer.bias, layer.requantize.multiplier))
    blocks = []
    for row in range(0, len(weights), 4):
        rows, start = weights[row : row + 4], bias[row : row + 4].copy()
        if layout == "pairs":
            start[0], start[2] = 256 * start[0] + start[1], 256 * start[2] + start[3]
        blocks += [start, _PACKERS[layout](rows), multiplier[row : row + 4]]
    return (np.concatenate(blocks) & 0xFFFFFFFF).astype(np.uint32)


def _padded(values: Integers, rows: int, columns: int) -> Integers:
    return np.pad(values, ((0, -values.shape[0] % rows), (0, -values.shape[1] % columns)))


def _halves(low: Integers, high: Integers) -> Integers:
    """Two signed halfwords in a word."""
    return (low & 0xFFFF) | ((high & 0xFFFF) << 16)


def _pack_pairs(rows: Integers) -> Integers:
    """[4, inputs]: per four inputs, the words of rows (0, 1) and (2, 3) for the first two, then the last two."""
    pairs = 256 * rows[0::2] + rows[1::2]
    words = _halves(pairs[:, 0::2], pairs[:, 1::2])
    return words.T.reshape(-1)


def _pack_bytes(rows: Integers) -> Integers:
    """[4, inputs]: per four inputs a word of each row; SXTB16 takes bytes 0 and 2, rotated by 8 it takes 1 and 3."""
    a, b, c, d = (rows[:, i::4] & 0xFF for i in range(4))
    return (a | (c << 8) | (b << 16) | (d << 24)).T.reshape(-1)


def _pack_halfwords(rows: Integers) -> Integers:
    """[4, inputs]: per two inputs a word of each row."""
    return _halves(rows[:, 0::2], rows[:, 1::2]).T.reshape(-1)


_PACKERS = {"pairs": _pack_pairs, "bytes": _pack_bytes, "halfwords": _pack_halfwords}


def _finish(layer: FullyConnected) -> tuple[str, bool]:
    """Name of the kernel's ending, and whether a clamp narrower than its own must follow."""
    before, bits = layer.before_table, layer.before_table.bits
    if layer.table is not None:
        return f"s{bits}_table", False
    full = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits == 16 and (before.low, before.high) == (0, full[1]):
        return "s16_relu", False
    return f"s{bits}", (before.low, before.high) != full


def _fully_connected(
    number: int, layer: FullyConnected, memory: Memory, constants: Constants, optimize: str
) -> LayerCode:
    outputs, inputs = layer.weights.shape
    name, before, layout = f"pp_l{number}", layer.before_table, choose_layout(layer, optimize)
    finish, clamp = _finish(layer)
    definition, table = fused_table(layer, constants)
    rows, steps = -(-outputs // 4) * 4, -(-inputs // 4)
    shift = layer.requantize.shift
    words = pack(layer, layout)
    comment = (
        f"{rows // 4} blocks of 4 rows: 4 start values, {steps} x {8 if layout == 'halfwords' else 4} words of "
        f"weights ({layout}), 4 multipliers round(2^{32 - shift} * s_in * s_w[c] / s_out)"
    )
    fields = {
        "blocks": f"{name}_blocks",
        "zero_point": before.zero_point,
        "steps": steps,
        "rows": rows,
        "table": table,
        "shift": shift,
    }
    size = f"{rows // 4} * {len(words) // (rows // 4)}"
    array = constants.array("uint32_t", f"{name}_blocks", words.astype(np.int64), comment, size)
    widen, source, target, narrow = _places(number, layer, memory)
    kernel = f"pp_blocks_{layout}_{finish}{'_shifted' if shift else ''}"
    call = f"    {kernel}(&{name}, {source}, {target});\n"
    if clamp:
        call += f"    pp_clamp_s16({target}, {rows}, {before.low}, {before.high});\n"
    moves = WIDTHS if widen or narrow else ()
    definitions = definition + array + initializer("pp_blocks_t", name, fields)
    return LayerCode(definitions, widen + call + narrow, (*KERNELS, *moves))


def _places(number: int, layer: FullyConnected, memory: Memory) -> tuple[str, str, str, str]:
    """Where the kernel reads and writes, and the statements that widen a packed input and narrow a packed output."""
    widen, source, target, narrow, scratch = "", memory.at(layer.input), memory.at(layer.output), "", 0
    if not memory.halfwords(layer.input):
        packed, source, size = source, memory.scratch(number, scratch), layer.input.size
        widen, scratch = f"    pp_widen_s8({packed}, {source}, {size}, {-(-size // 4) * 4});\n", 1
    if not memory.halfwords(layer.output):
        packed, target = target, memory.scratch(number, scratch)
        narrow = f"    pp_narrow_s8({target}, {packed}, {layer.output.size});\n"
    return widen, source, target, narrow
