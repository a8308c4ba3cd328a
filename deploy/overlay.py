"""How far below an operand a layer's output may start, so that it is written only over what was read before.

A kernel works in steps. Step ``s`` reads what it needs and then writes the bytes of the output up to ``written[s]``;
it and the steps behind it read no byte of the operand below ``needed[s]``. The distance is the least for which no byte
that is still to be read is written. What a kernel reads and writes in which order is said here, for every kernel; one
that is not named here has its output apart from its input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from policyport.core.operators import Window
from policyport.core.semantics import Integers
from policyport.deploy.choice import Choice, variant_choice
from policyport.deploy.choice_neon import neon_choice
from policyport.deploy.layers import (
    Add,
    Conv2d,
    Layer,
    Multiply,
    Pad,
    Pool,
    Resize,
    Strips,
    Tensor,
    TransposedConv2d,
)
from policyport.deploy.layout_neon_ring import reading_of, ring_of
from policyport.deploy.layout_rows import is_pointwise, rows_layout
from policyport.deploy.placement import Overlap
from policyport.deploy.strips import Call, row_bytes, schedule, stepped_rows, sums_bytes
from policyport.deploy.variant import NeonVariant, Variant


@dataclass(frozen=True)
class Steps:
    """The order in which a kernel reads one operand and writes its output."""

    written: Integers
    """[steps], bytes from the start of the output to the end of what was written after a step, never falling."""

    needed: Integers
    """[steps], bytes from the start of the operand to the first that a step, or one behind it, reads."""

    rereads: int = 0
    """Bytes that a step writes last, where it reads again after it has written what comes before them; 0 where it has
    read all before it writes, or reads what it overwrites before."""

    def distance_bytes(self) -> int:
        """The least distance from the output's start up to the operand's."""
        behind = self.written[:-1] - self.needed[1:]
        inside = self.written - self.rereads - self.needed if self.rereads else behind
        return int(max(behind.max(initial=0), inside.max(initial=0)))


def overlaps(layer: Layer, variant: Variant, optimize: str) -> dict[str, Overlap]:
    """The operands, by name, over which a layer's output may lie, and how.

    :param optimize: what :func:`policyport.deploy.choice.choose_convolution` takes
    """
    if isinstance(layer, Conv2d):
        found = _of_convolution(layer, variant, optimize)
        return {} if found is None else {layer.input.name: found}
    if isinstance(layer, Strips):
        return {tensor.name: Overlap(_by_strips(layer, tensor).distance_bytes()) for tensor in _read_first(layer)}
    if isinstance(layer, (Pool, Resize)):
        needed = _pooled(layer) if isinstance(layer, Pool) else _resized(layer)
        return {layer.input.name: Overlap(_by_pixel(layer, needed).distance_bytes())}
    if isinstance(layer, Pad):
        return {layer.input.name: Overlap(_by_pixel(layer, _padded(layer)).distance_bytes())}
    if isinstance(layer, (Add, Multiply)):
        whole = {tensor.name: tensor for tensor in layer.inputs if tensor.size == layer.output.size}
        return {name: Overlap(_elementwise(tensor, layer.output).distance_bytes()) for name, tensor in whole.items()}
    return {}


def _of_convolution(layer: Conv2d, variant: Variant, optimize: str) -> Overlap | None:
    if variant == "neon" or variant == "neon_dot":
        return _of_neon(layer, variant, optimize)
    if variant == "mve" or variant == "thumb":
        layout = rows_layout(layer, variant, optimize)
        if layout is not None:
            # Vectors read a pixel that is no window of its own again for every four rows.
            rereads = variant == "mve" and is_pointwise(layer)
            return Overlap(_by_pixel(layer, _convolved(layer), rereads).distance_bytes())
    choice = variant_choice(layer, variant, optimize)
    if choice is None:
        return Overlap(_by_pixel(layer, _convolved(layer), not _by_channel(layer)).distance_bytes())
    if choice.kernel == "depthwise":
        return Overlap(0, exact=True) if depthwise_in_place(layer, choice) else None
    if choice.kernel == "channels" or choice.kernel == "taps":
        # Groups, several outputs of a channel, or channels that are computed twice are read behind the first output.
        once = layer.groups == 1 and choice.kernel == "taps"
        rereads = not once and not (_by_channel(layer) and layer.groups % 4 == 0)
        return Overlap(_by_pixel(layer, _convolved(layer), rereads).distance_bytes())
    steps = _tiles(layer) if choice.kernel == "winograd" else _pairs(layer)
    return Overlap(steps.distance_bytes())


def _of_neon(layer: Conv2d, variant: NeonVariant, optimize: str) -> Overlap | None:
    """Several pixels are read before any of their outputs is written, once for each block of rows; of other windows all
    rows of the image that a row of the output sees are copied before.
    """
    kernel = neon_choice(layer, variant, optimize)
    if kernel is None:
        return Overlap(_by_pixel(layer, _convolved(layer), not _by_channel(layer)).distance_bytes())
    if isinstance(layer, TransposedConv2d):
        return None
    rows, columns, channels = layer.output.shape
    if reading_of(layer, kernel) == "pixels":
        how = kernel.how
        blocks = how.blocks(channels)
        needed = np.arange(0, rows * columns, how.windows) * _pixel_bytes(layer.input)
        pixels = np.minimum(how.windows * np.arange(1, len(needed) + 1), rows * columns)
        rereads = len(blocks[-1]) * layer.output.bits // 8 if len(blocks) > 1 else 0
        return Overlap(Steps(pixels * _pixel_bytes(layer.output), needed, rereads).distance_bytes())
    written = np.arange(1, rows + 1) * columns * _pixel_bytes(layer.output)
    ring = ring_of(layer, kernel)
    copied = ring.top + ring.rows + layer.window.stride[0] * (np.arange(rows) - 1)
    copied[0] = 0
    height, width, _ = layer.input.shape
    # Nothing is needed once all rows are copied.
    needed = np.where(copied < height, np.maximum(copied, 0) * width * _pixel_bytes(layer.input), written[-1])
    return Overlap(Steps(written, needed).distance_bytes())


def _by_channel(layer: Conv2d) -> bool:
    """Whether an output channel reads the input channel of its number alone, and is no wider."""
    alone = layer.groups == layer.input.shape[2] == layer.output.shape[2]
    return alone and layer.output.bits <= layer.input.bits


def depthwise_in_place(layer: Conv2d, choice: Choice) -> bool:
    """Whether ``pp_depthwise`` may write over its input, both starting at one place.

    It computes four channels of all pixels, so it overwrites none but these; of them three rows are gathered into its
    ring before an output row is written, and each pixel is gathered once. The last four channels are computed again
    where they are no whole four, from what was overwritten.
    """
    (height, width, channels), (rows, columns, _) = layer.input.shape, layer.output.shape
    axis = 1 if choice.turned else 0
    place = np.arange(min(rows * columns, height * width))
    written = (place // columns, place % columns)[axis]
    read = (place // width, place % width)[axis]
    gathered = written * layer.window.stride[axis] + 2 - layer.window.pads[axis]
    return channels % 4 == 0 and bool(np.all(read <= gathered))


def _by_pixel(layer: Layer, needed: Integers, rereads: bool = False) -> Steps:
    """One output pixel in each step.

    :param needed: [pixels], the first pixel of the input that each reads
    :param rereads: whether a window is read for each channel, or several; else channel by channel, or into a buffer
    """
    source, target = layer.input, layer.output
    pixel, channel = target.shape[2] * target.bits // 8, target.bits // 8
    written = pixel * np.arange(1, len(needed) + 1)
    return Steps(written, _from_here(needed) * _pixel_bytes(source), channel if rereads else 0)


def _pixel_bytes(tensor: Tensor) -> int:
    return tensor.shape[2] * tensor.bits // 8


def _from_here(needed: Integers) -> Integers:
    """The first that each step, or one behind it, needs."""
    return np.asarray(np.minimum.accumulate(needed[::-1])[::-1])


def _window_starts(layer: Layer, window: Window, transposed: bool = False) -> Integers:
    """[pixels], the first pixel of the input that each window may see, those inside the image."""
    firsts = []
    for axis in (0, 1):
        at, size = np.arange(layer.output.shape[axis]), layer.input.shape[axis]
        pad, stride = window.pads[axis], window.stride[axis]
        first = -((window.extent[axis] - 1 - pad - at) // stride) if transposed else at * stride - pad
        firsts.append(np.clip(first, 0, size))
    height, width, _ = layer.input.shape
    return np.minimum(firsts[0][:, None] * width + firsts[1][None, :], height * width).reshape(-1)


def _convolved(layer: Conv2d) -> Integers:
    return _window_starts(layer, layer.window, isinstance(layer, TransposedConv2d))


def _pooled(layer: Pool) -> Integers:
    return _window_starts(layer, layer.window)


def _resized(layer: Resize) -> Integers:
    (height, width, _), (rows, columns, _) = layer.input.shape, layer.output.shape
    down, across = np.arange(rows) * height // rows, np.arange(columns) * width // columns
    return (down[:, None] * width + across[None, :]).reshape(-1)


def _padded(layer: Pad) -> Integers:
    """[pixels], how many pixels of the input lie before each of the output."""
    (height, width, _), (rows, columns, _) = layer.input.shape, layer.output.shape
    inside = np.zeros((rows, columns), np.int64)
    inside[layer.pads[0] : layer.pads[0] + height, layer.pads[1] : layer.pads[1] + width] = 1
    return np.cumsum(inside.reshape(-1)) - inside.reshape(-1)


def _elementwise(source: Tensor, target: Tensor) -> Steps:
    before = np.arange(target.size)
    return Steps((before + 1) * (target.bits // 8), before * (source.bits // 8))


def _pairs(layer: Conv2d) -> Steps:
    """``pp_conv``: the windows of two neighbours are widened into scratch before either is written."""
    needed = _convolved(layer)[::2] * _pixel_bytes(layer.input)
    pixels = np.minimum(2 * np.arange(1, len(needed) + 1), layer.output.size // layer.output.shape[2])
    return Steps(pixels * _pixel_bytes(layer.output), _from_here(needed))


def _read_first(layer: Strips) -> list[Tensor]:
    """The inputs that the last part does not read: it alone writes the output."""
    last = {operand.name for operand in layer.layers[-1].inputs}
    return [tensor for tensor in layer.inputs if tensor.name not in last]


def _by_strips(layer: Strips, tensor: Tensor) -> Steps:
    """The parts read all that a step needs of an input before the last writes, what lies between being apart."""
    written, needed = [], []
    for step in schedule(layer).steps:
        calls = [action for action in step if isinstance(action, Call)]
        behind = calls[-1].target_row + calls[-1].shape.rows
        # The rows of an output, or all of a mean once the last row is added.
        rows = behind if not sums_bytes(layer) else behind // stepped_rows(layer.layers[-1])
        written.append(rows * row_bytes(layer.output))
        reads = [
            row
            for call in calls
            for operand, row in zip(layer.layers[call.part].inputs, call.source_rows, strict=True)
            if operand.name == tensor.name
        ]
        needed.append(min(reads, default=tensor.shape[0]) * row_bytes(tensor))
    return Steps(np.array(written), _from_here(np.array(needed)))


def _tiles(layer: Conv2d) -> Steps:
    """``pp_winograd``: four tiles of 2 x 2 outputs are transformed before any is written."""
    rows, columns, _ = layer.output.shape
    down, across = (grid.reshape(-1) for grid in np.indices((-(-rows // 2), -(-columns // 2))))
    starts = _convolved(layer).reshape(rows, columns)[::2, ::2].reshape(-1)
    last = (np.minimum(2 * down + 2, rows) - 1) * columns + np.minimum(2 * across + 2, columns)
    batches = np.arange(0, len(starts), 4)
    written = np.maximum.accumulate(np.maximum.reduceat(last, batches)) * _pixel_bytes(layer.output)
    needed = np.minimum.reduceat(starts, batches) * _pixel_bytes(layer.input)
    return Steps(written, _from_here(needed))
