"""Layers as calls of the DSP kernels (variant ``dsp``), where one is exact for them; else of the plain C ones.

Fully connected kernels read and write int16, whatever the width, so that SMLAD takes two at a time.
"""

from __future__ import annotations

import math

import numpy as np
from policyport.core.semantics import activation_range
from policyport.deploy import codegen_c
from policyport.deploy.choice import Run, choose_convolution, choose_runs
from policyport.deploy.codegen_affine import fused_table
from policyport.deploy.codegen_conv import S8X4_HEADERS, convolution
from policyport.deploy.codegen_general import general
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import Add, Conv2d, FullyConnected, Layer, Pool
from policyport.deploy.layout_blocks import Words, pack_blocks
from policyport.deploy.layout_digits import ROWS, pack_digits

HEADERS = ("pp_blocks.h", "pp_intrinsics.h", "pp_kernels.h")
KERNELS = ("pp_blocks.S", "pp_blocks.c", *HEADERS)
DIGIT_KERNELS = ("pp_digits.S", "pp_digits.c", "pp_digits.h", *KERNELS, "pp_lookup.c")
WIDTHS = ("pp_kernels.h", "pp_simd.h", "pp_widths.c")
SUM = ("pp_s8x4.c", *S8X4_HEADERS)
POOL = ("pp_pool_part.h", "pp_pool_s8x4.c", *S8X4_HEADERS)

MEAN_PIXELS = 255
"""Most pixels of a mean that is summed in halfwords: 255 * 128 fits."""


def layer_code(number: int, layer: Layer, memory: Memory, constants: Constants, optimize: str) -> LayerCode:
    """Constants and call of a layer; what has no kernel of its own here calls the plain C one.

    :param number: the layer's, counted from 1
    :param optimize: ``size`` or ``speed``
    """
    if isinstance(layer, FullyConnected):
        return _fully_connected(number, layer, memory, constants, optimize)
    choice = choose_convolution(layer, optimize) if isinstance(layer, Conv2d) else None
    if isinstance(layer, Conv2d) and choice is not None:
        if choice.kernel == "channels" or choice.kernel == "taps":
            return general(number, layer, choice, memory, constants)
        return convolution(number, layer, choice, memory, constants)
    return _four_at_a_time(layer, codegen_c.layer_code(number, layer, memory, constants))


def _four_at_a_time(layer: Layer, code: LayerCode) -> LayerCode:
    """The same structs and operands with a kernel of four int8 at a time, where there is one."""
    if any(tensor.bits != 8 for tensor in (*layer.inputs, layer.output)):
        return code
    if isinstance(layer, Add) and len(layer.inputs) == 2:
        return LayerCode(code.definitions, code.call.replace("pp_sum_s8_s8_s8(", "pp_sum_s8x4("), SUM)
    if isinstance(layer, Pool) and _pools_by_four(layer):
        plain, fast = f"pp_{layer.kind}_pool_s8(", f"pp_{layer.kind}_pool_s8x4("
        return LayerCode(code.definitions, code.call.replace(plain, fast), POOL)
    return code


def _pools_by_four(layer: Pool) -> bool:
    seen = math.prod(min(pair) for pair in zip(layer.window.kernel, layer.input.shape, strict=False))
    within = layer.kind == "max" or seen <= MEAN_PIXELS
    return within and layer.input.shape[2] % 4 == 0 and layer.window.dilation == (1, 1)


def pack(layer: FullyConnected, run: Run) -> Words:
    """The blocks of some rows of a layer as 32-bit words, [blocks * words per block]."""
    parts = layer.weights[run.order], layer.bias[run.order], layer.requantize.multiplier[run.order]
    if run.layout == "octals" or run.layout == "crumbs":
        return pack_digits(*parts, run.layout)
    return pack_blocks(*parts, run.layout)


def _finish(layer: FullyConnected, digits: bool) -> tuple[str, bool]:
    """Name of the kernel's ending, and whether others must clamp or look up what it yields."""
    before, bits = layer.before_table, layer.before_table.bits
    full = activation_range(bits)
    clamps = (before.low, before.high) != full
    if digits:
        return f"s{bits}", clamps or layer.table is not None
    if layer.table is not None and not clamps:
        return f"s{bits}_table", False
    if layer.table is None and bits == 16 and (before.low, before.high) == (0, full[1]):
        return "s16_relu", False
    return f"s{bits}", clamps


def _fully_connected(
    number: int, layer: FullyConnected, memory: Memory, constants: Constants, optimize: str
) -> LayerCode:
    definitions, table = fused_table(layer, constants)
    widen, source, target, narrow = _places(number, layer, memory)
    runs = choose_runs(layer, optimize)
    digits = runs[0].layout in ROWS
    finish, unfinished = _finish(layer, digits)
    ending = "_shifted" if layer.requantize.shift else ""
    call = ""
    for index, run in enumerate(runs):
        name = f"pp_l{number}" + (f"_{run.rows.start}" if len(runs) > 1 else "")
        definitions += _blocks(name, layer, run, table, constants)
        kernel = f"pp_{'digits' if digits else 'blocks'}_{run.layout}_{finish}{ending}"
        place = f"{target} + {run.rows.start}" if index else target
        call += f"    {kernel}(&{name}, {source}, {place});\n"
    exchanged = [row for run in runs for row in run.exchanged]
    if exchanged:
        comment = "rows computed in the place of the last of their block of four, and it in theirs"
        definitions += constants.array("uint16_t", f"pp_l{number}_exchanged", exchanged, comment)
        call += f"    pp_exchange_s16({target}, pp_l{number}_exchanged, {len(exchanged)});\n"
    call += _ending(layer, table, target) if unfinished else ""
    kernels = (
        DIGIT_KERNELS if digits else (*KERNELS, *(codegen_c.LOOKUP if unfinished and layer.table is not None else ()))
    )
    return LayerCode(definitions, widen + call + narrow, (*kernels, *(WIDTHS if widen or narrow else ())))


def _blocks(name: str, layer: FullyConnected, run: Run, table: str, constants: Constants) -> str:
    """The array of a run's blocks, and the struct that its kernel takes."""
    words, inputs, shift = pack(layer, run), layer.weights.shape[1], layer.requantize.shift
    digits = run.layout if run.layout == "octals" or run.layout == "crumbs" else None
    per_block = 4 if digits is None else ROWS[digits]
    blocks = -(-len(run.rows) // per_block)
    which = "" if len(run.rows) == len(layer.weights) else f"rows {run.rows.start} to {run.rows.stop - 1}, "
    comment = (
        f"{which}{blocks} blocks of {per_block} rows: start values, {len(words) // blocks - 2 * per_block} words of "
        f"weights ({run.layout}), multipliers round(2^{32 - shift} * s_in * s_w[c] / s_out)"
    )
    size = f"{blocks} * {len(words) // blocks}"
    array = constants.array("uint32_t", f"{name}_blocks", words.astype(np.int64), comment, size)
    fields = {
        "blocks": f"{name}_blocks",
        "zero_point": layer.before_table.zero_point,
        "steps": -(-inputs // 4),
        "rows": 4 * blocks if digits is None else len(run.rows),
        "table": table,
        "shift": shift,
    }
    return array + initializer("pp_blocks_t", name, fields)


def _ending(layer: FullyConnected, table: str, target: str) -> str:
    """The clamp narrower than its width and the table that a kernel leaves to others."""
    before, rows, call = layer.before_table, len(layer.weights), ""
    if (before.low, before.high) != activation_range(before.bits):
        call = f"    pp_clamp_s16({target}, {rows}, {before.low}, {before.high});\n"
    if layer.table is not None:
        kernel = "pp_lookup_s16" if before.bits == 16 else "pp_lookup_s8_in_s16"
        call += f"    {kernel}({table}, {target}, {target}, {rows});\n"
    return call


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
