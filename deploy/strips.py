"""Layers of images that run together, some rows at a time: which rows each computes in which step, from which.

Behind each layer but the last lies a buffer of the rows that those which read it still need. Before it computes more,
they are moved to the buffer's start. No row is computed twice. Where the last is the mean of a whole image, the rows
that it sees are added to a sum for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policyport.core.operators import Window
from policyport.deploy.layers import (
    Add,
    Concat,
    Conv2d,
    Layer,
    Lookup,
    Multiply,
    Pool,
    Strips,
    Tensor,
    TransposedConv2d,
)

CHANNELS = 2
"""Axis of an image."""


@dataclass(frozen=True)
class Shape:
    """What tells one call of a part from another: all that its constants depend on."""

    source_rows: int
    """Of each operand."""

    rows: int
    top: int
    """Rows of padding above."""

    bottom: int


@dataclass(frozen=True)
class Call:
    """Some rows of a part's output."""

    part: int
    """Counted from 0."""

    shape: Shape
    source_rows: tuple[int, ...]
    """First row that it reads of each operand, counted in the buffer behind the part that yields it, or in the whole
    input of them all."""

    target_row: int
    """First row that it writes, counted likewise; of a part that :func:`sums_rows`, the first that it adds, counted in
    the whole image."""


@dataclass(frozen=True)
class Move:
    """Rows that are still needed, to the start of the buffer behind a part."""

    part: int
    row: int
    rows: int


@dataclass(frozen=True)
class Schedule:
    """What happens in each step."""

    steps: tuple[tuple[Call | Move, ...], ...]
    buffer_rows: tuple[int, ...]
    """Of the buffer behind each part but the last."""


def runs_by_rows(layer: Layer) -> bool:
    """Whether a layer can be a part: its operands and its result are images, and a row of the result sees some rows."""
    if isinstance(layer, TransposedConv2d) or any(len(t.shape) != 3 for t in (*layer.inputs, layer.output)):
        return False
    if isinstance(layer, (Conv2d, Pool)):
        window = layer.window
        return max(window.pads[0], window.pads[2]) < window.extent[0]
    if isinstance(layer, Concat):
        return layer.axis == CHANNELS
    if isinstance(layer, (Add, Multiply, Lookup)):
        return all(operand.shape == layer.output.shape for operand in layer.inputs)
    return False


def sums_rows(layer: Layer) -> bool:
    """Whether a layer is the mean of a whole image, whose rows can be added up one after the other."""
    if not isinstance(layer, Pool) or layer.kind != "average" or any(layer.window.pads):
        return False
    return layer.window.kernel == layer.window.extent == layer.input.shape[:2]


def sums_bytes(layer: Strips) -> int:
    """Of the sums behind the last part: a word for each channel of a mean, else none."""
    last = layer.layers[-1]
    return 4 * last.output.shape[CHANNELS] if sums_rows(last) else 0


def stepped_rows(last: Layer) -> int:
    """Rows that the last part goes through: those of its output, or of the image whose mean it is."""
    return last.input.shape[0] if sums_rows(last) else last.output.shape[0]


def row_bytes(tensor: Tensor) -> int:
    """Bytes of a row of an image."""
    return row_elements(tensor) * tensor.bits // 8


def row_elements(tensor: Tensor) -> int:
    """Elements of a row of an image."""
    return tensor.shape[1] * tensor.shape[2]


def part_of(layer: Layer, shape: Shape) -> Layer:
    """The layer that computes some rows of another from some of its input; not of one that :func:`sums_rows`."""
    sources = tuple(replace(operand, shape=(shape.source_rows, *operand.shape[1:])) for operand in layer.inputs)
    target = replace(layer.output, shape=(shape.rows, *layer.output.shape[1:]))
    part = replace(layer, inputs=sources, output=target)
    if isinstance(part, (Conv2d, Pool)):
        pads = part.window.pads
        return replace(part, window=replace(part.window, pads=(shape.top, pads[1], shape.bottom, pads[3])))
    return part


def schedule(layer: Strips) -> Schedule:
    """The steps of layers that run together: in each, ``layer.rows`` of :func:`stepped_rows`, fewer at last."""
    run = _Run(layer)
    height = stepped_rows(layer.layers[-1])
    steps = [run.step(min(first + layer.rows, height)) for first in range(0, height, layer.rows)]
    return Schedule(tuple(steps), tuple(run.held[:-1]))


def yielded_by(layer: Strips) -> dict[str, int]:
    """Of each tensor inside, the part that yields it; the inputs of them all are in none."""
    return {part.output.name: k for k, part in enumerate(layer.layers)}


class _Run:
    """How far each part has come: in rows of its output, or of the image whose mean the last one is."""

    def __init__(self, layer: Strips) -> None:
        self._parts, self._rows = layer.layers, layer.rows
        yielded = yielded_by(layer)
        self._sources = [[yielded.get(operand.name) for operand in part.inputs] for part in self._parts]
        self._readers = [
            [reader for reader, sources in enumerate(self._sources) if k in sources] for k in range(len(self._parts))
        ]
        self._done = [0] * len(self._parts)
        self._low = [0] * len(self._parts)
        self._actions: list[Call | Move] = []
        self.held = [0] * len(self._parts)
        """Most rows that lay in the buffer behind each part."""

    def step(self, end: int) -> tuple[Call | Move, ...]:
        """What brings the last part up to ``end``."""
        self._actions = []
        self._compute(len(self._parts) - 1, end)
        return tuple(self._actions)

    def _compute(self, k: int, end: int) -> None:
        """A part's rows up to ``end``, a few at a time, each time after the rows that they see."""
        while self._done[k] < end:
            until = min(end, self._done[k] + self._rows)
            seen = self._span(k, self._done[k], until)[1]
            for source in self._sources[k]:
                if source is not None:
                    self._compute(source, seen)
            self._call(k, until)

    def _call(self, k: int, until: int) -> None:
        done = self._done[k]
        self._make_room(k)
        begin, end, top, bottom = self._span(k, done, until)
        sources = tuple(begin - (0 if source is None else self._low[source]) for source in self._sources[k])
        self._actions.append(Call(k, Shape(end - begin, until - done, top, bottom), sources, done - self._low[k]))
        self._done[k] = until
        self.held[k] = max(self.held[k], until - self._low[k])

    def _make_room(self, k: int) -> None:
        """Forget the rows behind a part that all who read it have done with; nothing of the output is forgotten."""
        if not self._readers[k]:
            return
        needed = (self._span(r, self._done[r], self._done[r] + 1)[0] for r in self._readers[k])
        keep = min(*needed, self._done[k])
        if self._low[k] < keep < self._done[k]:
            self._actions.append(Move(k, keep - self._low[k], self._done[k] - keep))
        self._low[k] = keep

    def _span(self, k: int, first: int, end: int) -> tuple[int, int, int, int]:
        """As :func:`_span` of a part; the last one's mean sees a row at a time."""
        is_sum = k == len(self._parts) - 1 and sums_rows(self._parts[k])
        return (first, end, 0, 0) if is_sum else _span(self._parts[k], first, end)


def _span(layer: Layer, first: int, end: int) -> tuple[int, int, int, int]:
    """The rows of the input that rows of the output see, and rows of padding above and below those."""
    window = layer.window if isinstance(layer, (Conv2d, Pool)) else Window((1, 1))
    begin = first * window.stride[0] - window.pads[0]
    behind = (end - 1) * window.stride[0] - window.pads[0] + window.extent[0]
    height = layer.input.shape[0]
    return max(0, begin), min(height, behind), max(0, -begin), max(0, behind - height)
