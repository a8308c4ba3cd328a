"""How many instructions the DSP kernels take for a convolution, by counting their code: what chooses between them.

Each formula is the kernel's own: instructions of its inner part times how often that runs, plus what goes round it.
Borders are counted by how many windows touch them. Against emulated runs they are within a few per cent, and a
test holds them there.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyport.deploy.layers import Conv2d
from policyport.deploy.layout_blocks import Layout
from policyport.deploy.layout_taps import TapsLayout, phases
from policyport.deploy.variant import Variant


@dataclass(frozen=True)
class Window:
    """A convolution's sizes, in elements."""

    input: tuple[int, int, int]
    """Height, width, channels."""

    output: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int]
    """Top, left."""

    @property
    def turned(self) -> Window:
        """The same with height and width exchanged."""
        (h, w, c), (y, x, o) = self.input, self.output
        (down, right), (top, left) = self.stride, self.pads
        return Window((w, h, c), (x, y, o), (self.kernel[1], self.kernel[0]), (right, down), (left, top))

    def places_inside(self) -> int:
        """Windows that lie wholly inside the image."""
        count = 1
        for axis in (0, 1):
            starts = [i * self.stride[axis] - self.pads[axis] for i in range(self.output[axis])]
            count *= sum(0 <= start <= self.input[axis] - self.kernel[axis] for start in starts)
        return count


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


def conv_instructions(window: Window, layout: Layout) -> int:
    """Instructions of ``pp_conv_pairs`` or ``pp_conv_nibbles`` on a Cortex-M4."""
    height, width, outputs = window.output
    rows, groups = window.kernel[0], _ceil(window.kernel[1] * window.input[2], 4)
    steps = 2 * rows * groups
    if layout == "nibbles":
        block, prepare = 56 + _ceil(25 * steps, 2), 46 + _ceil(7 * steps, 2)
    else:
        block, prepare = 45 + 12 * steps, 30
    block += 3 * _ceil(steps, 8)
    calls = (outputs >= 4) + (outputs % 4 != 0)
    columns = prepare * calls + block * _ceil(outputs, 4) + 60 * (outputs % 4 != 0)
    widen = 17 + rows * (6 + 7 * groups + 2 * _ceil(groups, 4))
    border = 22 + rows * (80 + 3 * groups)
    pairs = _ceil(height * width, 2)
    at_border = min(pairs, height * width - window.places_inside())
    return pairs * (columns + widen + 30) + at_border * border


def winograd_instructions(window: Window) -> int:
    """Instructions of ``pp_winograd`` on a Cortex-M4."""
    height, width, outputs = window.output
    channels = window.input[2]
    across, down = _ceil(width, 2), _ceil(height, 2)
    batches = _ceil(across * down, 4)
    place = 11 * _ceil(channels, 2) + 4 * _ceil(channels, 8) + 8
    pair = 16 * place + 8 * 72 + 34
    tile = 106 * _ceil(channels, 2) + 90
    border = 16 * (16 + channels)
    inside = max(0, across - 2) * max(0, down - 2)
    return batches * (pair * _ceil(outputs, 2) + 4 * tile) + (across * down - inside) * border


def depthwise_instructions(window: Window) -> int:
    """Instructions of ``pp_depthwise`` on a Cortex-M4, rows along the width."""
    height, width, channels = window.output
    stride = window.stride[0]
    pairs, odd = divmod(width, 2)
    pair = 24 if stride == 1 else 27
    row = 4 * (18 + pair * (pairs + odd) + 2 * _ceil(pairs, 4) + 7 * odd) + 21
    words = min(stride * _ceil(width, 2) + 1, _ceil(window.input[1] + window.pads[1], 2))
    gather = 28 + 17 * words
    return _ceil(channels, 4) * (height * (row + stride * gather) + (3 - stride) * gather + 60)


def channels_instructions(layer: Conv2d, variant: Variant = "dsp") -> int:
    """Instructions of ``pp_channels`` on a Cortex-M4, in variant ``thumb`` on an M3."""
    taps, channels = layer.window.kernel[0] * layer.window.kernel[1], layer.groups
    share = len(layer.weights) // channels
    four = 130 + 64 * _ceil(taps, 2) if variant == "thumb" else 75 + 19 * _ceil(taps, 2)
    window = Window(*_sizes(layer), layer.window.extent, layer.window.stride, layer.window.pads[:2])
    places = layer.output.size // len(layer.weights)
    border = (places - window.places_inside()) * taps * (30 + 2 * channels)
    return places * (40 + share * _ceil(channels, 4) * four) + border


def taps_instructions(layer: Conv2d, layout: TapsLayout) -> int:
    """Instructions of ``pp_taps`` on a Cortex-M4, or on an M3 with the layout that is for it."""
    share, depth = len(layer.weights) // layer.groups, layer.weights.shape[3]
    step = {"pairs": 13, "nibbles": 14, "bytes": 17, "halfwords": 12, "quartets": 45}[layout]
    total = 0
    parts = phases(layer)
    for phase in parts:
        elements = len(phase.taps) * depth
        gather = sum(40 + 14 * _ceil(pixels * depth, 4) for _, _, pixels in phase.runs(layer.groups))
        blocks = _ceil(share, 4) * (35 + step * _ceil(elements, 4))
        total += 60 + layer.groups * (60 + gather + blocks + 5 * share)
    return layer.output.size // len(layer.weights) * total // len(parts)


def plain_instructions(layer: Conv2d) -> int:
    """Instructions of the plain C kernels on a Cortex-M4, about."""
    taps, depth = layer.window.kernel[0] * layer.window.kernel[1], layer.weights.shape[3]
    weight = 6 if layer.weight_bits == 8 else 17
    return layer.output.size * (50 + taps * (35 + weight * depth))


def _sizes(layer: Conv2d) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    source, target = layer.input.shape, layer.output.shape
    return (source[0], source[1], source[2]), (target[0], target[1], target[2])
