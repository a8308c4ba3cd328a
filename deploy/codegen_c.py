"""Layers as calls of the plain C kernels (variant ``c``): any core, and the host."""

from __future__ import annotations

from policyport.deploy.codegen_text import Constants, LayerCode
from policyport.deploy.program import FullyConnected, Layer, Lookup, Tensor

KERNELS = ("pp_kernels.h", "pp_intrinsics.h", "pp_fully_connected.c")
LOOKUPS = ("pp_kernels.h", "pp_lookup.c")


def at(tensor: Tensor, offset_bytes: int) -> str:
    """The C expression of an activation's place in the arena."""
    return f"pp_arena.s{tensor.bits} + {offset_bytes * 8 // tensor.bits}"


def layer_code(number: int, layer: Layer, source: int, target: int, constants: Constants) -> LayerCode:
    """Constants and call of a layer.

    :param number: the layer's, counted from 1
    :param source: offset of its input in the arena, in bytes
    :param target: offset of its output in the arena, in bytes
    """
    if isinstance(layer, Lookup):
        return _lookup(layer, target, constants)
    return _fully_connected(number, layer, source, target, constants)


def _lookup(layer: Lookup, target: int, constants: Constants) -> LayerCode:
    bits, size = layer.output.bits, layer.output.size
    definition, name = constants.table(layer.table, bits, f"{layer.function}, entry 128 for q = 0")
    call = f"    pp_lookup_s{bits}({name} + 128, {at(layer.output, target)}, {size});\n"
    return LayerCode(definition, call, LOOKUPS)


def _fully_connected(number: int, layer: FullyConnected, source: int, target: int, constants: Constants) -> LayerCode:
    outputs, inputs = layer.weights.shape
    name, before = f"pp_l{number}", layer.before_table
    definition, table = "", "NULL"
    if layer.table is not None:
        comment = f"{layer.function} of {before.scale:.6g} * (q - {before.zero_point}), entry 128 for q = 0"
        definition, table = constants.table(layer.table, layer.output.bits, comment)
        table += " + 128"
    parts = [
        definition,
        constants.array("int8_t", f"{name}_weights", layer.weights, "[out][in]", f"{outputs} * {inputs}"),
        constants.array("int32_t", f"{name}_bias", layer.bias, "s = s_in * s_w[c], input zero point folded in"),
        constants.array(
            "int32_t",
            f"{name}_multiplier",
            layer.requantize.multiplier,
            f"round(2^{32 - layer.requantize.shift} * s_in * s_w[c] / s_out)",
        ),
        f"""static const pp_fully_connected_t {name} = {{
    .weights = {name}_weights,
    .bias = {name}_bias,
    .inputs = {inputs},
    .outputs = {outputs},
    .requantize = {{
        .multiplier = {name}_multiplier,
        .table = {table},
        .zero_point = {before.zero_point},
        .low = {before.low},
        .high = {before.high},
        .shift = {layer.requantize.shift},
    }},
}};
""",
    ]
    kernel = f"pp_fully_connected_s{layer.input.bits}_s{layer.output.bits}"
    call = f"    {kernel}(&{name}, {at(layer.input, source)}, {at(layer.output, target)});\n"
    return LayerCode("".join(parts), call, KERNELS)
