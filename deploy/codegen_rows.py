"""Layers as calls of the kernels of whole rows: variant ``mve`` for Cortex-M55, ``thumb`` for Cortex-M0, M0+ and M3.

What they do not compute goes to the kernels of variant ``dsp``, or to the plain C ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from policyport.deploy import codegen_c, codegen_dsp
from policyport.deploy.choice import variant_choice
from policyport.deploy.codegen_affine import fused_table
from policyport.deploy.codegen_general import general
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import Affine, Conv2d, Layer
from policyport.deploy.layout_rows import RowsLayout, RowsVariant, copies, pack, rows_layout

KERNELS: dict[RowsVariant, tuple[str, ...]] = {
    "mve": ("pp_function.h", "pp_intrinsics.h", "pp_mve.S", "pp_mve.h", "pp_mve_rows.c", "pp_rows.h"),
    "thumb": (
        *("pp_function.h", "pp_gather.c", "pp_intrinsics.h"),
        *("pp_quads.S", "pp_quads.c", "pp_quads.h", "pp_rows.h"),
    ),
}
CONV_KERNELS: dict[RowsVariant, tuple[str, ...]] = {"mve": ("pp_gather.c", "pp_mve_conv.c"), "thumb": ()}
STEMS: dict[RowsVariant, str] = {"mve": "pp_mve", "thumb": "pp_quads"}


def layer_code(
    number: int, layer: Layer, memory: Memory, constants: Constants, variant: RowsVariant, optimize: str
) -> LayerCode:
    """Constants and call of a layer.

    :param number: the layer's, counted from 1
    :param optimize: ``size`` or ``speed``
    """
    layout = rows_layout(layer, variant, optimize) if isinstance(layer, Affine) else None
    if layout is not None:
        assert isinstance(layer, Affine)
        return _affine(number, layer, layout, memory, constants, variant)
    if variant == "mve":
        return codegen_dsp.layer_code(number, layer, memory, constants, optimize)
    choice = variant_choice(layer, variant, optimize) if isinstance(layer, Conv2d) else None
    if isinstance(layer, Conv2d) and choice is not None:
        return general(number, layer, choice, memory, constants, variant)
    return codegen_c.layer_code(number, layer, memory, constants)


def _affine(
    number: int, layer: Affine, layout: RowsLayout, memory: Memory, constants: Constants, variant: RowsVariant
) -> LayerCode:
    definition, table = fused_table(layer, constants)
    rows, array = _rows(number, layer, layout, constants, variant)
    source, target, name = memory.at(layer.input), memory.at(layer.output), f"pp_l{number}"
    copy = memory.scratch_bytes(number, 0, signed=variant == "mve") if copies(layer, variant) else ""
    kernels = KERNELS[variant]
    if isinstance(layer, Conv2d):
        struct = initializer("pp_conv_rows_t", name, {"rows": rows, **_image(layer)})
        arguments, kind = f"{source}, {target}, {copy or '0'}", "conv"
        kernels += CONV_KERNELS[variant]
    else:
        struct, kind = initializer("pp_rows_t", name, rows), "rows"
        arguments = f"{source}, {target}" + (f", {copy}" if copy else "")
    kernel = "pp_quads_depthwise" if layout == "depthwise" else f"{STEMS[variant]}_{kind}_{layout}"
    call = f"    {kernel}(&{name}, {arguments});\n"
    if layer.table is not None:
        call += f"    pp_lookup_s8({table}, {target}, {target}, {layer.output.size});\n"
        kernels += ("pp_kernels.h", "pp_lookup.c")
    return LayerCode(definition + array + struct, call, kernels)


def _rows(
    number: int, layer: Affine, layout: RowsLayout, constants: Constants, variant: RowsVariant
) -> tuple[Mapping[str, object], str]:
    """``pp_rows_t`` of a layer, and the array of its blocks."""
    words = pack(layer, variant, layout)
    comment = (
        f"{len(words)} words: blocks of rows with their start values, weights ({layout}) and "
        f"multipliers round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out)"
    )
    name = f"pp_l{number}_blocks"
    array = constants.array("uint32_t", name, words.astype(np.int64), comment)
    before = layer.before_table
    fields = {
        "blocks": name,
        "inputs": int(np.prod(layer.weights.shape[1:])),
        "rows": len(layer.weights),
        "zero_point": before.zero_point,
        "low": before.low,
        "high": before.high,
        "shift": layer.requantize.shift,
    }
    return fields, array


def _image(layer: Conv2d) -> Mapping[str, object]:
    """The other fields of ``pp_conv_rows_t``."""
    sides = ("height", "width", "channels")
    fields: dict[str, object] = {f"input_{side}": size for side, size in zip(sides, layer.input.shape, strict=True)}
    fields |= {f"output_{side}": size for side, size in zip(sides, layer.output.shape, strict=True)}
    pairs = {"kernel": layer.window.kernel, "stride": layer.window.stride, "pad": layer.window.pads[:2]}
    ends = {"kernel": ("height", "width"), "stride": ("y", "x"), "pad": ("top", "left")}
    for what, pair in pairs.items():
        fields |= {f"{what}_{end}": value for end, value in zip(ends[what], pair, strict=True)}
    return fields | {"padding": layer.input.zero_point}
