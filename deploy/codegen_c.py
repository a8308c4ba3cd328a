"""Layers as calls of the plain C kernels: any core, and the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from policyport.core import operators
from policyport.core.operators import Window
from policyport.deploy.codegen_affine import HEADERS, convolution, fully_connected, image, window
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, initializer
from policyport.deploy.layers import (
    Add,
    Argmax,
    Concat,
    Conv2d,
    FullyConnected,
    Layer,
    Lookup,
    Multiply,
    Pad,
    Pool,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    TransposedConv2d,
)

CHOICE = ("pp_choice.c", "pp_kernels.h")
ELEMENTWISE = ("pp_elementwise.c", *HEADERS)
LOOKUP = ("pp_kernels.h", "pp_lookup.c")
MOVES = ("pp_kernels.h", "pp_moves.c")
POOL = ("pp_pool.c", *HEADERS)


def layer_code(number: int, layer: Layer, memory: Memory, constants: Constants) -> LayerCode:
    """Constants and call of a layer.

    :param number: the layer's, counted from 1
    """
    return _WRITERS[type(layer)](number, layer, memory, constants)


def _lookup(number: int, layer: Lookup, memory: Memory, constants: Constants) -> LayerCode:
    definition, name = constants.table(layer.table, layer.output.bits, f"{layer.function}, entry 128 for q = 0")
    width = "s8_in_s16" if memory.halfwords(layer.output) and layer.output.bits == 8 else f"s{layer.output.bits}"
    operands = f"{name} + 128, {memory.at(layer.input)}, {memory.at(layer.output)}"
    return LayerCode(definition, f"    pp_lookup_{width}({operands}, {layer.output.size});\n", LOOKUP)


def _pool(number: int, layer: Pool, memory: Memory, constants: Constants) -> LayerCode:
    target = layer.output
    call = f"    pp_{layer.kind}_pool_s{target.bits}(&pp_l{number}, {memory.at(layer.input)}, {memory.at(target)});\n"
    return LayerCode(pool_struct(number, layer, constants), call, POOL)


def pool_struct(number: int, layer: Pool, constants: Constants) -> str:
    """``pp_pool_t`` of a layer, and the array of its multipliers."""
    target, definition = layer.output, ""
    fields = {
        "input": image(layer.input),
        "output": image(target),
        "window": window(layer.window),
        "low": target.low,
        "high": target.high,
    }
    if layer.requantize is not None:
        seen = _pixels_seen(layer.input, layer.window, layer.count_padding)
        shift, multiplier = layer.requantize.shift, layer.requantize.multiplier
        comment = f"round(2^{32 - shift} * s_in / s_out / n), n = {seen.min()} to {seen.max()} pixels"
        definition = constants.array(
            "int32_t", f"pp_l{number}_multiplier", multiplier[seen.min() - 1 : seen.max()], comment
        )
        fields |= {
            "zero_point_in": layer.input.zero_point,
            "zero_point_out": target.zero_point,
            "multiplier": f"pp_l{number}_multiplier",
            "fewest": int(seen.min()),
            "count_padding": int(layer.count_padding),
            "shift": shift,
        }
    return definition + initializer("pp_pool_t", f"pp_l{number}", fields)


def _pixels_seen(tensor: Tensor, given: Window, count_padding: bool) -> Any:
    """[rows, columns]: how many pixels each place of a window sees."""
    ones = np.ones((1, *tensor.shape[:2], 1), np.int64)
    return operators.patches(ones, given, int(count_padding)).sum(axis=(3, 4))[0, :, :, 0]


def _add(number: int, layer: Add, memory: Memory, constants: Constants) -> LayerCode:
    by, target = layer.by, layer.output
    fields: dict[str, object] = {
        f"multiplier_{letter}": multiplier for letter, multiplier in zip("ab", by.multipliers, strict=False)
    }
    fields |= {"constant": by.constant, "shift": by.shift, "low": target.low, "high": target.high}
    struct = initializer("pp_weighted_sum_t", f"pp_l{number}", fields)
    name = "rescale" if len(layer.inputs) == 1 else "sum"
    return LayerCode(struct, _elementwise_call(name, number, layer, memory, f", {target.size}"), ELEMENTWISE)


def _multiply(number: int, layer: Multiply, memory: Memory, constants: Constants) -> LayerCode:
    (a, b), by, target = layer.inputs, layer.requantize, layer.output
    blocks, period, repeat = broadcast(a.shape, b.shape)
    fields: dict[str, object] = {
        "blocks": blocks,
        "period": period,
        "repeat": repeat,
        "multiplier": int(by.multiplier[0]),
        "zero_point_a": a.zero_point,
        "zero_point_b": b.zero_point,
        "zero_point": target.zero_point,
        "low": target.low,
        "high": target.high,
        "shift": by.shift,
    }
    struct = initializer("pp_product_t", f"pp_l{number}", fields)
    return LayerCode(struct, _elementwise_call("product", number, layer, memory, ""), ELEMENTWISE)


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int, int]:
    """(blocks, period, repeat): ``a`` seen as three axes of which ``b`` has the middle one.

    The axes in which ``b`` is not 1 lie side by side; the lowering sees to that.
    """
    kept = [axis for axis, (n, m) in enumerate(zip(a, b, strict=True)) if m == n and n > 1]
    first, last = (kept[0], kept[-1] + 1) if kept else (0, 0)
    return math.prod(a[:first]), math.prod(a[first:last]), math.prod(a[last:])


def _elementwise_call(name: str, number: int, layer: Layer, memory: Memory, size: str) -> str:
    widths = "_".join(f"s{tensor.bits}" for tensor in (*layer.inputs, layer.output))
    operands = ", ".join(memory.at(tensor) for tensor in (*layer.inputs, layer.output))
    return f"    pp_{name}_{widths}(&pp_l{number}, {operands}{size});\n"


def _softmax(number: int, layer: Softmax, memory: Memory, constants: Constants) -> LayerCode:
    comment = f"round(2^16 * exp(-{layer.input.scale:.6g} * d)), d steps below the largest"
    table = constants.array("uint32_t", f"pp_l{number}_table", layer.table, comment)
    classes = layer.output.shape[-1]
    sizes = f"{layer.output.size // classes}, {classes}"
    call = f"    pp_softmax_s8(pp_l{number}_table, {memory.at(layer.input)}, {memory.at(layer.output)}, {sizes});\n"
    return LayerCode(table, call, CHOICE)


def _argmax(number: int, layer: Argmax, memory: Memory, constants: Constants) -> LayerCode:
    source, target = memory.at(layer.input), memory.at(layer.output)
    return LayerCode("", f"    *({target}) = pp_argmax_s{layer.input.bits}({source}, {layer.input.size});\n", CHOICE)


def _concat(number: int, layer: Concat, memory: Memory, constants: Constants) -> LayerCode:
    target, calls = layer.output, []
    rows, inner, behind = math.prod(target.shape[: layer.axis]), math.prod(target.shape[layer.axis :]), 0
    for operand in layer.inputs:
        size = operand.size // rows
        place = f"{memory.at(target)} + {behind}" if behind else memory.at(target)
        sizes = f"{rows}, {size * operand.bits // 8}, {inner * target.bits // 8}"
        calls.append(f"    pp_concat({memory.at(operand)}, {place}, {sizes});\n")
        behind += size
    return LayerCode("", "".join(calls), MOVES)


def _pad(number: int, layer: Pad, memory: Memory, constants: Constants) -> LayerCode:
    fields: dict[str, object] = {
        "input": image(layer.input),
        "output": image(layer.output),
        "top": layer.pads[0],
        "left": layer.pads[1],
        "value": layer.value,
    }
    return _move("pad", "pp_pad_t", fields, number, layer, memory)


def _transpose(number: int, layer: Transpose, memory: Memory, constants: Constants) -> LayerCode:
    steps = [math.prod(layer.shape[axis + 1 :]) for axis in range(len(layer.shape))]
    missing = 4 - len(layer.order)
    sizes = [1] * missing + [layer.shape[axis] for axis in layer.order]
    order = [0] * missing + [steps[axis] for axis in layer.order]
    text = {"size": f"{{{', '.join(map(str, sizes))}}}", "step": f"{{{', '.join(map(str, order))}}}"}
    return _move("transpose", "pp_transpose_t", dict(text), number, layer, memory)


def _move(name: str, kind: str, fields: dict[str, object], number: int, layer: Layer, memory: Memory) -> LayerCode:
    struct = initializer(kind, f"pp_l{number}", fields)
    operands = f"&pp_l{number}, {memory.at(layer.input)}, {memory.at(layer.output)}"
    return LayerCode(struct, f"    pp_{name}_s{layer.output.bits}({operands});\n", MOVES)


def _resize(number: int, layer: Resize, memory: Memory, constants: Constants) -> LayerCode:
    sizes = ", ".join(f"(pp_image_t){{{', '.join(map(str, t.shape))}}}" for t in (layer.input, layer.output))
    operands = f"{sizes}, {memory.at(layer.input)}, {memory.at(layer.output)}"
    return LayerCode("", f"    pp_resize_s{layer.output.bits}({operands});\n", MOVES)


def _slice(number: int, layer: Slice, memory: Memory, constants: Constants) -> LayerCode:
    size = layer.output.size * layer.output.bits // 8
    operands = f"{memory.at(layer.input)} + {layer.start}, {memory.at(layer.output)}"
    return LayerCode("", f"    pp_concat({operands}, 1, {size}, {size});\n", MOVES)


def _reshape(number: int, layer: Reshape, memory: Memory, constants: Constants) -> LayerCode:
    return LayerCode("", "    /* the same integers under another shape */\n", ())


_WRITERS: dict[type[Layer], Callable[[int, Any, Memory, Constants], LayerCode]] = {
    FullyConnected: fully_connected,
    Conv2d: convolution,
    TransposedConv2d: convolution,
    Pool: _pool,
    Add: _add,
    Multiply: _multiply,
    Lookup: _lookup,
    Softmax: _softmax,
    Argmax: _argmax,
    Concat: _concat,
    Pad: _pad,
    Resize: _resize,
    Slice: _slice,
    Transpose: _transpose,
    Reshape: _reshape,
}
