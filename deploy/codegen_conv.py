"""Convolutions as calls of the DSP kernels (variant ``dsp``): weights in their order, sizes in their structs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from policyport.core.semantics import activation_range
from policyport.deploy.choice import Choice
from policyport.deploy.codegen_affine import fused_table
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import Conv2d, Tensor
from policyport.deploy.layout_blocks import Words
from policyport.deploy.layout_conv import pack_conv
from policyport.deploy.layout_depthwise import pack_depthwise
from policyport.deploy.layout_winograd import pack_winograd

Fields = Mapping[str, object]

FILES = {
    "pairs": "pp_conv",
    "nibbles": "pp_conv",
    "winograd": "pp_winograd",
    "depthwise": "pp_depthwise",
}
"""The kernel files of each choice, without their endings."""

S8X4_HEADERS = ("pp_finish.h", "pp_intrinsics.h", "pp_kernels.h", "pp_s8x4.h", "pp_simd.h")


def convolution(number: int, layer: Conv2d, choice: Choice, memory: Memory, constants: Constants) -> LayerCode:
    """Constants and call of a convolution.

    :param number: the layer's, counted from 1
    :param choice: a kernel that is exact for the layer
    """
    name, stem = f"pp_l{number}", FILES[choice.kernel]
    words, comment, fields = _WRITERS[choice.kernel](layer, choice)
    comment += f";\n * multipliers round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out)"
    array = constants.array("uint32_t", f"{name}_weights", words.astype(np.int64), comment)
    first = "blocks" if stem == "pp_conv" else "weights"
    struct = initializer(f"{stem}_t", name, {first: f"{name}_weights", **fields})
    kernel = stem if choice.kernel == "winograd" else f"{stem}_{choice.kernel}"
    if choice.kernel == "depthwise":
        kernel = f"{stem}_s{layer.window.stride[0]}"
    kernel += "_shifted" if layer.requantize.shift else ""
    scratch = memory.scratch(number, 0) if stem == "pp_conv" else memory.scratch_words(number, 0)
    call = f"    /* about {choice.instructions} instructions on a Cortex-M4 */\n"
    call += f"    {kernel}(&{name}, {memory.at(layer.input)}, {memory.at(layer.output)}, {scratch});\n"
    definition, ending, kernels = _ending(number, layer, memory, constants)
    files = (f"{stem}.S", f"{stem}.c", f"{stem}.h", "pp_intrinsics.h", "pp_simd.h")
    return LayerCode(definition + array + struct, call + ending, (*files, *kernels))


def _ending(number: int, layer: Conv2d, memory: Memory, constants: Constants) -> tuple[str, str, tuple[str, ...]]:
    """What follows a kernel that clamps to int8: a clamp narrower than that, a table. Definitions, call, kernels."""
    place, size, before = memory.at(layer.output), layer.output.size, layer.before_table
    definition, table = fused_table(layer, constants)
    call = ""
    kernels: tuple[str, ...] = ()
    if (before.low, before.high) != activation_range(8):
        call = f"    pp_clamp_s8({place}, {size}, {before.low}, {before.high});\n"
        kernels = ("pp_s8x4.c", *S8X4_HEADERS)
    if layer.table is not None:
        call += f"    pp_lookup_s8({table}, {place}, {place}, {size});\n"
        kernels += ("pp_kernels.h", "pp_lookup.c")
    return definition, call, kernels


def _sizes(source: Tensor, target: Tensor) -> dict[str, object]:
    return {
        "input_height": source.shape[0],
        "input_width": source.shape[1],
        "input_channels": source.shape[2],
        "output_height": target.shape[0],
        "output_width": target.shape[1],
        "output_channels": target.shape[2],
    }


def _common(layer: Conv2d) -> dict[str, object]:
    return {
        "zero_point": layer.before_table.zero_point,
        "shift": layer.requantize.shift,
        "pad_top": layer.window.pads[0],
        "pad_left": layer.window.pads[1],
        "padding": layer.input.zero_point,
    }


def _as_one_row(image: Tensor) -> Tensor:
    """An image whose pixels are all neighbours, where that makes no difference and its width can be held."""
    height, width, channels = image.shape
    return replace(image, shape=(1, height * width, channels)) if height * width < 2**16 else image


def _direct(layer: Conv2d, choice: Choice) -> tuple[Words, str, Fields]:
    rows, columns = layer.window.kernel
    source, target = layer.input, layer.output
    if rows == columns == 1 and layer.window.stride == (1, 1) and not any(layer.window.pads):
        source, target = _as_one_row(source), _as_one_row(target)
    row_bytes = columns * source.shape[2]
    groups = -(-row_bytes // 4)
    window = {
        "rows": rows,
        "groups": groups,
        "skip": source.shape[1] * source.shape[2] - 4 * groups,
        "bytes": row_bytes,
    }
    layout = "nibbles" if choice.kernel == "nibbles" else "pairs"
    words = pack_conv(layer.weights, layer.bias, layer.requantize.multiplier, layout)  # type: ignore[arg-type]
    steps = 2 * rows * groups
    per_step = 1 if layout == "nibbles" else 2
    comment = f"blocks of 4 channels: 4 start values, {steps} x {per_step} words of weights ({layout}), 4 multipliers"
    down, across = layer.window.stride
    fields = {"steps": steps, "window": window, "kernel_width": columns, "stride_y": down, "stride_x": across}
    return words, comment, {**fields, **_sizes(source, target), **_common(layer)}


def _winograd(layer: Conv2d, choice: Choice) -> tuple[Words, str, Fields]:
    words = pack_winograd(layer.weights, layer.bias, layer.requantize.multiplier)
    comment = "for 2 channels: 2 biases, 2 multipliers, [16 places][pair of inputs][channel] transformed weights"
    return words, comment, {**_sizes(layer.input, layer.output), **_common(layer)}


def _depthwise(layer: Conv2d, choice: Choice) -> tuple[Words, str, Fields]:
    (height, width, channels), (rows, columns, _) = layer.input.shape, layer.output.shape
    weights, pads = layer.weights[..., 0], layer.window.pads[:2]
    across, down = (channels, channels), (width * channels, columns * channels)
    if choice.turned:
        weights, pads, across, down = weights.transpose(0, 2, 1), (pads[1], pads[0]), down, across
        height, width, rows, columns = width, height, columns, rows
    words = pack_depthwise(weights, layer.bias, layer.requantize.multiplier)
    along = "height" if choice.turned else "width"
    comment = f"[channel]: bias, multiplier, (w0, w1) and (w1, w2) of 3 rows; rows run along the {along}"
    fields = {
        "input_pixel": across[0],
        "input_row": down[0],
        "output_pixel": across[1],
        "output_row": down[1],
        "input_height": height,
        "input_width": width,
        "output_height": rows,
        "output_width": columns,
        "channels": channels,
    }
    return words, comment, {**fields, **_common(layer), "pad_top": pads[0], "pad_left": pads[1]}


_WRITERS = {"pairs": _direct, "nibbles": _direct, "winograd": _winograd, "depthwise": _depthwise}
