"""Which DSP kernel computes a layer: every one that is exact for it, and of those the best by counting instructions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from policyport.deploy import (
    layout_blocks,
    layout_channels,
    layout_conv,
    layout_depthwise,
    layout_digits,
    layout_taps,
    layout_winograd,
)
from policyport.deploy.kernel_cost import (
    Window,
    channels_instructions,
    conv_instructions,
    depthwise_instructions,
    plain_instructions,
    taps_instructions,
    winograd_instructions,
)
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, TransposedConv2d
from policyport.deploy.variant import Variant

LARGEST_STEP = 255
"""Largest stride and padding of the DSP kernels, which hold them in a byte."""

Kernel = Literal["pairs", "nibbles", "winograd", "depthwise", "channels", "taps"]
BlockLayout = layout_blocks.Layout | layout_digits.DigitLayout


@dataclass(frozen=True)
class Choice:
    """A kernel for a convolution."""

    kernel: Kernel
    scratch_bytes: int
    instructions: int
    """Estimate, see :mod:`policyport.deploy.kernel_cost`."""

    turned: bool = False
    """Whether rows run along the height of the image."""


def choose_convolution(layer: Conv2d, optimize: str) -> Choice | None:
    """The DSP kernel for a convolution, or None where the plain C kernel takes fewer instructions.

    :param optimize: ``speed`` takes the fewest instructions, ``size`` the smallest weights
    """
    special = _special_choice(layer, optimize)
    return general_choice(layer) if special is None else special


def variant_choice(layer: Conv2d, variant: Variant, optimize: str) -> Choice | None:
    """The kernel for a convolution that no kernel of whole rows takes; None where the plain C kernel computes it. In
    variant ``thumb``, where flash is saved, plain C keeps weights of fewer than eight bits.
    """
    if variant == "c" or (variant == "thumb" and layer.weight_bits < 8 and optimize == "size"):
        return None
    return general_choice(layer, variant) if variant == "thumb" else choose_convolution(layer, optimize)


def general_choice(layer: Conv2d, variant: Variant = "dsp") -> Choice | None:
    """The kernels that take any convolution, or None where plain C takes fewer instructions."""
    found = [choice for choice in (channels_choice(layer, variant), taps_choice(layer, variant)) if choice is not None]
    best = min(found, key=lambda choice: choice.instructions)
    return best if best.instructions < plain_instructions(layer) else None


def channels_choice(layer: Conv2d, variant: Variant = "dsp") -> Choice | None:
    """The kernel for any depthwise convolution that is not transposed, of at least four channels."""
    alone = layer.groups == layer.input.shape[2] and layer.groups >= 4
    if isinstance(layer, TransposedConv2d) or not alone:
        return None
    return Choice("channels", layout_channels.scratch_bytes(layer), channels_instructions(layer, variant))


def taps_choice(layer: Conv2d, variant: Variant = "dsp") -> Choice:
    """The kernel that gathers windows: any convolution."""
    layout = layout_taps.fits(layer, variant, *input_range(layer))
    return Choice("taps", layout_taps.scratch_bytes(layer), taps_instructions(layer, layout))


def _special_choice(layer: Conv2d, optimize: str) -> Choice | None:
    """The kernels for 8-bit activations without dilation or groups, and for depthwise 3x3."""
    plain = isinstance(layer, TransposedConv2d) or layer.window.dilation != (1, 1)
    if plain or layer.input.bits != 8 or layer.output.bits != 8:
        return None
    if max(*layer.window.stride, *layer.window.pads) > LARGEST_STEP:
        return None
    if layer.groups != 1:
        return depthwise_choice(layer)
    direct = _direct(layer)
    if optimize == "speed":
        found = [choice for choice in (direct, winograd_choice(layer)) if choice is not None]
        return min(found, key=lambda choice: choice.instructions, default=None)
    return direct


@dataclass(frozen=True)
class Run:
    """Neighbouring rows of a fully connected layer that lie in one layout."""

    rows: range
    layout: BlockLayout
    exchanged: tuple[int, ...] = ()
    """Rows that lie where the last row of their block of four would, and it where they would: the highest of four
    nibbles has the least room."""

    @property
    def order(self) -> list[int]:
        """The rows as they lie."""
        rows = list(self.rows)
        for row in self.exchanged:
            here, last = row - self.rows.start, (row | 3) - self.rows.start
            rows[here], rows[last] = rows[last], rows[here]
        return rows


def choose_runs(layer: FullyConnected, optimize: str) -> tuple[Run, ...]:
    """The layouts that are exact for the rows of a fully connected layer and take fewest instructions (``speed``) or
    bytes (``size``): one for all rows, or where some rows allow less than others one for each run of blocks of four.
    Weights below 8 bits take as many cycles in their own layouts as any others, so they always lie there.
    """
    rows = len(layer.weights)
    if layer.input.bits == 8:
        digits: tuple[layout_digits.DigitLayout, ...] = ("crumbs", "octals")
        for digit in digits:
            if layout_digits.fits(layer.weights, layer.bias, *input_range(layer), digit):
                return (Run(range(rows), digit),)
    runs: list[Run] = []
    for first in range(0, rows, 4):
        run = _block(layer, range(first, min(first + 4, rows)), optimize)
        if runs and runs[-1].layout == run.layout:
            before = runs.pop()
            run = Run(range(before.rows.start, run.rows.stop), run.layout, before.exchanged + run.exchanged)
        runs.append(run)
    return tuple(runs)


def _block(layer: FullyConnected, rows: range, optimize: str) -> Run:
    """The layout of four rows, fewer at the layer's end; no more, so that each lies in its digit."""
    low, high = input_range(layer)

    def fits(run: Run, layout: layout_blocks.Layout) -> bool:
        weights, bias = layer.weights[run.order], layer.bias[run.order]
        narrow = layout not in layout_blocks.DIGIT_BITS or layer.input.bits == 8
        return narrow and layout_blocks.fits(weights, bias, low, high, layout)

    exchanges: list[tuple[int, ...]] = [()] if len(rows) < 4 else [(), *((row,) for row in rows[:3])]
    nibbles = [Run(rows, "nibbles", exchanged) for exchanged in exchanges]
    found = next((run for run in nibbles if fits(run, "nibbles")), None)
    if found is not None:
        return found
    if optimize == "speed":
        return Run(rows, "halfwords")
    return Run(rows, "pairs" if fits(Run(rows, "pairs"), "pairs") else "bytes")


def input_range(layer: Affine) -> tuple[int, int]:
    """Smallest and largest integer that a layer can read, padding included."""
    source = layer.input
    return min(source.low, source.zero_point), max(source.high, source.zero_point)


def window_of(layer: Conv2d) -> Window:
    """A layer's sizes as the cost model takes them."""
    source, target, window = layer.input.shape, layer.output.shape, layer.window
    return Window(
        (source[0], source[1], source[2]),
        (target[0], target[1], target[2]),
        window.kernel,
        window.stride,
        (window.pads[0], window.pads[1]),
    )


def _direct(layer: Conv2d) -> Choice | None:
    layout = layout_conv.choose_layout(layer.weights, layer.bias, *input_range(layer))
    if layout is None:
        return None
    scratch = layout_conv.scratch_bytes(*layer.window.kernel, layer.input.shape[2])
    kernel: Kernel = "nibbles" if layout == "nibbles" else "pairs"
    return Choice(kernel, scratch, conv_instructions(window_of(layer), layout))


def winograd_choice(layer: Conv2d) -> Choice | None:
    """Winograd for a convolution without groups, or None where it is not exact or the kernel does not take it."""
    if layer.window.stride != (1, 1) or not layout_winograd.fits(layer.weights, layer.bias, *input_range(layer)):
        return None
    window = window_of(layer)
    return Choice("winograd", layout_winograd.scratch_bytes(layer.input.shape[2]), winograd_instructions(window))


def depthwise_choice(layer: Conv2d) -> Choice | None:
    """The depthwise kernel for a convolution with groups, rows along the better axis; None where it is not for it."""
    channels, stride = layer.input.shape[2], layer.window.stride
    alone = layer.groups == channels == layer.output.shape[2] and channels >= 4
    if not alone or layer.window.kernel != (3, 3) or stride not in ((1, 1), (2, 2)) or max(layer.window.pads) > 2:
        return None
    window = window_of(layer)
    straight = Choice(
        "depthwise", layout_depthwise.ring_bytes(stride[0], window.output[1]), depthwise_instructions(window)
    )
    other = replace(
        straight,
        scratch_bytes=layout_depthwise.ring_bytes(stride[0], window.output[0]),
        instructions=depthwise_instructions(window.turned),
        turned=True,
    )
    return min(straight, other, key=lambda choice: choice.instructions)
