"""Static memory planning: where each activation and each layer's scratch lies in the arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from policyport.deploy.layers import Add, Layer, Lookup, Multiply, Reshape, Tensor
from policyport.deploy.placement import Buffer, Overlap, Overlays, live_at, place
from policyport.deploy.program import Program

Storage = Literal["packed", "halfwords"]
"""How an activation lies in memory: ``packed`` at its own width; ``halfwords`` as int16, padded to a
multiple of four elements, as the DSP kernels read and write vectors."""


@dataclass(frozen=True)
class Plan:
    """Offsets into the arena, in bytes."""

    arena_bytes: int
    offsets: Mapping[str, int]
    """Of each activation, by its name."""

    scratch: tuple[tuple[int, ...], ...]
    """Of each layer's scratch buffers."""


def stored_bytes(tensor: Tensor, storage: Storage) -> int:
    """What an activation takes in memory."""
    return 2 * (-(-tensor.size // 4) * 4) if storage == "halfwords" else tensor.size * tensor.bits // 8


def plan_program(
    program: Program,
    storages: Mapping[str, Storage],
    scratch_bytes: Sequence[Sequence[int]] | None = None,
    overlaps: Sequence[Mapping[str, Overlap]] | None = None,
) -> Plan:
    """Where everything lies. Step 0 loads the input, step ``i`` runs layer ``i``, counted from 1.

    :param storages: of every activation, by its name
    :param scratch_bytes: per layer the sizes of the buffers that it needs while it runs
    :param overlaps: per layer the operands, by name, over which its output may lie
    """
    layout = _Layout(program, storages, scratch_bytes, overlaps)
    arena_bytes, placed = place(layout.buffers, layout.overlays)
    at = dict(zip(layout.names, placed, strict=False))
    rest = iter(placed[len(layout.names) :])
    return Plan(
        arena_bytes,
        {name: at[owner] for name, owner in layout.owners.items()},
        tuple(tuple(next(rest) for _ in sizes) for sizes in layout.scratch_bytes),
    )


def live_by_step(
    program: Program,
    storages: Mapping[str, Storage],
    scratch_bytes: Sequence[Sequence[int]],
    overlaps: Sequence[Mapping[str, Overlap]],
) -> tuple[int, ...]:
    """Bytes that each step needs, the most first: no plan of :func:`plan_program` goes below them. They are found at
    once, where a plan takes a search.
    """
    layout = _Layout(program, storages, scratch_bytes, overlaps)
    steps = range(len(program.layers) + 1)
    return tuple(sorted((live_at(layout.buffers, layout.overlays, step) for step in steps), reverse=True))


class _Layout:
    """The buffers of a program, those of activations first, and which may lie over which."""

    def __init__(
        self,
        program: Program,
        storages: Mapping[str, Storage],
        scratch_bytes: Sequence[Sequence[int]] | None,
        overlaps: Sequence[Mapping[str, Overlap]] | None,
    ) -> None:
        self.scratch_bytes = scratch_bytes or [()] * len(program.layers)
        self.owners = _owners(program, storages)
        lives = lives_of(program)
        self.names = sorted(set(self.owners.values()), key=lambda name: lives[name][0])
        self.buffers = []
        for owner in self.names:
            group = [tensor for tensor in program.tensors if self.owners[tensor.name] == owner]
            size = max(stored_bytes(tensor, storages[tensor.name]) for tensor in group)
            self.buffers.append(Buffer(size, lives[owner][0], max(lives[tensor.name][1] for tensor in group)))
        self.overlays = _overlays(
            program, self.owners, self.names, self.buffers, overlaps or [{}] * len(program.layers)
        )
        self.buffers += [Buffer(size, i + 1, i + 1) for i, sizes in enumerate(self.scratch_bytes) for size in sizes]


def _overlays(
    program: Program,
    owners: Mapping[str, str],
    names: Sequence[str],
    buffers: Sequence[Buffer],
    overlaps: Sequence[Mapping[str, Overlap]],
) -> Overlays:
    """Of buffers that a layer writes first, over those that it is the last to read."""
    found = {}
    for step, (layer, allowed) in enumerate(zip(program.layers, overlaps, strict=True), start=1):
        if owners[layer.output.name] != layer.output.name:
            continue
        for operand, overlap in allowed.items():
            upper = names.index(owners[operand])
            if buffers[upper].last == step:
                found[names.index(layer.output.name), upper] = overlap
    return found


def lives_of(program: Program) -> dict[str, tuple[int, int]]:
    """First and last step that needs each activation."""
    lives = {tensor.name: (step, step) for step, tensor in enumerate(program.tensors)}
    for step, layer in enumerate(program.layers, start=1):
        for tensor in layer.inputs:
            lives[tensor.name] = (lives[tensor.name][0], step)
    lives[program.output.name] = (lives[program.output.name][0], len(program.layers))
    return lives


def _owners(program: Program, storages: Mapping[str, Storage]) -> dict[str, str]:
    """The activation in whose buffer each one lies: its own, or an operand's that it overwrites or renames."""
    lives = lives_of(program)
    owners = {program.input.name: program.input.name}
    for step, layer in enumerate(program.layers, start=1):
        target = layer.output
        owners[target.name] = target.name
        for operand in _overwritable(layer):
            last = max(lives[name][1] for name, owner in owners.items() if owner == owners[operand.name])
            fits = stored_bytes(operand, storages[operand.name]) == stored_bytes(target, storages[target.name])
            if fits and (last == step or isinstance(layer, Reshape)):
                owners[target.name] = owners[operand.name]
                break
    return owners


def _overwritable(layer: Layer) -> Sequence[Tensor]:
    """Operands that the layer reads element by element, each before it writes that element."""
    if isinstance(layer, (Lookup, Reshape)):
        return layer.inputs
    if isinstance(layer, (Add, Multiply)):
        return [tensor for tensor in layer.inputs if tensor.size == layer.output.size]
    return ()
