"""Layers of images that run together, some rows at a time: which rows each computes in which step, from which.

Between two layers lies a buffer of the rows that the second still needs. Before the first computes more, those are
moved to the buffer's start. No row is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policyport.core.operators import Window
from policyport.deploy.layers import Add, Conv2d, Layer, Lookup, Pool, Strips, Tensor, TransposedConv2d


@dataclass(frozen=True)
class Shape:
    """What tells one call of a part from another: all that its constants depend on."""

    source_rows: int
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
    source_row: int
    """First row that it reads, counted in the buffer, or in the whole input for the first part."""

    target_row: int
    """First row that it writes, counted likewise."""


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
    """Whether a layer can be a part: one operand, an image, and each row of the result sees some rows of it."""
    if isinstance(layer, TransposedConv2d) or len(layer.inputs) != 1 or len(layer.output.shape) != 3:
        return False
    if isinstance(layer, (Conv2d, Pool)):
        window = layer.window
        return max(window.pads[0], window.pads[2]) < window.extent[0]
    return isinstance(layer, (Add, Lookup))


def row_bytes(tensor: Tensor) -> int:
    """Bytes of a row of an image."""
    return row_elements(tensor) * tensor.bits // 8


def row_elements(tensor: Tensor) -> int:
    """Elements of a row of an image."""
    return tensor.shape[1] * tensor.shape[2]


def part_of(layer: Layer, shape: Shape) -> Layer:
    """The layer that computes some rows of another from some of its input."""
    source = replace(layer.input, shape=(shape.source_rows, *layer.input.shape[1:]))
    target = replace(layer.output, shape=(shape.rows, *layer.output.shape[1:]))
    part = replace(layer, inputs=(source,), output=target)
    if isinstance(part, (Conv2d, Pool)):
        pads = part.window.pads
        return replace(part, window=replace(part.window, pads=(shape.top, pads[1], shape.bottom, pads[3])))
    return part


def schedule(layer: Strips) -> Schedule:
    """The steps of layers that run together: in each, ``layer.rows`` of the output, fewer at last."""
    run = _Run(layer.layers, layer.rows)
    height = layer.output.shape[0]
    steps = [run.step(min(first + layer.rows, height)) for first in range(0, height, layer.rows)]
    return Schedule(tuple(steps), tuple(run.held[:-1]))


class _Run:
    """How far each part has come."""

    def __init__(self, parts: tuple[Layer, ...], rows: int) -> None:
        self._parts, self._rows = parts, rows
        self._done = [0] * len(parts)
        self._low = [0] * len(parts)
        self._actions: list[Call | Move] = []
        self.held = [0] * len(parts)
        """Most rows that lay in the buffer behind each part."""

    def step(self, end: int) -> tuple[Call | Move, ...]:
        """What computes the output's rows up to ``end``."""
        self._actions = []
        self._compute(len(self._parts) - 1, end)
        return tuple(self._actions)

    def _compute(self, k: int, end: int) -> None:
        """A part's rows up to ``end``, a few at a time, each time after the rows that they see."""
        while self._done[k] < end:
            until = min(end, self._done[k] + self._rows)
            if k:
                self._compute(k - 1, _span(self._parts[k], self._done[k], until)[1])
            self._call(k, until)

    def _call(self, k: int, until: int) -> None:
        last, done = len(self._parts) - 1, self._done[k]
        if k < last:
            self._make_room(k)
        begin, end, top, bottom = _span(self._parts[k], done, until)
        source = begin - (self._low[k - 1] if k else 0)
        target = done - (self._low[k] if k < last else 0)
        self._actions.append(Call(k, Shape(end - begin, until - done, top, bottom), source, target))
        self._done[k] = until
        self.held[k] = max(self.held[k], until - self._low[k])

    def _make_room(self, k: int) -> None:
        """Forget the rows behind a part that the next one has done with."""
        following = self._done[k + 1]
        keep = min(_span(self._parts[k + 1], following, following + 1)[0], self._done[k])
        if self._low[k] < keep < self._done[k]:
            self._actions.append(Move(k, keep - self._low[k], self._done[k] - keep))
        self._low[k] = keep


def _span(layer: Layer, first: int, end: int) -> tuple[int, int, int, int]:
    """The rows of the input that rows of the output see, and rows of padding above and below those."""
    window = layer.window if isinstance(layer, (Conv2d, Pool)) else Window((1, 1))
    begin = first * window.stride[0] - window.pads[0]
    behind = (end - 1) * window.stride[0] - window.pads[0] + window.extent[0]
    height = layer.input.shape[0]
    return max(0, begin), min(height, behind), max(0, -begin), max(0, behind - height)
