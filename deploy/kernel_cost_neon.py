"""How many instructions the AArch64 kernels take for a layer, by counting their code as gcc compiles it.

Each formula is the kernel's own, as in :mod:`policyport.deploy.kernel_cost`; a test holds them against emulated runs.
"""

from __future__ import annotations

from policyport.deploy.kernel_cost import plain_instructions
from policyport.deploy.layers import Affine, Conv2d, TransposedConv2d
from policyport.deploy.layout_neon import NeonKernel, Parts, groups_of, neon_phases, parts_of
from policyport.deploy.layout_neon_ring import CHUNK_BYTES, copied_runs, pixel_bytes, reading_of


def neon_instructions(layer: Affine, kernel: NeonKernel) -> int:
    """Instructions of a layer by the kernels of ``pp_neon.h``."""
    found = neon_phases(layer)
    rows = len(layer.weights) // groups_of(layer)
    places = layer.output.size // len(layer.weights)
    reading, read = reading_of(layer, kernel), copied_runs(layer, kernel)
    along = layer.output.shape[1] if isinstance(layer, Conv2d) and reading != "pixels" else places
    total = 150.0
    for phase, runs in zip(found, read, strict=True):
        parts = parts_of(layer, phase, kernel)
        windows = max(1, along // (layer.window.stride[1] if isinstance(layer, TransposedConv2d) else 1))
        calls = max(1, places // len(found)) / windows
        total += calls * groups_of(layer) * (40 + _windows(rows, windows, parts, layer, kernel))
        if reading == "gathered":
            total += (
                calls * windows * sum(2 + 5 * -(-pixels * pixel_bytes(layer) // CHUNK_BYTES) for *_, pixels in runs)
            )
        if reading != "pixels":
            total += calls * (60 + 9 * len(runs))
    return round(total + (_ring(layer) if isinstance(layer, Conv2d) and reading != "pixels" else 0))


def neon_plain_instructions(layer: Affine) -> int:
    """Instructions of the plain C kernels on AArch64, about."""
    if isinstance(layer, Conv2d):
        return plain_instructions(layer)
    return layer.output.size * (25 + layer.input.size * (6 if layer.weight_bits == 8 else 15))


def _ring(layer: Conv2d) -> float:
    """All rows of the image to the ring, with padding above and below."""
    height, width, _ = layer.input.shape
    return (height + layer.window.extent[0]) * (45 + width * pixel_bytes(layer) / 14)


def _windows(rows: int, windows: int, parts: Parts, layer: Affine, kernel: NeonKernel) -> float:
    """Some windows beside one another, by one group's rows."""
    how = kernel.how
    if how.name == "depthwise":
        pixels = -(-windows // 2) if rows == 8 and layer.output.bits == 8 and _step(layer) == 1 else windows
        stored = 0 if rows >= how.sizes[0] or rows == 8 else 25
        return -(-rows // how.sizes[0]) * (60 + pixels * (72 + stored))
    several, alone = divmod(windows, how.windows)
    several, alone = (several + 1, 0) if alone > 1 else (several, alone)
    total = 0.0
    for count, size in ((several, how.windows), (alone, 1)):
        blocks = sum(_block(how.padded(block), size, parts, layer, kernel) for block in how.blocks(rows))
        total += count * (30 + 6 * size + blocks)
    return total


def _step(layer: Affine) -> int:
    return layer.window.stride[1] if isinstance(layer, Conv2d) else 1


def _block(rows: int, windows: int, parts: Parts, layer: Affine, kernel: NeonKernel) -> float:
    """A block over some windows: what each part takes, and how sums begin and end."""
    end = 25 + rows / 4 * (windows + 1) + windows * (6 + 0.9 * rows + (8 if rows == 4 else 0))
    if kernel.how.name == "channels":
        pair = 4 + windows * rows / 1.6 if layer.input.bits == 8 else 18 + windows * rows * 0.9
        return end + 10 + parts.count / 2 * pair
    if kernel.how.name == "dot":
        (steps, rest), vectors = divmod(parts.inputs, 16), rows / 4
        unpack = 0 if kernel.digits == 1 else 4 * vectors if windows == 1 else 5 * vectors
        wide = layer.input.bits // 8
        step = 5 + (4 * wide - 3) * windows + 4 * vectors * (windows * wide + 0.6) + unpack
        return end + parts.count * (10 + windows + steps * step + rest / 4 * (vectors * (windows + 1) + 2 + windows))
    products, unpack, moved = {
        ("bytes", 8): (3, 0.5, 6),
        ("nibbles", 8): (2, 1.5, 14),
        ("bytes", 16): (4, 2.5, 3) if windows == 1 else (4, 4, 12),
    }[kernel.layout, layer.input.bits]
    step = moved + windows + rows * (products * windows + unpack)
    return end + 1.75 * rows * windows + parts.count * (10 + windows + parts.inputs / 16 * step)
