"""Every DSP kernel that was weighed for a layer with weights: what it would cost, or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy import layout_blocks, layout_conv, layout_digits, layout_winograd
from policyport.deploy.choice import (
    LARGEST_STEP,
    channels_choice,
    choose_convolution,
    choose_runs,
    depthwise_choice,
    input_range,
    taps_choice,
    variant_choice,
    window_of,
    winograd_choice,
)
from policyport.deploy.choice_neon import neon_choice
from policyport.deploy.kernel_cost import conv_instructions
from policyport.deploy.kernel_cost_neon import neon_instructions, neon_plain_instructions
from policyport.deploy.kernel_cost_rows import dense_instructions, rows_instructions
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, TransposedConv2d
from policyport.deploy.layout_neon import neon_kernels, neon_phases, pack_phase, weight_bytes
from policyport.deploy.layout_rows import pack, rows_layout
from policyport.deploy.variant import NeonVariant, Variant

PLAIN, ROWS = "plain C", "rows of"
GENERAL = ("channels", "taps")
"""Kernels that take what no special one does."""

RANGES = {"pairs": (-127, 127), "nibbles": (-8, 7), "octals": (-4, 3), "crumbs": (-2, 1)}
"""Smallest and largest weight that each layout holds."""


@dataclass(frozen=True)
class Candidate:
    """A kernel, or one layout of its weights."""

    name: str
    chosen: bool
    refused: str = ""
    """Why it is not exact for the layer, or not to be had; empty where it could compute it."""

    instructions: int | None = None
    """Estimate for a Cortex-M4, by kernels of whole rows for a Cortex-M55 or M3, or for AArch64; None where there is no
    formula, and of layouts of fully connected layers that are not chosen."""

    block_bytes: int | None = None
    """Weights, start values and multipliers in flash; None where it is not known beforehand."""


def candidates(layer: Affine, optimize: str, variant: Variant = "dsp") -> tuple[Candidate, ...]:
    """The kernels that were weighed for a layer, the plain C one last; exactly one is chosen.

    :param layer: fully connected, or any convolution
    :param optimize: ``size`` or ``speed``
    :param variant: any but ``c``
    """
    if variant == "neon" or variant == "neon_dot":
        return _in_neon(layer, optimize, variant)
    if variant == "mve" or variant == "thumb":
        layout = rows_layout(layer, variant, optimize)
        if layout is not None:
            size, cost = pack(layer, variant, layout).nbytes, rows_instructions(layer, variant, layout)
            return Candidate(f"{ROWS} {layout}", True, "", cost, size), Candidate(PLAIN, False)
        if variant == "thumb":
            return _in_thumb(layer, optimize)
    if isinstance(layer, FullyConnected):
        return _of_fully_connected(layer, optimize)
    assert isinstance(layer, Conv2d)
    return _of_convolution(layer, optimize)


def _in_neon(layer: Affine, optimize: str, variant: NeonVariant) -> tuple[Candidate, ...]:
    chosen = neon_choice(layer, variant, optimize)
    found = [
        Candidate(
            kernel.name,
            kernel == chosen,
            "" if chosen else "more instructions than plain C",
            neon_instructions(layer, kernel),
            weight_bytes([pack_phase(layer, phase, kernel) for phase in neon_phases(layer)]),
        )
        for kernel in neon_kernels(layer, variant)
    ]
    return (*found, Candidate(PLAIN, chosen is None, "", neon_plain_instructions(layer)))


def _in_thumb(layer: Affine, optimize: str) -> tuple[Candidate, ...]:
    """What no kernel of whole rows takes, on cores without the DSP extension."""
    if not isinstance(layer, Conv2d):
        return (Candidate(PLAIN, True),)
    choice = variant_choice(layer, "thumb", optimize)
    chosen = PLAIN if choice is None else choice.kernel
    saved = optimize == "size" and layer.weight_bits < 8
    reason = "plain C keeps the weights in fewer bits; --optimize speed weighs it" if saved else ""
    return (*_general(layer, chosen, choice is None, "thumb", reason), Candidate(PLAIN, chosen == PLAIN))


def _of_fully_connected(layer: FullyConnected, optimize: str) -> tuple[Candidate, ...]:
    runs = choose_runs(layer, optimize)
    chosen = " and ".join(dict.fromkeys(run.layout for run in runs))
    digits: tuple[layout_digits.DigitLayout, ...] = ("crumbs", "octals")
    blocks: tuple[layout_blocks.Layout, ...] = ("nibbles", "pairs", "bytes", "halfwords")
    found = [
        Candidate(name, name == chosen, _digits_refused(layer, name), block_bytes=_digit_bytes(layer, name))
        for name in digits
    ]
    for name in blocks:
        size = _block_bytes(layer, len(layer.weights), name)
        found.append(Candidate(name, name == chosen, _blocks_refused(layer, name), block_bytes=size))
    if len(runs) > 1:
        size = sum(
            _block_bytes(layer, len(run.rows), run.layout)
            for run in runs
            if run.layout != "octals" and run.layout != "crumbs"
        )
        found.append(Candidate(chosen, True, block_bytes=size))
    cost = dense_instructions(layer, optimize)
    return (*(replace(each, instructions=cost) if each.chosen else each for each in found), Candidate(PLAIN, False))


def _block_bytes(layer: FullyConnected, rows: int, name: layout_blocks.Layout) -> int:
    return 4 * -(-rows // 4) * layout_blocks.words_per_block(layer.weights.shape[1], name)


def _digits_refused(layer: FullyConnected, name: layout_digits.DigitLayout) -> str:
    if layer.input.bits != 8:
        return "reads 8-bit inputs alone"
    rows, bits = layout_digits.ROWS[name], layout_digits.BITS[name]
    if len(layer.weights) < rows:
        return f"needs {rows} rows, the layer has {len(layer.weights)}"
    shifts = np.full(len(layer.weights), bits * (rows - 1))
    return _outside(layer.weights, name) or _overflows(layer, shifts)


def _digit_bytes(layer: FullyConnected, name: layout_digits.DigitLayout) -> int:
    outputs, inputs = layer.weights.shape
    rows = layout_digits.ROWS[name]
    return 4 * -(-outputs // rows) * (2 * rows + 2 * -(-inputs // 4))


def _blocks_refused(layer: FullyConnected, name: layout_blocks.Layout) -> str:
    if name not in layout_blocks.DIGIT_BITS:
        return ""
    if layer.input.bits != 8:
        return "reads 8-bit inputs alone"
    return _shared_refused(layer, name)


def _of_convolution(layer: Conv2d, optimize: str) -> tuple[Candidate, ...]:
    choice = choose_convolution(layer, optimize)
    chosen = PLAIN if choice is None else choice.kernel
    never = _never(layer)
    if never:
        names = ("depthwise",) if layer.groups != 1 else ("nibbles", "pairs", "winograd")
        refused = (Candidate(name, False, never) for name in names)
        return (*refused, *_general(layer, chosen, choice is None), Candidate(PLAIN, chosen == PLAIN))
    if layer.groups != 1:
        found: tuple[Candidate, ...] = (_depthwise(layer, chosen),)
    else:
        found = (_direct(layer, "nibbles", chosen), _direct(layer, "pairs", chosen), _winograd(layer, chosen, optimize))
    general = choice is None or choice.kernel in GENERAL
    return (*found, *(_general(layer, chosen, choice is None) if general else ()), Candidate(PLAIN, chosen == PLAIN))


def _general(
    layer: Conv2d, chosen: str, is_plain: bool, variant: Variant = "dsp", reason: str = ""
) -> tuple[Candidate, ...]:
    """The kernels that take any convolution, weighed where no special one does."""
    reason = reason or ("more instructions than plain C" if is_plain else "")
    found = [choice for choice in (channels_choice(layer, variant), taps_choice(layer, variant)) if choice is not None]
    return tuple(Candidate(c.kernel, c.kernel == chosen, reason, c.instructions) for c in found)


def _never(layer: Conv2d) -> str:
    """Why no special DSP kernel takes a convolution at all; empty where one may."""
    window = layer.window
    if isinstance(layer, TransposedConv2d):
        return "transposed"
    if window.dilation != (1, 1):
        return "dilated by {}x{}".format(*window.dilation)
    if layer.input.bits != 8 or layer.output.bits != 8:
        return f"int{layer.input.bits} to int{layer.output.bits}, the kernels are int8 to int8"
    step = max(*window.stride, *window.pads)
    return f"stride or padding {step}, at most {LARGEST_STEP}" if step > LARGEST_STEP else ""


def _direct(layer: Conv2d, name: layout_blocks.Layout, chosen: str) -> Candidate:
    rows = layout_conv.window_rows(layer.weights)
    size = 4 * -(-len(rows) // 4) * layout_blocks.words_per_block(rows.shape[1], name)
    cost = conv_instructions(window_of(layer), name)
    return Candidate(name, name == chosen, _shared_refused(layer, name), cost, size)


def _winograd(layer: Conv2d, chosen: str, optimize: str) -> Candidate:
    name, weights = "winograd", layer.weights
    if weights.shape[1:3] != (3, 3) or layer.window.stride != (1, 1):
        return Candidate(name, False, "3x3 with stride 1 alone")
    if weights.shape[3] % 8 or len(weights) % 2:
        return Candidate(
            name, False, f"channels by 8 and even outputs alone, not {weights.shape[3]} and {len(weights)}"
        )
    choice = winograd_choice(layer)
    if choice is None:
        return Candidate(name, False, _above(layer, np.full(len(weights), layout_winograd.ACCUMULATOR_LIMIT)))
    size = 4 * (len(weights) // 2) * (4 + 16 * weights.shape[3])
    refused = "" if optimize == "speed" else "3.56 times the weights; --optimize speed weighs it"
    return Candidate(name, name == chosen, refused, choice.instructions, size)


def _depthwise(layer: Conv2d, chosen: str) -> Candidate:
    choice = depthwise_choice(layer)
    if choice is not None:
        return Candidate(choice.kernel, choice.kernel == chosen, "", choice.instructions)
    window = layer.window
    had = f"{window.kernel[0]}x{window.kernel[1]} stride {window.stride[0]}x{window.stride[1]}, {layer.groups} groups"
    channels = f"{layer.input.shape[2]} to {layer.output.shape[2]} channels, pads up to {max(window.pads)}"
    wanted = "3x3 stride 1x1 or 2x2, as many groups as channels, at least 4, and outputs, pads up to 2 alone"
    return Candidate("depthwise", False, f"{wanted}; not {had}, {channels}")


def _shared_refused(layer: Affine, name: layout_blocks.Layout) -> str:
    """Why rows that share a halfword are not exact for a layer."""
    shifts = np.resize(layout_blocks.DIGIT_BITS[name], len(layer.weights))
    return _outside(layer.weights, name) or _overflows(layer, shifts)


def _outside(weights: Integers, name: str) -> str:
    low, high = RANGES[name]
    got = int(weights.min(initial=0)), int(weights.max(initial=0))
    return f"weights from {got[0]} to {got[1]}, it holds {low} to {high}" if got[0] < low or got[1] > high else ""


def _overflows(layer: Affine, shifts: Integers) -> str:
    return _above(layer, 2 ** (31 - np.asarray(shifts, np.int64)))


def _above(layer: Affine, limits: Integers) -> str:
    """The first row whose accumulator may reach its limit, for any input that the tensor can hold."""
    rows = layer.weights.reshape(len(layer.weights), -1)
    lowest, highest = layout_blocks.accumulator_range(rows, layer.bias, *input_range(layer))
    reach = np.maximum(np.abs(lowest), np.abs(highest))
    bad = np.flatnonzero(reach >= limits)
    if not len(bad):
        return ""
    row = int(bad[0])
    return f"range proof failed: accumulator of row {row} may reach {int(reach[row]):,}, limit {int(limits[row]):,}"
