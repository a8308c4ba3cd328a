"""Layers as calls of the vector kernels of Cortex-M55 (variant ``mve``); else of those of variant ``dsp``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from policyport.deploy import codegen_dsp
from policyport.deploy.codegen_affine import fused_table
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import Affine, Conv2d, Layer
from policyport.deploy.layout_mve import VectorLayout, gathers, pack_vectors, vector_layout

ROWS = ("pp_intrinsics.h", "pp_mve.S", "pp_mve.h", "pp_mve_rows.c")


def layer_code(number: int, layer: Layer, memory: Memory, constants: Constants, optimize: str) -> LayerCode:
    """Constants and call of a layer.

    :param number: the layer's, counted from 1
    :param optimize: ``size`` or ``speed``, for what the kernels of variant ``dsp`` compute
    """
    layout = vector_layout(layer) if isinstance(layer, Affine) else None
    if layout is None:
        return codegen_dsp.layer_code(number, layer, memory, constants, optimize)
    assert isinstance(layer, Affine)
    definition, table = fused_table(layer, constants)
    rows, array = _rows(number, layer, layout, constants)
    source, target, name = memory.at(layer.input), memory.at(layer.output), f"pp_l{number}"
    copy = memory.scratch_bytes(number, 0) if gathers(layer, layout) else ""
    if isinstance(layer, Conv2d):
        struct = initializer("pp_mve_conv_t", name, {"rows": rows, **_image(layer)})
        call = f"    pp_mve_conv_{layout}(&{name}, {source}, {target}, {copy or '0'});\n"
        kernels: tuple[str, ...] = ("pp_mve_conv.c", *ROWS)
    else:
        struct = initializer("pp_mve_rows_t", name, rows)
        call = f"    pp_mve_copy({copy}, {source}, {layer.input.size});\n" if copy else ""
        call += f"    pp_mve_rows_{layout}(&{name}, {copy or source}, {target});\n"
        kernels = ROWS
    if layer.table is not None:
        call += f"    pp_lookup_s8({table}, {target}, {target}, {layer.output.size});\n"
        kernels += ("pp_kernels.h", "pp_lookup.c")
    return LayerCode(definition + array + struct, call, kernels)


def _rows(number: int, layer: Affine, layout: VectorLayout, constants: Constants) -> tuple[Mapping[str, object], str]:
    """``pp_mve_rows_t`` of a layer, and the array of its blocks."""
    rows = layer.weights.reshape(len(layer.weights), -1)
    words = pack_vectors(rows, layer.bias, layer.requantize.multiplier, layout)
    blocks = -(-len(rows) // 4)
    comment = (
        f"{blocks} blocks of 4 rows: 4 biases, {len(words) // blocks - 8} words of weights ({layout}), "
        f"4 multipliers round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out)"
    )
    name = f"pp_l{number}_blocks"
    array = constants.array("uint32_t", name, words.astype(np.int64), comment, f"{blocks} * {len(words) // blocks}")
    before = layer.before_table
    fields = {
        "blocks": name,
        "inputs": rows.shape[1],
        "rows": len(rows),
        "zero_point": before.zero_point,
        "low": before.low,
        "high": before.high,
        "shift": layer.requantize.shift,
    }
    return fields, array


def _image(layer: Conv2d) -> Mapping[str, object]:
    """The other fields of ``pp_mve_conv_t``."""
    sides = ("height", "width", "channels")
    fields: dict[str, object] = {f"input_{side}": size for side, size in zip(sides, layer.input.shape, strict=True)}
    fields |= {f"output_{side}": size for side, size in zip(sides, layer.output.shape, strict=True)}
    pairs = {"kernel": layer.window.kernel, "stride": layer.window.stride, "pad": layer.window.pads[:2]}
    ends = {"kernel": ("height", "width"), "stride": ("y", "x"), "pad": ("top", "left")}
    for what, pair in pairs.items():
        fields |= {f"{what}_{end}": value for end, value in zip(ends[what], pair, strict=True)}
    return fields | {"padding": layer.input.zero_point}
