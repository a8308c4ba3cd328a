"""The arena: nothing that is needed at once overlaps, and a chain takes no more than its largest neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from policyport.deploy import vectors
from policyport.deploy.planner import ALIGNMENT, Buffer, live_bytes, place, plan_program
from policyport.deploy.program import Program
from policyport.deploy.vectors import Spec


@st.composite
def buffers(draw: st.DrawFn) -> list[Buffer]:
    made = []
    for _ in range(draw(st.integers(1, 12))):
        first = draw(st.integers(0, 10))
        made.append(Buffer(draw(st.integers(1, 200)), first, first + draw(st.integers(0, 5))))
    return made


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two (offset, size) ranges share a byte."""
    return a[0] < b[0] + b[1] and b[0] < a[0] + a[1]


@given(buffers())
def test_buffers_needed_at_once_do_not_overlap(made: list[Buffer]) -> None:
    arena, offsets = place(made)
    for i, a in enumerate(made):
        assert offsets[i] >= 0 and offsets[i] + a.size_bytes <= arena and offsets[i] % ALIGNMENT == 0
        for j in range(i):
            if a.first <= made[j].last and made[j].first <= a.last:
                assert not overlap((offsets[i], a.size_bytes), (offsets[j], made[j].size_bytes))
    assert live_bytes(made) <= arena <= sum(-(-b.size_bytes // ALIGNMENT) * ALIGNMENT for b in made)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_a_chain_takes_its_largest_pair_of_neighbours(sizes: list[int]) -> None:
    chain = [Buffer(size, i, min(i + 1, len(sizes) - 1)) for i, size in enumerate(sizes)]
    padded = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    arena, _ = place(chain)
    assert arena == max([a + b for a, b in pairwise(padded)], default=padded[0])


def policy(bits: int) -> Program:
    spec = Spec((4, 64, 64, 2), (bits,) * 4, ("Tanh", "Tanh", ""))
    return vectors.random_program(spec, np.random.default_rng(0))


def test_two_ping_pong_buffers_come_out() -> None:
    assert plan_program(policy(8), "packed").arena_bytes == 128
    assert plan_program(policy(16), "packed").arena_bytes == 256
    assert plan_program(policy(8), "halfwords").arena_bytes == 256
    offsets = plan_program(policy(8), "packed").offsets
    assert offsets[0] != offsets[1] and offsets[1] != offsets[2] and {offsets[1], offsets[2]} == {0, 64}


def test_lookups_work_in_place() -> None:
    program = vectors.with_lookup(vectors.with_lookup(policy(8), "Tanh"), "Sigmoid")
    plan = plan_program(program, "packed")
    assert len(set(plan.offsets[-3:])) == 1
    assert plan.arena_bytes == plan_program(policy(8), "packed").arena_bytes


def test_padded_buffers_of_neighbours_do_not_overlap() -> None:
    """The DSP kernels write up to three elements behind a layer's last."""
    plan = plan_program(vectors.with_lookup(policy(8), "Tanh"), "halfwords")
    ranges = [(offset, 2 * 4 * -(-size // 4)) for offset, size in zip(plan.offsets, (4, 64, 64, 2, 2), strict=True)]
    assert not any(overlap(a, b) for a, b in pairwise(ranges[:4]))
    assert max(offset + size for offset, size in ranges) <= plan.arena_bytes
