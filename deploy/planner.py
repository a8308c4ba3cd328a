"""Static memory planning: where each activation lies in the arena.

Two activations share bytes only if no moment needs both. For a chain of layers that leaves two ping-pong
buffers at the two ends of the arena, as small as the largest pair of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from policyport.deploy.program import Lookup, Program

Storage = Literal["packed", "halfwords"]
"""How activations lie in memory: ``packed`` at their own width; ``halfwords`` as int16, padded to a
multiple of four elements, as the DSP kernels read and write them."""

ALIGNMENT = 8
"""Bytes; every buffer starts at a multiple of it, so double-word loads are aligned."""


@dataclass(frozen=True)
class Buffer:
    """Bytes that are needed from one step to another, both included."""

    size_bytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether some step needs both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets into the arena."""

    arena_bytes: int
    offsets: tuple[int, ...]
    """Bytes from the start of the arena: the program's input first, then each layer's output."""


def plan_program(program: Program, storage: Storage) -> Plan:
    """Where the input and each layer's output lie.

    A lookup between activations of equal size works in place: its output is its input's buffer.
    """
    tensors = [program.input, *(layer.output for layer in program.layers)]
    sizes = [_stored_bytes(tensor.size, tensor.bits, storage) for tensor in tensors]
    owner = list(range(len(tensors)))
    for i, layer in enumerate(program.layers):
        if isinstance(layer, Lookup) and sizes[i] == sizes[i + 1]:
            owner[i + 1] = owner[i]
    buffers = []
    for own in sorted(set(owner)):
        last = max(i for i, o in enumerate(owner) if o == own)
        buffers.append(Buffer(sizes[own], own, min(last + 1, len(tensors) - 1)))
    arena_bytes, placed = place(buffers)
    at = dict(zip(sorted(set(owner)), placed, strict=True))
    return Plan(arena_bytes, tuple(at[o] for o in owner))


def _stored_bytes(size: int, bits: int, storage: Storage) -> int:
    return 2 * _round_up(size, 4) if storage == "halfwords" else size * bits // 8


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def live_bytes(buffers: Sequence[Buffer]) -> int:
    """Most bytes needed at any one step: no placement takes less."""
    steps = {buffer.first for buffer in buffers}
    return max((sum(_padded(b) for b in buffers if b.first <= step <= b.last) for step in steps), default=0)


def place(buffers: Sequence[Buffer]) -> tuple[int, tuple[int, ...]]:
    """Arena size and an offset per buffer; buffers that meet do not overlap.

    The better of two placements: largest first at the lowest free offset; and alternately from the two
    ends of an arena of :func:`live_bytes`, which a chain always fits.
    """
    by_size = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size_bytes, buffers[i].first, i))
    greedy = _lowest_free(buffers, by_size)
    ends = _from_both_ends(buffers)
    offsets = greedy if ends is None or _extent(buffers, greedy) <= _extent(buffers, ends) else ends
    return _extent(buffers, offsets), tuple(offsets)


def _padded(buffer: Buffer) -> int:
    return _round_up(buffer.size_bytes, ALIGNMENT)


def _extent(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + _padded(buffer) for buffer, offset in zip(buffers, offsets, strict=True)), default=0)


def _lowest_free(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    offsets = [0] * len(buffers)
    done: list[int] = []
    for i in order:
        offset = 0
        for j in sorted((j for j in done if buffers[i].meets(buffers[j])), key=lambda j: offsets[j]):
            if offset + _padded(buffers[i]) <= offsets[j]:
                break
            offset = max(offset, offsets[j] + _padded(buffers[j]))
        offsets[i] = offset
        done.append(i)
    return offsets


def _from_both_ends(buffers: Sequence[Buffer]) -> list[int] | None:
    """Even buffers at the start, odd ones at the end; None where two that meet would then overlap."""
    arena = live_bytes(buffers)
    offsets = [0 if i % 2 == 0 else arena - _padded(buffer) for i, buffer in enumerate(buffers)]
    for i, a in enumerate(buffers):
        for j in range(i):
            apart = offsets[i] + _padded(a) <= offsets[j] or offsets[j] + _padded(buffers[j]) <= offsets[i]
            if a.meets(buffers[j]) and not apart:
                return None
    return offsets
