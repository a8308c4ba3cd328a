"""Where the kernels of ``pp_neon.h`` read windows, and the scratch that they take for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policyport.deploy.layers import Affine, Conv2d, TransposedConv2d
from policyport.deploy.layout_neon import (
    NeonKernel,
    groups_of,
    in_place,
    neon_phases,
    parts_of,
    read_runs,
    runs_of,
)

Reading = Literal["pixels", "rows", "gathered"]
"""``pixels``: each window a pixel of the image, in place. ``rows``: in the ring. ``gathered``: from there in slots."""

MOST_SLOTS = 16
"""Windows that are gathered before they are computed."""

CHUNK_BYTES = 16
"""Copied at once when windows are gathered."""

SLACK_BYTES = 32
"""Behind the ring and the slots, where vectors reach beyond a run."""


@dataclass(frozen=True)
class Ring:
    """The rows of the image that a row of the output sees, padding included."""

    top: int
    """First row of the image that any window sees; negative in the padding."""

    left: int
    rows: int
    columns: int
    row_bytes: int


@dataclass(frozen=True)
class Scratch:
    """What lies where in the scratch, in bytes from its start, the places of a phase's runs at first."""

    ring_first: int
    slot_first: int
    slot_step: int
    slots: int
    size: int


def reading_of(layer: Affine, kernel: NeonKernel) -> Reading:
    """How a kernel reads windows."""
    if not isinstance(layer, Conv2d):
        return "pixels"
    window = layer.window
    alone = (
        window.kernel == window.stride == (1, 1) and not any(window.pads) and not isinstance(layer, TransposedConv2d)
    )
    near = _read_bytes(layer, kernel) <= 2 * pixel_bytes(layer)
    if alone and near and groups_of(layer) == 1 and kernel.how.name in ("dot", "rows"):
        return "pixels"
    return "rows" if in_place(layer, kernel) else "gathered"


def pixel_bytes(layer: Affine) -> int:
    """Bytes of all channels of an input's pixel; a fully connected layer's input is one."""
    channels = layer.input.shape[2] if isinstance(layer, Conv2d) else layer.input.size
    return channels * layer.input.bits // 8


def _read_bytes(layer: Affine, kernel: NeonKernel) -> int:
    """Most that is read of a part."""
    return max(parts_of(layer, phase, kernel).inputs for phase in neon_phases(layer)) * layer.input.bits // 8


def copied_runs(layer: Affine, kernel: NeonKernel) -> list[list[tuple[int, int, int]]]:
    """(y, x, pixels) of the runs of each phase, from a window's origin on."""
    take = read_runs if in_place(layer, kernel) else lambda _, phase: runs_of(phase)
    return [take(layer, phase) for phase in neon_phases(layer)]


def ring_runs(layer: Affine, kernel: NeonKernel) -> list[list[tuple[int, int, int]]]:
    """The same from the first row and column on that any window sees."""
    found = copied_runs(layer, kernel)
    top, left, _, _ = _extent(found)
    return [[(y - top, x - left, pixels) for y, x, pixels in runs] for runs in found]


def _extent(found: list[list[tuple[int, int, int]]]) -> tuple[int, int, int, int]:
    """First row and column, rows and columns."""
    runs = [run for runs in found for run in runs]
    top, left = min(y for y, _, _ in runs), min(x for _, x, _ in runs)
    return top, left, max(y for y, _, _ in runs) + 1 - top, max(x + pixels for _, x, pixels in runs) - left


def ring_of(layer: Conv2d, kernel: NeonKernel) -> Ring:
    """The ring of a convolution."""
    top, left, rows, across = _extent(copied_runs(layer, kernel))
    transposed = isinstance(layer, TransposedConv2d)
    stride, step = (1, layer.window.stride[1]) if transposed else (layer.window.stride[1], 1)
    origin = (0, 0) if transposed else (-layer.window.pads[0], -layer.window.pads[1])
    columns = (-(-layer.output.shape[1] // step) - 1) * stride + across
    return Ring(origin[0] + top, origin[1] + left, rows, columns, columns * pixel_bytes(layer))


def scratch_of(layer: Affine, kernel: NeonKernel) -> Scratch:
    """The scratch of a layer; of pixels as many as the kernel computes at once, if it reads beyond them."""
    reading, read = reading_of(layer, kernel), _read_bytes(layer, kernel)
    if reading == "pixels" or not isinstance(layer, Conv2d):
        pixel = pixel_bytes(layer)
        return Scratch(0, 0, read, 0, (kernel.how.windows - 1) * pixel + read if read > pixel else 0)
    ring, runs = ring_of(layer, kernel), copied_runs(layer, kernel)
    ring_first = _up(4 * max(map(len, runs)))
    slot_first = _up(ring_first + ring.rows * ring.row_bytes + read + SLACK_BYTES)
    if reading == "rows":
        return Scratch(ring_first, slot_first, 0, 0, slot_first)
    run = max(found[0][2] for found in runs) * pixel_bytes(layer)
    step = _up(max((len(found) - 1) * run_bytes(layer, found) + _up(run) for found in runs))
    step = max(step, _up(read))
    slots = min(MOST_SLOTS, layer.output.shape[1])
    return Scratch(ring_first, slot_first, step, slots, slot_first + slots * step + SLACK_BYTES)


def run_bytes(layer: Affine, runs: list[tuple[int, int, int]]) -> int:
    """Bytes of each run of a phase, of all groups' channels."""
    return runs[0][2] * pixel_bytes(layer)


def scratch_bytes(layer: Affine, kernel: NeonKernel) -> int:
    """Bytes of scratch; 0 where all is read in place."""
    return scratch_of(layer, kernel).size


def _up(size: int) -> int:
    return -(-size // CHUNK_BYTES) * CHUNK_BYTES
