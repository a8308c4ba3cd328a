"""Layers with weights as calls of the plain C kernels: fully connected, convolutions, transposed convolutions."""

from __future__ import annotations

import numpy as np
from policyport.core.operators import Window
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Tensor, TransposedConv2d
from policyport.deploy.packing import pack_rows, packed_row_bytes

HEADERS = ("pp_finish.h", "pp_intrinsics.h", "pp_kernels.h")


def fully_connected(number: int, layer: FullyConnected, memory: Memory, constants: Constants) -> LayerCode:
    """Constants and call of a fully connected layer."""
    outputs, inputs = layer.weights.shape
    definitions, fields = _affine(number, layer, constants, "[out][in]")
    fields |= {"inputs": inputs, "outputs": outputs}
    struct = initializer("pp_fully_connected_t", f"pp_l{number}", fields)
    call = _call(number, layer, memory, "fully_connected")
    return LayerCode(definitions + struct, call, ("pp_fully_connected.c", *HEADERS))


def convolution(number: int, layer: Conv2d, memory: Memory, constants: Constants) -> LayerCode:
    """Constants and call of a convolution or a transposed one."""
    definitions, fields = _affine(number, layer, constants, "[out][ky][kx][in / groups]")
    fields |= {
        "input": image(layer.input),
        "output": image(layer.output),
        "window": window(layer.window),
        "depth": layer.input.shape[2] // layer.groups,
        "share": layer.output.shape[2] // layer.groups,
        "zero_point": layer.input.zero_point,
    }
    struct = initializer("pp_convolution_t", f"pp_l{number}", fields)
    kind = "transposed" if isinstance(layer, TransposedConv2d) else "convolution"
    call = _call(number, layer, memory, kind)
    return LayerCode(definitions + struct, call, (f"pp_{kind}.c", "pp_convolution_loops.h", *HEADERS))


def fused_table(layer: Affine, constants: Constants) -> tuple[str, str]:
    """The table of a fused function: its definition, and the C expression of its entry for 0 (``NULL`` without one)."""
    if layer.table is None:
        return "", "NULL"
    before = layer.before_table
    comment = f"{layer.function} of {before.scale:.6g} * (q - {before.zero_point}), entry 128 for q = 0"
    definition, name = constants.table(layer.table, layer.output.bits, comment)
    return definition, f"{name} + 128"


def image(tensor: Tensor) -> dict[str, object]:
    """``pp_image_t``"""
    return dict(zip(("height", "width", "channels"), tensor.shape, strict=True))


def window(given: Window) -> dict[str, object]:
    """``pp_sliding_window_t``"""
    return {
        "height": given.kernel[0],
        "width": given.kernel[1],
        "stride_down": given.stride[0],
        "stride_across": given.stride[1],
        "dilation_down": given.dilation[0],
        "dilation_across": given.dilation[1],
        "pad_top": given.pads[0],
        "pad_left": given.pads[1],
    }


def _affine(number: int, layer: Affine, constants: Constants, axes: str) -> tuple[str, dict[str, object]]:
    """Definitions of weights, bias, multipliers and table, and the struct's fields for them."""
    name, before, by = f"pp_l{number}", layer.before_table, layer.requantize
    rows = layer.weights.reshape(len(layer.weights), -1)
    definition, table = fused_table(layer, constants)
    parts = [
        definition,
        _weights(f"{name}_weights", layer, constants, axes),
        constants.array("int32_t", f"{name}_bias", layer.bias, "s = s_in * s_w[c], input zero point folded in"),
        constants.array(
            "int32_t", f"{name}_multiplier", by.multiplier, f"round(2^{32 - by.shift} * s_in * s_w[c] / s_out)"
        ),
    ]
    row_bytes = packed_row_bytes(rows.shape[1], layer.weight_bits)
    fields: dict[str, object] = {
        "weights": {"rows": f"{name}_weights", "row_bytes": row_bytes, "bits": layer.weight_bits},
        "bias": f"{name}_bias",
        "requantize": {
            "multiplier": f"{name}_multiplier",
            "table": table,
            "zero_point": before.zero_point,
            "low": before.low,
            "high": before.high,
            "shift": by.shift,
        },
    }
    return "".join(parts), fields


def _weights(name: str, layer: Affine, constants: Constants, axes: str) -> str:
    rows = layer.weights.reshape(len(layer.weights), -1)
    if layer.weight_bits == 8:
        size = " * ".join(str(n) for n in layer.weights.shape)
        return constants.array("int8_t", name, layer.weights, axes, size)
    packed = pack_rows(rows, layer.weight_bits).reshape(-1)
    comment = f"{axes} of {layer.weight_bits} bits, low bits first, each [out] from a new byte on; one byte to spare"
    size = f"{len(rows)} * {len(packed) // len(rows)} + 1"
    return constants.array("uint8_t", name, np.append(packed, 0), comment, size)


def _call(number: int, layer: Affine, memory: Memory, kind: str) -> str:
    packed = "" if layer.weight_bits == 8 else "packed_"
    kernel = f"pp_{kind}_{packed}s{layer.input.bits}_s{layer.output.bits}"
    return f"    {kernel}(&pp_l{number}, {memory.at(layer.input)}, {memory.at(layer.output)});\n"
