"""Placing buffers in one arena: those that some step needs at once share no byte, except as an overlay allows.

The exact optimum on small problems, else the best of several orders of placement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Overlays = Mapping[tuple[int, int], int]
"""(lower, upper) pairs of buffers that may overlap although some step needs both: where the upper one starts at least so
many bytes above the lower one's start. The lower one is written, top first, over what was read of the upper one."""

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
        return _aligned(self.size_bytes)


def live_bytes(buffers: Sequence[Buffer], overlays: Overlays | None = None) -> int:
    """Most bytes needed at any one step: no placement takes less."""
    return max((live_at(buffers, overlays or {}, step) for step in {buffer.first for buffer in buffers}), default=0)


def live_at(buffers: Sequence[Buffer], overlays: Overlays, step: int) -> int:
    """Bytes needed at a step: each buffer alone, less what overlays save at best, each lower buffer in one of them."""
    live = {i for i, buffer in enumerate(buffers) if buffer.first <= step <= buffer.last}
    saved: dict[int, int] = {}
    for (lower, upper), distance in overlays.items():
        if lower in live and upper in live:
            saving = min(buffers[lower].padded_bytes - _aligned(distance), buffers[upper].padded_bytes)
            saved[lower] = max(saved.get(lower, 0), saving)
    return sum(buffers[i].padded_bytes for i in live) - sum(saved.values())


def place(buffers: Sequence[Buffer], overlays: Overlays | None = None) -> tuple[int, tuple[int, ...]]:
    """Arena size and an offset per buffer.

    Buffers go one after another to the lowest free offset, in several orders, and from both ends of an
    arena of :func:`live_bytes`, which a chain without overlays always fits; where none reaches that floor, every order is
    tried, as far as :data:`SEARCHED` goes. Some order yields the optimum: that of the optimum's offsets.
    """
    floor = live_bytes(buffers, overlays)
    apart = Apart(buffers, overlays or {})
    best = min(_attempts(buffers, apart, floor), key=lambda offsets: _extent(buffers, offsets))
    if _extent(buffers, best) > floor:
        best = _Search(buffers, apart, best, floor).run()
    return _extent(buffers, best), tuple(best)


class Apart:
    """How far the starts of two buffers have to be apart."""

    def __init__(self, buffers: Sequence[Buffer], overlays: Overlays) -> None:
        self._buffers = buffers
        self._overlays = {pair: _aligned(distance) for pair, distance in overlays.items()}

    def forbidden(self, i: int, j: int, at: int) -> tuple[int, int]:
        """The open interval of offsets in which buffer ``i`` cannot start where ``j`` starts ``at``."""
        return at - self._distance(i, j), at + self._distance(j, i)

    def _distance(self, lower: int, upper: int) -> int:
        size = self._buffers[lower].padded_bytes
        return min(size, self._overlays.get((lower, upper), size))


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def _attempts(buffers: Sequence[Buffer], apart: Apart, floor: int) -> Iterator[list[int]]:
    ends = _from_both_ends(buffers, apart, floor)
    if ends is not None:
        yield ends
    size, span = [b.padded_bytes for b in buffers], [b.last - b.first for b in buffers]
    first, everything = [b.first for b in buffers], range(len(buffers))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-size[i], first[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-span[i], -size[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-span[i] * size[i], first[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (first[i], -size[i], i)))


def _extent(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + buffer.padded_bytes for buffer, offset in zip(buffers, offsets, strict=True)), default=0)


def _lowest_free(buffers: Sequence[Buffer], apart: Apart, order: Sequence[int]) -> list[int]:
    placed: dict[int, int] = {}
    for i in order:
        placed[i] = _free_offset(buffers, apart, placed, i)
    return [placed[i] for i in range(len(buffers))]


def _free_offset(buffers: Sequence[Buffer], apart: Apart, placed: dict[int, int], i: int) -> int:
    """The lowest offset at which buffer ``i`` is far enough from all that are placed and live with it."""
    offset = 0
    for below, above in sorted(apart.forbidden(i, j, at) for j, at in placed.items() if buffers[i].meets(buffers[j])):
        if offset <= below:
            break
        offset = max(offset, above)
    return offset


def _from_both_ends(buffers: Sequence[Buffer], apart: Apart, arena: int) -> list[int] | None:
    """Even buffers at the start, odd ones at the end; None where two that meet would then be too close."""
    offsets = [0 if i % 2 == 0 else arena - buffer.padded_bytes for i, buffer in enumerate(buffers)]
    for i, a in enumerate(buffers):
        for j in range(i):
            below, above = apart.forbidden(i, j, offsets[j])
            if offsets[i] < 0 or (a.meets(buffers[j]) and below < offsets[i] < above):
                return None
    return offsets


class _Search:
    """Depth first over the orders of placement, cut where the extent reaches the best one known."""

    def __init__(self, buffers: Sequence[Buffer], apart: Apart, best: list[int], floor: int) -> None:
        self._buffers, self._apart, self._best, self._floor = buffers, apart, best, floor
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
                offset = _free_offset(self._buffers, self._apart, placed, i)
                options.append((offset, -self._buffers[i].padded_bytes, i))
        for offset, negative_size, i in sorted(options):
            reached = max(extent, offset - negative_size)
            if self._extent == self._floor or self._left == 0:
                return
            if reached < self._extent:
                self._left -= 1
                self._descend({**placed, i: offset}, reached)
