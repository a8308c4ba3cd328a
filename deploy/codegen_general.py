"""Convolutions as calls of the DSP kernels that take any: over gathered windows, or depthwise by four channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from policyport.core.semantics import activation_range
from policyport.deploy.choice import Choice, input_range
from policyport.deploy.codegen_affine import fused_table, image, window
from policyport.deploy.codegen_conv import S8X4_HEADERS
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer, struct_array
from policyport.deploy.layers import Conv2d, TransposedConv2d
from policyport.deploy.layout_channels import pack_channels, places
from policyport.deploy.layout_taps import Phase, TapsLayout, column_elements, fits, group_blocks, phases
from policyport.deploy.variant import Variant

BLOCKS = ("pp_blocks.S", "pp_blocks.c", "pp_blocks.h", "pp_intrinsics.h", "pp_kernels.h")
TAPS = ("pp_simd.h", "pp_taps.c", "pp_taps.h", *BLOCKS)
QUARTETS = (
    *("pp_blocks.h", "pp_finish.h", "pp_intrinsics.h", "pp_kernels.h", "pp_quartets.c", "pp_quartets.h"),
    *("pp_simd.h", "pp_taps.c", "pp_taps.h"),
)
CHANNELS = (
    "pp_channels.S",
    "pp_channels.c",
    "pp_channels.h",
    "pp_finish.h",
    "pp_intrinsics.h",
    "pp_kernels.h",
    "pp_simd.h",
)


def general(
    number: int, layer: Conv2d, choice: Choice, memory: Memory, constants: Constants, variant: Variant = "dsp"
) -> LayerCode:
    """Constants and call of a convolution.

    :param number: the layer's, counted from 1
    :param choice: ``channels`` or ``taps``
    """
    by_taps = choice.kernel == "taps"
    definitions, kernels = _taps(number, layer, constants, variant) if by_taps else _channels(number, layer, constants)
    types = f"s{layer.input.bits}_s{layer.output.bits}"
    by_bytes = not by_taps and layer.input.bits == 8
    scratch = memory.scratch_bytes(number, 0) if by_bytes else memory.scratch(number, 0)
    call = f"    /* about {choice.instructions} instructions on a Cortex-{'M3' if variant == 'thumb' else 'M4'} */\n"
    call += f"    pp_{choice.kernel}_{types}(&pp_l{number}, {memory.at(layer.input)}, "
    call += f"{memory.at(layer.output)}, {scratch});\n"
    table, ending, more = _ending(layer, choice, memory, constants, variant)
    return LayerCode(definitions + table, call + ending, (*kernels, *more))


def _ending(
    layer: Conv2d, choice: Choice, memory: Memory, constants: Constants, variant: Variant
) -> tuple[str, str, tuple[str, ...]]:
    """A clamp that the kernel leaves to others, and a table: definitions, calls, kernels."""
    place, size, before, bits = memory.at(layer.output), layer.output.size, layer.before_table, layer.output.bits
    definition, table = fused_table(layer, constants)
    call = ""
    kernels: tuple[str, ...] = ()
    if choice.kernel == "taps" and _finish(layer, variant) != "s16_relu" and _clamps(layer):
        call = f"    pp_clamp_s{bits}({place}, {size}, {before.low}, {before.high});\n"
        kernels = BLOCKS if bits == 16 else ("pp_s8x4.c", *S8X4_HEADERS)
    if layer.table is not None:
        call += f"    pp_lookup_s{bits}({table}, {place}, {place}, {size});\n"
        kernels += ("pp_lookup.c",)
    return definition, call, kernels


def _clamps(layer: Conv2d) -> bool:
    before = layer.before_table
    return (before.low, before.high) != activation_range(before.bits)


def _finish(layer: Conv2d, variant: Variant) -> str:
    """How the kernel of the blocks ends."""
    before = layer.before_table
    relu = variant != "thumb" and before.bits == 16 and (before.low, before.high) == (0, activation_range(16)[1])
    return "s16_relu" if relu else f"s{before.bits}"


def _taps(number: int, layer: Conv2d, constants: Constants, variant: Variant) -> tuple[str, tuple[str, ...]]:
    name, layout = f"pp_l{number}", fits(layer, variant, *input_range(layer))
    found = phases(layer)
    parts = [list(group_blocks(layer, phase, layout)) for phase in found]
    words = np.concatenate([blocks for groups in parts for blocks in groups]).astype(np.int64)
    comment = (
        f"{len(found)} x {layer.groups} runs of blocks of 4 rows: start values, weights ({layout}), "
        f"multipliers round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out)"
    )
    definitions = constants.array("uint32_t", f"{name}_blocks", words, comment)
    definitions += struct_array("pp_blocks_t", f"{name}_groups", _groups(name, layer, found, parts))
    definitions += _phases(name, layer, found)
    fields = {
        "phases": f"{name}_phases",
        "kernel": _kernel(layer, layout, variant),
        "input": image(layer.input),
        "output": image(layer.output),
        "groups": layer.groups,
        "depth": layer.weights.shape[3],
        "share": len(layer.weights) // layer.groups,
        **_steps(layer),
        "taps": column_elements(layer),
        "zero_point": layer.input.zero_point,
    }
    return definitions + initializer("pp_taps_t", name, fields), QUARTETS if layout == "quartets" else TAPS


def _kernel(layer: Conv2d, layout: TapsLayout, variant: Variant) -> str:
    if layout == "quartets":
        return f"pp_quartets_{_finish(layer, variant)}"
    return f"pp_blocks_{layout}_{_finish(layer, variant)}{'_shifted' if layer.requantize.shift else ''}"


def _steps(layer: Conv2d) -> dict[str, object]:
    """Where windows begin, and how far the next is."""
    transposed = isinstance(layer, TransposedConv2d)
    stride, step = ((1, 1), layer.window.stride) if transposed else (layer.window.stride, (1, 1))
    top, left = (0, 0) if transposed else layer.window.pads[:2]
    return {
        "origin_y": -top,
        "origin_x": -left,
        "stride_y": stride[0],
        "stride_x": stride[1],
        "step_y": step[0],
        "step_x": step[1],
    }


def _groups(
    name: str, layer: Conv2d, found: Sequence[Phase], parts: Sequence[Sequence[object]]
) -> list[dict[str, object]]:
    """``pp_blocks_t`` of each phase and group."""
    share, depth = len(layer.weights) // layer.groups, layer.weights.shape[3]
    rows, at = [], 0
    for phase, groups in zip(found, parts, strict=True):
        for blocks in groups:
            rows.append(
                {
                    "blocks": f"{name}_blocks + {at}",
                    "zero_point": layer.before_table.zero_point,
                    "steps": -(-max(1, len(phase.taps) * depth) // 4),
                    "rows": -(-share // 4) * 4,
                    "shift": layer.requantize.shift,
                }
            )
            at += len(blocks)  # type: ignore[arg-type]
    return rows


def _phases(name: str, layer: Conv2d, found: Sequence[Phase]) -> str:
    """The runs of all phases, and the phases."""
    runs = [phase.runs(layer.groups) for phase in found]
    ends = np.cumsum([len(part) for part in runs])
    rows = [{"y": y, "x": x, "pixels": pixels} for part in runs for y, x, pixels in part]
    table = [
        {
            "runs": f"{name}_runs + {end - len(part)}",
            "end": f"{name}_runs + {end}",
            "groups": f"{name}_groups + {i * layer.groups}",
        }
        for i, (part, end) in enumerate(zip(runs, ends, strict=True))
    ]
    return struct_array("pp_run_t", f"{name}_runs", rows) + struct_array("pp_phase_t", f"{name}_phases", table)


def _channels(number: int, layer: Conv2d, constants: Constants) -> tuple[str, tuple[str, ...]]:
    name, before, dilation = f"pp_l{number}", layer.before_table, layer.window.dilation
    comment = (
        "blocks of 4 channels: biases, multipliers "
        f"round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out), a word of each channel for two taps"
    )
    inside, copied = places(layer, layer.input.shape[1], dilation), places(layer, layer.window.kernel[1], (1, 1))
    definitions = constants.array("uint32_t", f"{name}_blocks", pack_channels(layer).astype(np.int64), comment)
    definitions += constants.array("uint32_t", f"{name}_inside", inside, "elements to each tap in the image")
    definitions += constants.array("uint32_t", f"{name}_copied", copied, "elements to each tap in a copied window")
    fields = {
        "blocks": f"{name}_blocks",
        "inside": f"{name}_inside",
        "copied": f"{name}_copied",
        "input": image(layer.input),
        "output": image(layer.output),
        "window": window(layer.window),
        "pairs": len(inside) // 2,
        "share": len(layer.weights) // layer.groups,
        "padding": layer.input.zero_point,
        "zero_point": before.zero_point,
        "low": before.low,
        "high": before.high,
        "shift": layer.requantize.shift,
    }
    return definitions + initializer("pp_channels_t", name, fields), CHANNELS
