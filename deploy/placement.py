"""Placing buffers in one arena: those that some step needs at once never share a byte.

The exact optimum on small problems, else the best of several orders of placement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ALIGNMENT = 8
"""Bytes; every buffer starts at a multiple of it, so double-word loads are aligned."""

SEARCHED = 5_000
"""Placements that the exact search tries at most."""


@dataclass(frozen=True)
class Buffer:
    """Bytes that are needed from one step to another, both included."""

    size_bytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether some step needs both."""
        return self.first <= other.last and other.first <= self.last

    @property
    def padded_bytes(self) -> int:
        """Its size, rounded up to the alignment."""
        return -(-self.size_bytes // ALIGNMENT) * ALIGNMENT


def live_bytes(buffers: Sequence[Buffer]) -> int:
    """Most bytes needed at any one step: no placement takes less."""
    steps = {buffer.first for buffer in buffers}
    return max((sum(b.padded_bytes for b in buffers if b.first <= step <= b.last) for step in steps), default=0)


def place(buffers: Sequence[Buffer]) -> tuple[int, tuple[int, ...]]:
    """Arena size and an offset per buffer.

    Buffers go one after another to the lowest free offset, in several orders, and from both ends of an
    arena of :func:`live_bytes`, which a chain always fits; where none reaches that floor, every order is
    tried, as far as :data:`SEARCHED` goes. Some order yields the optimum: that of the optimum's offsets.
    """
    floor = live_bytes(buffers)
    best = min(_attempts(buffers), key=lambda offsets: _extent(buffers, offsets))
    if _extent(buffers, best) > floor:
        best = _Search(buffers, best, floor).run()
    return _extent(buffers, best), tuple(best)


def _attempts(buffers: Sequence[Buffer]) -> Iterator[list[int]]:
    ends = _from_both_ends(buffers)
    if ends is not None:
        yield ends
    size, span = [b.padded_bytes for b in buffers], [b.last - b.first for b in buffers]
    first, everything = [b.first for b in buffers], range(len(buffers))
    yield _lowest_free(buffers, sorted(everything, key=lambda i: (-size[i], first[i], i)))
    yield _lowest_free(buffers, sorted(everything, key=lambda i: (-span[i], -size[i], i)))
    yield _lowest_free(buffers, sorted(everything, key=lambda i: (-span[i] * size[i], first[i], i)))
    yield _lowest_free(buffers, sorted(everything, key=lambda i: (first[i], -size[i], i)))


def _extent(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + buffer.padded_bytes for buffer, offset in zip(buffers, offsets, strict=True)), default=0)


def _lowest_free(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    placed: dict[int, int] = {}
    for i in order:
        placed[i] = _free_offset(buffers, placed, i)
    return [placed[i] for i in range(len(buffers))]


def _free_offset(buffers: Sequence[Buffer], placed: dict[int, int], i: int) -> int:
    """The lowest offset at which buffer ``i`` meets none that is placed."""
    offset = 0
    for start, end in sorted(
        (at, at + buffers[j].padded_bytes) for j, at in placed.items() if buffers[i].meets(buffers[j])
    ):
        if offset + buffers[i].padded_bytes <= start:
            break
        offset = max(offset, end)
    return offset


def _from_both_ends(buffers: Sequence[Buffer]) -> list[int] | None:
    """Even buffers at the start, odd ones at the end; None where two that meet would then overlap."""
    arena = live_bytes(buffers)
    offsets = [0 if i % 2 == 0 else arena - buffer.padded_bytes for i, buffer in enumerate(buffers)]
    for i, a in enumerate(buffers):
        for j in range(i):
            apart = offsets[i] + a.padded_bytes <= offsets[j] or offsets[j] + buffers[j].padded_bytes <= offsets[i]
            if a.meets(buffers[j]) and not apart:
                return None
    return offsets


class _Search:
    """Depth first over the orders of placement, cut where the extent reaches the best one known."""

    def __init__(self, buffers: Sequence[Buffer], best: list[int], floor: int) -> None:
        self._buffers, self._best, self._floor = buffers, best, floor
        self._extent = _extent(buffers, best)
        self._left = SEARCHED

    def run(self) -> list[int]:
        self._descend({}, 0)
        return self._best

    def _descend(self, placed: dict[int, int], extent: int) -> None:
        if len(placed) == len(self._buffers):
            self._best, self._extent = [placed[i] for i in range(len(placed))], extent
            return
        options, alike = [], set[Buffer]()
        for i in range(len(self._buffers)):
            if i not in placed and self._buffers[i] not in alike:
                alike.add(self._buffers[i])
                offset = _free_offset(self._buffers, placed, i)
                options.append((offset, -self._buffers[i].padded_bytes, i))
        for offset, negative_size, i in sorted(options):
            reached = max(extent, offset - negative_size)
            if self._extent == self._floor or self._left == 0:
                return
            if reached < self._extent:
                self._left -= 1
                self._descend({**placed, i: offset}, reached)
