"""The order of execution that needs least memory at once."""

from __future__ import annotations

from dataclasses import replace

from policyport.deploy.layers import Reshape
from policyport.deploy.overlay import overlaps
from policyport.deploy.planner import plan_program
from policyport.deploy.program import Program

STATES = 20_000
"""Sets of executed layers that the search looks at, at most."""


def reorder(program: Program) -> Program:
    """The program with its layers in the order of the lowest peak, as far as the arena's plan agrees.

    A chain has one order. Otherwise the sets of layers that can have run are searched, each with the least
    peak on any way to it; what is live after a set depends on the set alone, so this is exact.
    """
    order = _best_order(program)
    if order is None or order == list(range(len(program.layers))):
        return program
    other = replace(program, layers=tuple(program.layers[i] for i in order))
    storages = {tensor.name: "packed" for tensor in program.tensors}
    before, after = (
        plan_program(p, storages, None, [overlaps(layer, "c", "size") for layer in p.layers]).arena_bytes  # type: ignore[arg-type]
        for p in (program, other)
    )
    return other if after < before else program


def _best_order(program: Program) -> list[int] | None:
    """The order of least peak; None where there are too many sets to look at."""
    layers = program.layers
    producer = {layer.output.name: i for i, layer in enumerate(layers)}
    needs = [{producer[t.name] for t in layer.inputs if t.name in producer} for layer in layers]
    reached: dict[frozenset[int], tuple[int, list[int]]] = {frozenset(): (0, [])}
    for _ in layers:
        following: dict[frozenset[int], tuple[int, list[int]]] = {}
        for done, (peak, order) in reached.items():
            for i, layer in enumerate(layers):
                if i in done or not needs[i] <= done:
                    continue
                after = done | {i}
                # A reshaped activation is its operand's bytes.
                new = 0 if isinstance(layer, Reshape) else layer.output.size * layer.output.bits // 8
                reaches = max(peak, _live_bytes(program, done) + new)
                if after not in following or reaches < following[after][0]:
                    following[after] = (reaches, [*order, i])
        if len(following) > STATES:
            return None
        reached = following
    return next(iter(reached.values()))[1]


def _live_bytes(program: Program, done: frozenset[int]) -> int:
    """Bytes of what is computed, or the input, and still to be read."""
    wanted = {program.output.name}
    wanted |= {t.name for i, layer in enumerate(program.layers) if i not in done for t in layer.inputs}
    computed = [program.input, *(program.layers[i].output for i in done)]
    return sum(tensor.size * tensor.bits // 8 for tensor in computed if tensor.name in wanted)
