"""Writes the C of a program: ``policy.c``, ``policy.h`` and the kernel files it calls.

The same program gives the same bytes. ``c`` runs on any core and on the host. The other variants are each for some
cores, in assembler or intrinsics there, by a C twin of the same layout elsewhere: ``thumb`` for Cortex-M0, M0+ and M3,
``dsp`` for M4, M7 and M33, ``mve`` for M55, ``neon`` for AArch64 and ``neon_dot`` for AArch64 with dot products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import SEMANTICS_VERSION, activation_range
from policyport.deploy import codegen_c, codegen_dsp, codegen_neon, codegen_rows
from policyport.deploy.called import Called, called_kernels
from policyport.deploy.codegen_memory import Memory, Variant, plan_memory
from policyport.deploy.codegen_strips import strips_code
from policyport.deploy.codegen_text import Constants, LayerCode, comment_text, describe
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Layer, Lookup, Pool, Strips, Tensor
from policyport.deploy.program import Program, program_sha256

Optimize = Literal["size", "speed"]

KERNEL_FOLDER = Path(__file__).with_name("kernels")
LARGEST_LAYER = 2**24 - 1
"""Elements of a layer's output: the bridge counts them in 24 bits."""

LARGEST_SIDE = 2**16 - 1
"""Of an image, and rows of a fully connected layer: the kernels count them in 16 bits."""

LARGEST_VECTOR = 4 * LARGEST_SIDE
"""Inputs of a fully connected layer, which the kernels count by fours."""

LARGEST_MESSAGE = 2**16 - 1 - 26
"""Bytes of the network's input, and of its output: each travels in one frame, whose bytes the bridge counts in 16 bits,
with at most 16 bytes of its message and 10 of the frame around it."""

POLICY_FILES = ("policy.c", "policy.h")

_NAMES = "blocks channels conv depthwise digits kernels mve neon neon_points quads quartets s8x4 taps winograd"

CONTRACTS = frozenset(f"pp_{name}.h" for name in _NAMES.split())
"""Headers that ``policy.c`` includes where it calls what they declare; others are the kernels' own."""


@dataclass(frozen=True)
class Generated:
    """The generated text and its figures."""

    source: str
    """``policy.c``"""

    header: str
    """``policy.h``"""

    kernels: tuple[str, ...]
    """Names of the kernel files it needs, sorted."""

    constant_bytes: int
    """Weights, biases, multipliers and tables: flash without code."""

    memory: Memory
    """The plan of the arena."""

    called: tuple[Called, ...]
    """The kernels of each layer."""

    macs: int
    """Multiply-accumulates of one inference."""

    @property
    def arena_bytes(self) -> int:
        """Static RAM for activations."""
        return self.memory.plan.arena_bytes


def generate(program: Program, variant: Variant, optimize: Optimize = "size") -> Generated:
    """The C of a program as text.

    :param variant: ``c`` for any core; the others are named above
    :param optimize: ``speed`` keeps the weights as int16 where that saves instructions: twice the flash
    :raises UnsupportedModelError: a program without layers, or one whose sizes the generated C cannot hold
    """
    if not program.layers:
        raise UnsupportedModelError("a program without layers", where=program.name, cure="give a network that computes")
    _check_sizes(program)
    memory, constants = plan_memory(program, variant, optimize), Constants()
    codes = [layer_code(i + 1, layer, memory, constants, variant, optimize) for i, layer in enumerate(program.layers)]
    front, ends = _front_matter(program, variant, memory, constants), _entry_kernels(program, memory)
    return Generated(
        source=front + _source(program, memory, codes, ends),
        header=front + _header(program, memory),
        kernels=tuple(sorted({*ends, *(kernel for code in codes for kernel in code.kernels)})),
        constant_bytes=constants.flash_bytes,
        memory=memory,
        called=tuple(map(called_kernels, program.layers, codes)),
        macs=program.macs,
    )


def layer_code(
    number: int, layer: Layer, memory: Memory, constants: Constants, variant: Variant, optimize: str
) -> LayerCode:
    """Constants and call of a layer by the kernels of a variant.

    :param number: the layer's, counted from 1
    """
    if isinstance(layer, Strips):
        return strips_code(
            number, layer, memory, constants, lambda n, part, at, all_: layer_code(n, part, at, all_, variant, optimize)
        )
    if variant == "c":
        return codegen_c.layer_code(number, layer, memory, constants)
    if variant == "neon" or variant == "neon_dot":
        return codegen_neon.layer_code(number, layer, memory, constants, variant, optimize)
    if variant == "dsp":
        return codegen_dsp.layer_code(number, layer, memory, constants, optimize)
    return codegen_rows.layer_code(number, layer, memory, constants, variant, optimize)


def _check_sizes(program: Program) -> None:
    """Refuse what the sizes of the bridge's messages and of the kernels' structs do not hold."""
    for what, tensor in (("an input", program.input), ("an output", program.output)):
        size = tensor.size * tensor.bits // 8
        _require(size, LARGEST_MESSAGE, "bytes", f"{what} too large for a frame", tensor.name)
    for layer in program.operators:
        shape = layer.output.shape
        _require(layer.output.size, LARGEST_LAYER, "elements", "a layer too large for its trace", layer.name)
        _require(max(shape), LARGEST_SIDE, "elements", "a layer with too long a side", layer.name)
        if isinstance(layer, FullyConnected):
            inputs = layer.input.size
            _require(inputs, LARGEST_VECTOR, "inputs", "a fully connected layer of too many", layer.name)


def _require(got: int, largest: int, unit: str, what: str, where: str) -> None:
    if got > largest:
        cure = "make the image or the layer smaller"
        raise UnsupportedModelError(what, where=where, expected=f"at most {largest} {unit}", got=got, cure=cure)


def write_sources(program: Program, variant: Variant, folder: Path, optimize: Optimize = "size") -> Generated:
    """Write ``policy.c``, ``policy.h`` and the kernel files they need into an existing folder.

    :raises UnsupportedModelError: as :func:`generate`
    """
    generated = generate(program, variant, optimize)
    (folder / "policy.c").write_text(generated.source)
    (folder / "policy.h").write_text(generated.header)
    for name in generated.kernels:
        (folder / name).write_bytes((KERNEL_FOLDER / name).read_bytes())
    return generated


def _front_matter(program: Program, variant: Variant, memory: Memory, constants: Constants) -> str:
    return (
        f"/* Generated by policyport {metadata.version('policyport')}; do not edit."
        f"  model sha256 {program_sha256(program)[:16]}...  semantics {SEMANTICS_VERSION}\n"
        f" * variant {variant}   constants {constants.flash_bytes} B (weights {program.weight_count})"
        f"   arena {memory.plan.arena_bytes} B   MACs {program.macs} */\n"
    )


def _header(program: Program, memory: Memory) -> str:
    return f"""#ifndef POLICY_H
#define POLICY_H

#include <stdint.h>

#define PP_SEMANTICS {SEMANTICS_VERSION}
#define PP_INPUT_SIZE {program.input.size}
#define PP_INPUT_BITS {program.input.bits}
#define PP_OUTPUT_SIZE {program.output.size}
#define PP_OUTPUT_BITS {program.output.bits}
#define PP_LAYER_COUNT {len(program.layers)}
#define PP_ARENA_BYTES {memory.plan.arena_bytes}
#define PP_MACS {program.macs}

typedef int{program.input.bits}_t pp_input_t;   /* {_meaning(program.input)} */
typedef int{program.output.bits}_t pp_output_t; /* {_meaning(program.output)} */

/* Hash of the program that this is: see program.json beside it. */
extern const uint8_t pp_model_sha256[32];

/* One inference: input [PP_INPUT_SIZE], output [PP_OUTPUT_SIZE]; not reentrant, the arena is static. */
void pp_infer(const pp_input_t *input, pp_output_t *output);

/* The same, layer by layer: pp_load once, then pp_run_layer(0), pp_run_layer(1), ... in order. */
typedef struct {{
    uint32_t size : 24; /* elements of the layer's output */
    uint32_t bits : 8;  /* 8 or 16 */
}} pp_layer_info_t;

extern const pp_layer_info_t pp_layers[PP_LAYER_COUNT];

void pp_load(const pp_input_t *input);
void pp_run_layer(uint32_t layer);

/* Element of the output of the layer that ran last. */
int32_t pp_layer_value(uint32_t layer, uint32_t index);

#endif
"""


def _meaning(tensor: Tensor) -> str:
    levels = f", q from {tensor.low} to {tensor.high}" if _clamps(tensor) else ""
    return f"real = {tensor.scale!r} * (q - {tensor.zero_point}){levels}"


def _source(program: Program, memory: Memory, codes: Sequence[LayerCode], ends: Sequence[str]) -> str:
    called = CONTRACTS & {*ends, *(kernel for code in codes for kernel in code.kernels)}
    includes = "".join(f'#include "{name}"\n' for name in sorted(called))
    parts = [
        f'#include "policy.h"\n\n{includes}\n',
        _arena(memory),
        *(_layer_source(i + 1, layer, code) for i, (layer, code) in enumerate(zip(program.layers, codes, strict=True))),
        _entry_points(program, memory),
        _trace(program, memory),
    ]
    return "".join(parts)


def _arena(memory: Memory) -> str:
    return f"""/* Every activation; two share bytes only where no layer needs both, or writes one over what it read. */
static union {{
    int8_t s8[PP_ARENA_BYTES];
    uint8_t u8[PP_ARENA_BYTES];
    int16_t s16[PP_ARENA_BYTES / 2];
    uint32_t words[PP_ARENA_BYTES / 4];
    int64_t aligned[PP_ARENA_BYTES / 8];
}} pp_arena;

_Static_assert(sizeof pp_arena == {memory.plan.arena_bytes}, "arena size differs from the plan");

"""


def _layer_source(number: int, layer: Layer, code: LayerCode) -> str:
    shown, fused = layer.output, ""
    if isinstance(layer, Affine) and layer.function:
        shown, fused = layer.before_table, f", {layer.function} fused  ->  {describe(layer.output)}"
    elif _clamps(layer.output):
        fused = f", clamped to [{layer.output.low}, {layer.output.high}]"
    operands = " and ".join(describe(tensor) for tensor in layer.inputs)
    return (
        f"/* layer {number}: {operator_text(layer)}  {comment_text(layer.name)}\n"
        f" * {operands}  ->  {describe(shown)}{fused} */\n"
        f"{code.definitions}\nstatic void pp_layer_{number}(void)\n{{\n{code.call}}}\n\n"
    )


def operator_text(layer: Layer) -> str:
    """What a layer does, for its comment."""
    if isinstance(layer, FullyConnected):
        return "Linear"
    if isinstance(layer, Lookup):
        return layer.function
    if isinstance(layer, Strips):
        return f"{' then '.join(operator_text(part) for part in layer.layers)}, {rows_text(layer)} at a time"
    kind = f"{layer.kind} pool" if isinstance(layer, Pool) else type(layer).__name__
    if not isinstance(layer, (Conv2d, Pool)):
        return kind
    pairs = (layer.window.kernel, layer.window.stride, layer.window.dilation)
    kernel, stride, dilation = (f"{down}x{across}" for down, across in pairs)
    text = f"{kind} {kernel} stride {stride} pads {' '.join(map(str, layer.window.pads))}"
    text += f" dilation {dilation}" if dilation != "1x1" else ""
    return text + (f" groups {layer.groups}" if isinstance(layer, Conv2d) and layer.groups > 1 else "")


def rows_text(layer: Strips) -> str:
    """How much of the output a step computes."""
    return "a row" if layer.rows == 1 else f"{layer.rows} rows"


def _clamps(tensor: Tensor) -> bool:
    return (tensor.low, tensor.high) != activation_range(tensor.bits)


LEAST_COPIED = 64
"""Bytes from which on an input or output is copied in blocks of words."""

COPY = """/* Sixteen words at a time where both sides are aligned, else four words that may lie anywhere. */
static void pp_copy(void *to, const void *from, uint32_t bytes)
{
    uint8_t *const target = to;
    const uint8_t *const source = from;
    uint32_t at = 0;
    if ((((uintptr_t)target | (uintptr_t)source) & 3u) == 0u) {
        for (; bytes - at >= 64; at += 64) {
            __builtin_memcpy(__builtin_assume_aligned(target + at, 4), __builtin_assume_aligned(source + at, 4), 64);
        }
    }
#if defined(__ARM_FEATURE_UNALIGNED) || !defined(__arm__)
    for (; bytes - at >= 16; at += 16) {
        uint32_t block[4];
        __builtin_memcpy(block, source + at, sizeof block);
        __builtin_memcpy(target + at, block, sizeof block);
    }
#endif
    for (; at < bytes; at++) {
        target[at] = source[at];
    }
}

"""


def _entry_points(program: Program, memory: Memory) -> str:
    digest = bytes.fromhex(program_sha256(program))
    rows = "\n".join("    " + ", ".join(f"0x{b:02X}" for b in digest[i : i + 16]) + "," for i in (0, 16))
    calls = "".join(f"    pp_layer_{i + 1}();\n" for i in range(len(program.layers)))
    target = "int16_t" if memory.halfwords(program.input) else f"int{program.input.bits}_t"
    stored = "int16_t" if memory.halfwords(program.output) else f"int{program.output.bits}_t"
    cast = "" if stored == f"int{program.output.bits}_t" else "(pp_output_t)"
    load = f"""    {target} *const to = {memory.at(program.input)};
    for (uint32_t i = 0; i < PP_INPUT_SIZE; i++) {{
        to[i] = input[i];
    }}
"""
    store = f"""    const {stored} *const from = {memory.at(program.output)};
    for (uint32_t i = 0; i < PP_OUTPUT_SIZE; i++) {{
        output[i] = {cast}from[i];
    }}
"""
    copied = [
        tensor.size * tensor.bits // 8 >= LEAST_COPIED and as_stored == f"int{tensor.bits}_t"
        for tensor, as_stored in ((program.input, target), (program.output, stored))
    ]
    if _widened(program.input, target):
        load = f"    pp_widen_s8(input, {memory.at(program.input)}, PP_INPUT_SIZE, PP_INPUT_SIZE);\n"
    if _widened(program.output, stored):
        store = f"    pp_narrow_s8({memory.at(program.output)}, output, PP_OUTPUT_SIZE);\n"
    if copied[0]:
        load = f"    pp_copy({memory.at(program.input)}, input, sizeof *input * PP_INPUT_SIZE);\n"
    if copied[1]:
        store = f"    pp_copy(output, {memory.at(program.output)}, sizeof *output * PP_OUTPUT_SIZE);\n"
    return f"""{COPY if any(copied) else ""}const uint8_t pp_model_sha256[32] = {{
{rows}
}};

void pp_load(const pp_input_t *input)
{{
{load}}}

void pp_infer(const pp_input_t *input, pp_output_t *output)
{{
    pp_load(input);
{calls}{store}}}

"""


def _widened(tensor: Tensor, stored: str) -> bool:
    """Whether an activation lies in the arena as int16 though it has 8 bits, and is large enough for a kernel."""
    return tensor.bits == 8 and stored == "int16_t" and tensor.size >= LEAST_COPIED


def _entry_kernels(program: Program, memory: Memory) -> tuple[str, ...]:
    """The kernel files that loading the input and storing the output take."""
    ends = (program.input, program.output)
    wide = any(_widened(tensor, "int16_t") for tensor in ends if memory.halfwords(tensor))
    return codegen_dsp.WIDTHS if wide else ()


def _trace(program: Program, memory: Memory) -> str:
    infos = "".join(f"    {{.size = {x.output.size}, .bits = {x.output.bits}}},\n" for x in program.layers)
    runs = "".join(f"    case {i}:\n        pp_layer_{i + 1}();\n        break;\n" for i in range(len(program.layers)))
    values = "".join(
        f"    case {i}:\n        return ({memory.at(layer.output)})[index];\n" for i, layer in enumerate(program.layers)
    )
    return f"""const pp_layer_info_t pp_layers[PP_LAYER_COUNT] = {{
{infos}}};

void pp_run_layer(uint32_t layer)
{{
    switch (layer) {{
{runs}    default:
        break;
    }}
}}

int32_t pp_layer_value(uint32_t layer, uint32_t index)
{{
    switch (layer) {{
{values}    default:
        return 0;
    }}
}}
"""
