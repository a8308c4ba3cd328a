"""How many instructions the AArch64 kernels take for a layer, by counting their code as gcc compiles it.

Each formula is the kernel's own, as in :mod:`policyport.deploy.kernel_cost`; a test holds them against emulated runs.
"""

from __future__ import annotations

from policyport.deploy.kernel_cost import Window, plain_instructions
from policyport.deploy.layers import Affine, Conv2d, TransposedConv2d
from policyport.deploy.layout_neon import (
    NeonKernel,
    Parts,
    groups_of,
    in_place,
    neon_phases,
    parts_of,
    runs_of,
)


def neon_instructions(layer: Affine, kernel: NeonKernel) -> int:
    """Instructions of a layer by the kernels of ``pp_neon.h``."""
    how, phases = kernel.how, neon_phases(layer)
    rows = len(layer.weights) // groups_of(layer)
    places = layer.output.size // len(layer.weights)
    total = 60.0
    for phase in phases:
        parts = parts_of(layer, phase, kernel)
        windows = max(1, places // len(phases))
        several, alone = divmod(windows, how.windows)
        several, alone = (several + 1, 0) if alone > 1 else (several, alone)
        for tiles, count in ((several, how.windows), (alone, 1)):
            blocks = sum(_block(how.padded(block), count, parts, layer, kernel) for block in how.blocks(rows))
            total += tiles * groups_of(layer) * (85 + 4 * count + blocks)
        copied = _copied_share(layer, kernel) * windows
        total += windows * 26 + copied * _copy(runs_of(phase), layer)
    return round(total)


def neon_plain_instructions(layer: Affine) -> int:
    """Instructions of the plain C kernels on AArch64, about."""
    if isinstance(layer, Conv2d):
        return plain_instructions(layer)
    return layer.output.size * (25 + layer.input.size * (6 if layer.weight_bits == 8 else 15))


def _block(rows: int, windows: int, parts: Parts, layer: Affine, kernel: NeonKernel) -> float:
    """A block over some windows: what each part takes, and how sums begin and end."""
    end = 25 + rows + windows * (9 + 2.2 * rows)
    if kernel.how.name == "channels":
        pair = 4 + windows * rows / 1.6 if layer.input.bits == 8 else 18 + windows * rows * 0.9
        return end + 10 + parts.count / 2 * pair
    if kernel.how.name == "dot":
        (steps, rest), vectors = divmod(parts.inputs, 16), rows / 4
        unpack = 0 if kernel.digits == 1 else 4 * vectors if windows == 1 else 12 * vectors
        wide = layer.input.bits // 8
        step = 11 + (4 * wide - 3) * windows + 4 * vectors * windows * wide + unpack
        return end + parts.count * (10 + windows + steps * step + rest / 4 * (vectors * windows + 4 + 2 * windows))
    products, unpack, moved = {
        ("bytes", 8): (3, 0.5, 6),
        ("nibbles", 8): (2, 1.5, 14),
        ("bytes", 16): (4, 2.5, 3) if windows == 1 else (4, 4, 12),
    }[kernel.layout, layer.input.bits]
    step = moved + windows + rows * (products * windows + unpack)
    return end + 1.75 * rows * windows + parts.count * (10 + windows + parts.inputs / 16 * step)


def _copied_share(layer: Affine, kernel: NeonKernel) -> float:
    """How many of the windows are copied, of one."""
    if not isinstance(layer, Conv2d) or not in_place(layer, kernel):
        return 1.0
    if isinstance(layer, TransposedConv2d):
        return 0.3
    (rows, columns, _), window = layer.output.shape, layer.window
    sizes = Window(layer.input.shape, layer.output.shape, window.extent, window.stride, window.pads[:2])  # type: ignore[arg-type]
    return 1 - sizes.places_inside() / (rows * columns)


def _copy(runs: list[tuple[int, int, int]], layer: Affine) -> float:
    """A window to scratch."""
    size = runs[0][2] * layer.input.shape[-1] * layer.input.bits // 8
    return 50 + len(runs) * (70 + size / 10)
