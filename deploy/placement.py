"""Placing buffers in one arena: those that some step needs at once share no byte, except as an overlay allows.

The exact optimum on small problems, else the best of several orders of placement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 8
"""Bytes; every buffer starts at a multiple of it, so double-word loads are aligned."""

SEARCHED = 5_000
"""Placements that the exact search tries at most."""

MOVED = 12
"""Buffers, the largest, that are tried at other places of an order."""


@dataclass(frozen=True)
class Overlap:
    """How a buffer may lie over another that some step needs too: it is written over what that step has read."""

    distance_bytes: int
    """From its start up to the start of the other: so many at least."""

    exact: bool = False
    """Neither more, unless the two share no byte."""


Overlays = Mapping[tuple[int, int], Overlap]
"""By the indices of the buffer that is written and of the one that is read, whose last step is the first's first."""


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
    """Bytes needed at a step: each buffer alone, less what each saves at best that may lie over others."""
    live = {i for i, buffer in enumerate(buffers) if buffer.first <= step <= buffer.last}
    saved: dict[int, int] = {}
    for (lower, upper), overlap in overlays.items():
        if lower in live and upper in live:
            shared = buffers[lower].padded_bytes - _aligned(overlap.distance_bytes)
            saved[lower] = saved.get(lower, 0) + max(0, min(shared, buffers[upper].padded_bytes))
    least = sum(min(saving, buffers[lower].padded_bytes) for lower, saving in saved.items())
    return sum(buffers[i].padded_bytes for i in live) - least


def place(buffers: Sequence[Buffer], overlays: Overlays | None = None) -> tuple[int, tuple[int, ...]]:
    """Arena size and an offset per buffer.

    Buffers go one after another to the lowest free offset, in several orders, and from both ends of an
    arena of :func:`live_bytes`, which a chain without overlays always fits; where none reaches that floor, every order
    is tried, as far as :data:`SEARCHED` goes. Some order yields the optimum, that of the optimum's offsets, where no
    overlap is exact. With overlays the largest are moved to other places of an order before that.
    """
    floor = live_bytes(buffers, overlays)
    apart = Apart(buffers, overlays or {})
    best = min(_attempts(buffers, apart, floor), key=lambda offsets: _extent(buffers, offsets))
    if overlays and _extent(buffers, best) > floor:
        best = _moved(buffers, apart, best)
    if _extent(buffers, best) > floor:
        best = _Search(buffers, apart, best, floor).run()
    return _extent(buffers, best), tuple(best)


class Apart:
    """Where a buffer cannot start, given where another does."""

    def __init__(self, buffers: Sequence[Buffer], overlays: Overlays) -> None:
        self._buffers, self._overlays = buffers, overlays
        self._overlaid = {i for pair in overlays for i in pair}
        everything = range(len(buffers))
        self._distances = [[self._distance(i, j) for j in everything] for i in everything]
        self.meeting = [frozenset(j for j in everything if buffer.meets(buffers[j])) for buffer in buffers]
        """Per buffer those that some step needs together with it."""

    def alike(self, i: int) -> object:
        """Equal for buffers that may change places."""
        return i if i in self._overlaid else self._buffers[i]

    def forbidden(self, i: int, j: int, at: int) -> list[tuple[int, int]]:
        """The open intervals of offsets in which buffer ``i`` cannot start where ``j`` starts ``at``."""
        below, above = at - self._distances[i][j], at + self._distances[j][i]
        if i not in self._overlaid or j not in self._overlaid:
            return [(below, above)]
        if (i, j) in self._overlays and self._overlays[i, j].exact:
            return [(at - self._buffers[i].padded_bytes, below), (below, above)]
        if (j, i) in self._overlays and self._overlays[j, i].exact:
            return [(below, above), (above, at + self._buffers[j].padded_bytes)]
        return [(below, above)]

    def _distance(self, lower: int, upper: int) -> int:
        size, overlap = self._buffers[lower].padded_bytes, self._overlays.get((lower, upper))
        return size if overlap is None else min(size, _aligned(overlap.distance_bytes))


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def _attempts(buffers: Sequence[Buffer], apart: Apart, floor: int) -> Iterator[list[int]]:
    ends = _from_both_ends(buffers, apart, floor)
    if ends is not None:
        yield ends
    size, span = [b.padded_bytes for b in buffers], [b.last - b.first for b in buffers]
    first, last, everything = [b.first for b in buffers], [b.last for b in buffers], range(len(buffers))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-size[i], first[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-span[i], -size[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-span[i] * size[i], first[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (first[i], -size[i], i)))
    # What lies over another has to lie below it, so it goes first; what one step needs fits anywhere.
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (-first[i], -last[i], -size[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (span[i] == 0, -first[i], -size[i], i)))
    yield _lowest_free(buffers, apart, sorted(everything, key=lambda i: (span[i] == 0, -last[i], -size[i], i)))


def _extent(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + buffer.padded_bytes for buffer, offset in zip(buffers, offsets, strict=True)), default=0)


def _lowest_free(buffers: Sequence[Buffer], apart: Apart, order: Sequence[int]) -> list[int]:
    placed: dict[int, int] = {}
    for i in order:
        placed[i] = _free_offset(apart, placed, i)
    return [placed[i] for i in range(len(buffers))]


def _free_offset(apart: Apart, placed: dict[int, int], i: int) -> int:
    """The lowest offset at which buffer ``i`` is far enough from all that are placed and live with it."""
    offset = 0
    living = placed.keys() & apart.meeting[i]
    for below, above in sorted(interval for j in living for interval in apart.forbidden(i, j, placed[j])):
        if offset <= below:
            break
        offset = max(offset, above)
    return offset


def _from_both_ends(buffers: Sequence[Buffer], apart: Apart, arena: int) -> list[int] | None:
    """Even buffers at the start, odd ones at the end; None where two that meet would then be too close."""
    offsets = [0 if i % 2 == 0 else arena - buffer.padded_bytes for i, buffer in enumerate(buffers)]
    for i, a in enumerate(buffers):
        for j in range(i):
            intervals = apart.forbidden(i, j, offsets[j]) if a.meets(buffers[j]) else []
            if offsets[i] < 0 or any(below < offsets[i] < above for below, above in intervals):
                return None
    return offsets


def _moved(buffers: Sequence[Buffer], apart: Apart, best: list[int]) -> list[int]:
    """The offsets with one of the largest buffers placed sooner or later, as long as that lowers the top; what one step
    alone needs comes behind all others.
    """
    order, offsets = sorted(range(len(buffers)), key=lambda i: (buffers[i].first == buffers[i].last, best[i])), best
    lasting = sum(buffer.first < buffer.last for buffer in buffers)
    largest = sorted(range(len(buffers)), key=lambda i: -buffers[i].size_bytes)[:MOVED]
    while True:
        rests = ((i, [j for j in order if j != i]) for i in largest)
        tried = ([*rest[:at], i, *rest[at:]] for i, rest in rests for at in range(lasting))
        placed = ((other, _lowest_free(buffers, apart, other)) for other in tried)
        extent = _extent(buffers, offsets)
        lower = next((pair for pair in placed if _extent(buffers, pair[1]) < extent), None)
        if lower is None:
            return offsets
        order, offsets = lower


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
        options, alike = [], set[object]()
        for i in range(len(self._buffers)):
            if i not in placed and self._apart.alike(i) not in alike:
                alike.add(self._apart.alike(i))
                offset = _free_offset(self._apart, placed, i)
                options.append((offset, -self._buffers[i].padded_bytes, i))
        for offset, negative_size, i in sorted(options):
            reached = max(extent, offset - negative_size)
            if self._extent == self._floor or self._left == 0:
                return
            if reached < self._extent:
                self._left -= 1
                self._descend({**placed, i: offset}, reached)
