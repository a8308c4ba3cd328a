"""The arena over time: each activation and scratch buffer as a rectangle of lifetime by address, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from policyport.deploy.codegen_memory import Memory
from policyport.deploy.planner import lives_of, stored_bytes
from policyport.deploy.program import Program

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 360, 84, 12, 40
"""Of the picture and its margins, in units of its view box."""


@dataclass(frozen=True)
class Stay:
    """A buffer in the arena."""

    name: str
    kind: str
    """``activation`` or ``scratch``."""

    first: int
    """Step that writes it first: 0 loads the input, step ``i`` runs layer ``i``."""

    last: int
    begin: int
    """Bytes from the start of the arena."""

    end: int


def stays(program: Program, memory: Memory, scratch: Sequence[Sequence[int]]) -> tuple[Stay, ...]:
    """Every buffer of a program, activations first.

    :param scratch: per layer the sizes of its scratch buffers, in bytes
    """
    lives, plan = lives_of(program), memory.plan
    found = []
    for tensor in program.tensors:
        begin = plan.offsets[tensor.name]
        end = begin + stored_bytes(tensor, memory.storages[tensor.name])
        found.append(Stay(tensor.name, "activation", *lives[tensor.name], begin, end))
    for step, (offsets, sizes) in enumerate(zip(plan.scratch, scratch, strict=True), start=1):
        name = program.layers[step - 1].name
        found += [Stay(name, "scratch", step, step, at, at + size) for at, size in zip(offsets, sizes, strict=True)]
    return tuple(found)


def peak_step(buffers: Sequence[Stay]) -> int:
    """The first step at which the live bytes reach furthest up."""
    steps = range(max(stay.last for stay in buffers) + 1)
    return max(steps, key=lambda step: max((s.end for s in buffers if s.first <= step <= s.last), default=0))


def picture(buffers: Sequence[Stay], arena_bytes: int) -> str:
    """An SVG element: steps to the right, addresses upwards, the peak's step washed.

    :param arena_bytes: height of the picture
    """
    steps = max(stay.last for stay in buffers) + 1
    across, up = (WIDTH - LEFT) / steps, (HEIGHT - TOP - BOTTOM) / max(arena_bytes, 1)
    floor = HEIGHT - BOTTOM
    peak = peak_step(buffers)
    parts = [
        f'<rect x="{LEFT + peak * across:.1f}" y="{TOP}" width="{across:.1f}" height="{floor - TOP}" '
        f'fill="var(--line)"><title>peak: step {peak}</title></rect>'
    ]
    for stay in buffers:
        colour = "--board" if stay.kind == "activation" else "--float"
        said = f"{stay.name}, {stay.kind}: bytes {stay.begin} to {stay.end}, steps {stay.first} to {stay.last}"
        parts.append(
            f'<rect x="{LEFT + stay.first * across:.1f}" y="{floor - stay.end * up:.1f}" '
            f'width="{(stay.last - stay.first + 1) * across:.1f}" height="{(stay.end - stay.begin) * up:.1f}" '
            f'fill="var({colour})" fill-opacity="0.55" stroke="var({colour})"><title>{escape(said)}</title></rect>'
        )
    for share in (0, 0.5, 1):
        at = floor - share * arena_bytes * up
        parts.append(_text(LEFT - 8, at + 4, f"{round(share * arena_bytes):,} B", "end"))
    stride = -(-steps // 16)
    parts += [_text(LEFT + (i + 0.5) * across, floor + 16, str(i), "middle") for i in range(0, steps, stride)]
    parts.append(_text(LEFT + (WIDTH - LEFT) / 2, HEIGHT - 6, "step: 0 loads the input, i runs layer i", "middle"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="arena over time">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}" fill="var(--muted)">{text}</text>'
