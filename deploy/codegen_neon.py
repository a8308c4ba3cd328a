"""Layers as calls of the AArch64 kernels (variants ``neon``, ``neon_dot``), where they take them; else of plain C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from policyport.deploy import codegen_c
from policyport.deploy.choice_neon import neon_choice
from policyport.deploy.codegen_affine import fused_table, image
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer, struct_array
from policyport.deploy.layers import Add, Affine, Conv2d, Layer, Lookup, Pool, TransposedConv2d
from policyport.deploy.layout_blocks import Words
from policyport.deploy.layout_neon import (
    NeonKernel,
    NeonLayout,
    depth_of,
    groups_of,
    neon_phases,
    pack_phase,
    parts_of,
)
from policyport.deploy.layout_neon_ring import (
    Ring,
    pixel_bytes,
    reading_of,
    ring_of,
    ring_runs,
    run_bytes,
    scratch_bytes,
    scratch_of,
)
from policyport.deploy.layout_taps import Phase
from policyport.deploy.variant import NeonVariant

POINTS = (
    *("pp_finish.h", "pp_intrinsics.h", "pp_kernels.h", "pp_neon.h", "pp_neon_finish.h", "pp_neon_inline.h"),
    *("pp_neon_points.c", "pp_neon_points.h"),
)
POOLS = (
    *("pp_finish.h", "pp_intrinsics.h", "pp_kernels.h", "pp_neon.h", "pp_neon_finish.h", "pp_neon_inline.h"),
    *("pp_neon_points.h", "pp_neon_pools.c", "pp_pool_part.h"),
)
SHARED = (
    *("pp_finish.h", "pp_intrinsics.h", "pp_kernels.h", "pp_neon.h", "pp_neon_finish.h", "pp_neon_inline.h"),
    *("pp_neon_twin.h", "pp_neon_windows.c", "pp_neon_windows.h"),
)


def layer_code(
    number: int, layer: Layer, memory: Memory, constants: Constants, variant: NeonVariant, optimize: str
) -> LayerCode:
    """Constants and call of a layer.

    :param number: the layer's, counted from 1
    :param optimize: ``size`` or ``speed``
    """
    kernel = neon_choice(layer, variant, optimize) if isinstance(layer, Affine) else None
    if isinstance(layer, Affine) and kernel is not None:
        return _affine(number, layer, kernel, memory, constants)
    return _sixteen_at_a_time(layer, codegen_c.layer_code(number, layer, memory, constants))


def _sixteen_at_a_time(layer: Layer, code: LayerCode) -> LayerCode:
    """The same structs and operands with a kernel of sixteen int8 at a time, where there is one."""
    if any(tensor.bits != 8 for tensor in (*layer.inputs, layer.output)):
        return code
    if isinstance(layer, Pool) and layer.window.dilation == (1, 1):
        return LayerCode(code.definitions, code.call.replace(f"pp_{layer.kind}_", f"pp_neon_{layer.kind}_"), POOLS)
    if isinstance(layer, (Add, Lookup)):
        call = code.call
        for plain, name in (("sum_s8_s8_s8(", "sum_s8("), ("rescale_s8_s8(", "rescale_s8("), ("lookup_s8(",) * 2):
            call = call.replace(f"pp_{plain}", f"pp_neon_{name}")
        return LayerCode(code.definitions, call, POINTS)
    return code


def _affine(number: int, layer: Affine, kernel: NeonKernel, memory: Memory, constants: Constants) -> LayerCode:
    name = f"pp_l{number}"
    definitions, table = fused_table(layer, constants)
    found = neon_phases(layer)
    packed = [pack_phase(layer, phase, kernel) for phase in found]
    definitions += _blocks(name, layer, packed, kernel.layout, constants)
    definitions += _phases(name, layer, found, packed, kernel)
    definitions += initializer("pp_neon_t", name, _fields(name, layer, kernel))
    scratch = memory.scratch_bytes(number, 0) if scratch_bytes(layer, kernel) else "NULL"
    function = f"pp_neon_{kernel.how.name}_{kernel.layout}{'_s16' if layer.input.bits == 16 else ''}"
    source, target = memory.at(layer.input), memory.at(layer.output)
    call = f"    {function}(&{name}, {source}, {target}, {scratch});\n"
    kernels: tuple[str, ...] = (f"pp_neon_{kernel.how.name}.c", *SHARED)
    if layer.table is not None:
        narrow = layer.output.bits == 8
        lookup = "pp_neon_lookup_s8" if narrow else "pp_lookup_s16"
        call += f"    {lookup}({table}, {target}, {target}, {layer.output.size});\n"
        kernels += POINTS if narrow else ("pp_lookup.c",)
    return LayerCode(definitions, call, kernels)


def _blocks(
    name: str, layer: Affine, packed: Sequence[Sequence[Words]], layout: NeonLayout, constants: Constants
) -> str:
    words = np.concatenate([words for groups in packed for words in groups]).astype(np.int64)
    comment = (
        f"{len(packed)} x {groups_of(layer)} runs of blocks of rows: biases, weights ({layout}), multipliers "
        f"round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out)"
    )
    return constants.array("uint32_t", f"{name}_blocks", words, comment)


def _phases(
    name: str,
    layer: Affine,
    found: Sequence[Phase],
    packed: Sequence[Sequence[Words]],
    kernel: NeonKernel,
) -> str:
    """The runs of all phases, and the phases."""
    runs = ring_runs(layer, kernel)
    all_runs = [{"y": y, "x": x} for part in runs for y, x, _ in part]
    table: list[dict[str, object]] = []
    run = word = 0
    for phase, of_phase, groups in zip(found, runs, packed, strict=True):
        parts = parts_of(layer, phase, kernel)
        table.append(
            {
                "runs": f"{name}_runs + {run}",
                "count": len(of_phase),
                "run_bytes": run_bytes(layer, of_phase),
                "parts": parts.count,
                "inputs": parts.inputs,
                "blocks": f"{name}_blocks + {word}",
                "words": len(groups[0]),
            }
        )
        run, word = run + len(of_phase), word + sum(map(len, groups))
    return struct_array("pp_neon_run_t", f"{name}_runs", all_runs) + struct_array(
        "pp_neon_phase_t", f"{name}_phases", table
    )


def _fields(name: str, layer: Affine, kernel: NeonKernel) -> dict[str, object]:
    """The fields of ``pp_neon_t``."""
    before, share = layer.before_table, len(layer.weights) // groups_of(layer)
    scratch, ring = scratch_of(layer, kernel), _ring(layer, kernel)
    stride, step = (1, 1), (1, 1)
    images: tuple[dict[str, object], dict[str, object]] = (
        {"height": 1, "width": 1, "channels": layer.input.size},
        {"height": 1, "width": 1, "channels": layer.output.size},
    )
    if isinstance(layer, Conv2d):
        images = image(layer.input), image(layer.output)
        if isinstance(layer, TransposedConv2d):
            step = layer.window.stride
        else:
            stride = layer.window.stride
    return {
        "phases": f"{name}_phases",
        "input": images[0],
        "output": images[1],
        "groups": groups_of(layer),
        "depth": depth_of(layer),
        "share": share,
        "block_rows": kernel.how.sizes[0],
        "first_row": ring.top,
        "first_column": ring.left,
        "ring_rows": ring.rows,
        "ring_columns": ring.columns,
        "stride_y": stride[0],
        "stride_x": stride[1],
        "step_y": step[0],
        "step_x": step[1],
        "input_bytes": layer.input.bits // 8,
        "output_bytes": layer.output.bits // 8,
        "reading": f"PP_NEON_{reading_of(layer, kernel).upper()}",
        "padding": layer.input.zero_point if layer.input.bits == 8 else 0,
        "row_bytes": ring.row_bytes,
        "ring_first": scratch.ring_first,
        "slot_first": scratch.slot_first,
        "slot_step": scratch.slot_step,
        "slots": scratch.slots,
        "shift": layer.requantize.shift,
        "zero_point": before.zero_point,
        "low": before.low,
        "high": before.high,
    }


def _ring(layer: Affine, kernel: NeonKernel) -> Ring:
    """Of a fully connected layer the one pixel."""
    return ring_of(layer, kernel) if isinstance(layer, Conv2d) else Ring(0, 0, 1, 1, pixel_bytes(layer))
