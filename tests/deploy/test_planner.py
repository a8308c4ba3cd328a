"""The arena: nothing that is needed at once overlaps, and a chain takes no more than its largest neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.operators import Window
from policyport.deploy import reference, vectors
from policyport.deploy.codegen_memory import VARIANTS, Variant, overlaps_of, plan_memory, scratch_bytes
from policyport.deploy.layers import Add, Lookup, Multiply, Reshape
from policyport.deploy.order import reorder
from policyport.deploy.placement import ALIGNMENT, Buffer, live_bytes, place
from policyport.deploy.planner import stored_bytes
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph, random_graph
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


@settings(deadline=None, max_examples=50)
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
    assert plan_memory(policy(8), "c").plan.arena_bytes == 128
    assert plan_memory(policy(16), "c").plan.arena_bytes == 256
    assert plan_memory(policy(8), "dsp").plan.arena_bytes == 256
    offsets = list(plan_memory(policy(8), "c").plan.offsets.values())
    assert offsets[0] != offsets[1] and offsets[1] != offsets[2] and {offsets[1], offsets[2]} == {0, 64}


def test_lookups_work_in_place() -> None:
    program = vectors.with_lookup(vectors.with_lookup(policy(8), "Tanh"), "Sigmoid")
    plan = plan_memory(program, "c").plan
    assert len(set(list(plan.offsets.values())[-3:])) == 1
    assert plan.arena_bytes == plan_memory(policy(8), "c").plan.arena_bytes


def test_padded_buffers_of_neighbours_do_not_overlap() -> None:
    """The DSP kernels write up to three elements behind a layer's last."""
    plan = plan_memory(vectors.with_lookup(policy(8), "Tanh"), "dsp").plan
    sizes = [2 * 4 * -(-size // 4) for size in (4, 64, 64, 2, 2)]
    ranges = list(zip(plan.offsets.values(), sizes, strict=True))
    assert not any(overlap(a, b) for a, b in pairwise(ranges[:4]))
    assert max(offset + size for offset, size in ranges) <= plan.arena_bytes


@st.composite
def graphs(draw: st.DrawFn) -> Program:
    """Random graphs whose layers read any activations before them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random_graph(rng, draw(st.integers(1, 9)))


@settings(deadline=None, max_examples=60)
@given(graphs(), st.sampled_from(VARIANTS))
def test_no_two_live_activations_share_a_byte(program: Program, variant: Variant) -> None:
    """Every element is tagged by who wrote it last; each reader must find its operands' own tags, and at the
    end the output's, whatever was overwritten in between. A layer's own output may replace an operand, or lie as far
    below it as its kernel asks for."""
    memory, allowed = plan_memory(program, variant), overlaps_of(program, variant)
    tags = np.zeros(memory.plan.arena_bytes, np.int64)

    def span(name: str) -> slice:
        tensor = next(t for t in program.tensors if t.name == name)
        start = memory.plan.offsets[name]
        assert start % ALIGNMENT == 0
        return slice(start, start + stored_bytes(tensor, memory.storages[name]))

    identity = {t.name: i + 1 for i, t in enumerate(program.tensors)}
    tags[span(program.input.name)] = identity[program.input.name]
    for number, layer in enumerate(program.layers):
        written = span(layer.output.name)
        for operand in layer.inputs:
            read = span(operand.name)
            same = read == written and isinstance(layer, (Lookup, Add, Multiply, Reshape))
            overlap_allowed = allowed[number].get(operand.name)
            apart = read.start - written.start
            over = overlap_allowed is not None and (
                apart == overlap_allowed.distance_bytes
                if overlap_allowed.exact
                else apart >= overlap_allowed.distance_bytes
            )
            assert same or over or read.stop <= written.start or written.stop <= read.start
            assert (tags[span(operand.name)] == identity[operand.name]).all(), (number, operand.name)
        for offset, size in zip(memory.plan.scratch[number], scratch_bytes(program, variant)[number], strict=True):
            busy = [written, *(span(t.name) for t in layer.inputs)]
            assert not any(overlap((offset, size), (s.start, s.stop - s.start)) for s in busy)
            tags[offset : offset + size] = -1
        if isinstance(layer, Reshape):
            identity[layer.output.name] = identity[layer.input.name]
        tags[written] = identity[layer.output.name]
    assert (tags[span(program.output.name)] == identity[program.output.name]).all()


@settings(deadline=None, max_examples=30)
@given(graphs())
def test_another_order_computes_the_same_in_no_more_memory(program: Program) -> None:
    ordered = reorder(program)
    assert plan_memory(ordered, "c").plan.arena_bytes <= plan_memory(program, "c").plan.arena_bytes
    q = vectors.random_inputs(program, 2, np.random.default_rng(0))
    by_name = dict(zip([x.name for x in program.layers], reference.run(program, q), strict=True))
    for layer, got in zip(ordered.layers, reference.run(ordered, q), strict=True):
        np.testing.assert_array_equal(got, by_name[layer.name])


def test_the_better_order_is_found() -> None:
    """Two wide branches made narrow: computed one after the other they never lie in memory together."""
    graph = RandomGraph(np.random.default_rng(1), (8, 8, 1))
    wide = [graph.convolution(graph.input, 16, Window((1, 1))) for _ in range(2)]
    narrow = [graph.average_pool(view, Window((8, 8))) for view in wide]
    program = graph.finish(graph.add(*narrow))
    before = plan_memory(program, "c").plan.arena_bytes
    after = plan_memory(reorder(program), "c").plan.arena_bytes
    assert before >= 2 * 1024 and after <= 1024 + 64 + 32


def test_exact_search_beats_every_simple_order() -> None:
    """Sizes and lives for which each order of placement leaves a gap, but all fit at the floor."""
    made = [Buffer(16, 0, 3), Buffer(32, 2, 5), Buffer(16, 4, 7), Buffer(48, 6, 9), Buffer(32, 0, 1), Buffer(16, 8, 9)]
    arena, _ = place(made)
    assert arena == live_bytes(made)
