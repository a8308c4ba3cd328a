"""Where the generated code keeps activations, and how: the plan of the arena as C expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from policyport.deploy import layout_mve
from policyport.deploy.choice import choose_convolution
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Layer, Lookup, Tensor
from policyport.deploy.layout_mve import vector_layout
from policyport.deploy.planner import Plan, Storage, plan_program, stored_bytes
from policyport.deploy.program import Program

Variant = Literal["c", "dsp", "mve"]
VARIANTS: tuple[Variant, ...] = ("c", "dsp", "mve")


@dataclass(frozen=True)
class Memory:
    """The arena of a generated file."""

    plan: Plan
    storages: Mapping[str, Storage]

    def halfwords(self, tensor: Tensor) -> bool:
        """Whether an activation lies as int16, padded, whatever its width."""
        return self.storages[tensor.name] == "halfwords"

    def at(self, tensor: Tensor) -> str:
        """The C expression of an activation's place."""
        bits = 16 if self.halfwords(tensor) else tensor.bits
        return f"pp_arena.s{bits} + {self.plan.offsets[tensor.name] * 8 // bits}"

    def scratch(self, number: int, index: int) -> str:
        """The C expression of a layer's scratch, as int16.

        :param number: the layer's, counted from 1
        """
        return f"pp_arena.s16 + {self.plan.scratch[number - 1][index] // 2}"

    def scratch_bytes(self, number: int, index: int) -> str:
        """The same as int8."""
        return f"pp_arena.s8 + {self.plan.scratch[number - 1][index]}"

    def scratch_words(self, number: int, index: int) -> str:
        """The same as words."""
        return f"pp_arena.words + {self.plan.scratch[number - 1][index] // 4}"


def plan_memory(program: Program, variant: Variant, optimize: str = "size") -> Memory:
    """Chooses how each activation lies, and plans the arena.

    :param optimize: what :func:`policyport.deploy.choice.choose_convolution` takes
    """
    storages = storages_of(program, variant)
    return Memory(plan_program(program, storages, scratch_bytes(program, variant, optimize)), storages)


def scratch_bytes(program: Program, variant: Variant, optimize: str = "size") -> list[list[int]]:
    """Per layer the sizes of its scratch buffers: in variant ``dsp`` fully connected layers widen and narrow there, and
    convolutions keep what their kernels need; in variant ``mve`` windows are gathered there.
    """
    if variant == "c":
        return [[] for _ in program.layers]
    storages = storages_of(program, variant)
    return [
        _vector_scratch(layer) if variant == "mve" and _vectors(layer) else _scratch_bytes(layer, storages, optimize)
        for layer in program.layers
    ]


def _vectors(layer: Layer) -> bool:
    return isinstance(layer, Affine) and vector_layout(layer) is not None


def _vector_scratch(layer: Layer) -> list[int]:
    layout = vector_layout(layer) if isinstance(layer, Affine) else None
    assert isinstance(layer, Affine) and layout is not None
    size = layout_mve.scratch_bytes(layer, layout)
    return [size] if size else []


def _scratch_bytes(layer: Layer, storages: Mapping[str, Storage], optimize: str) -> list[int]:
    if isinstance(layer, FullyConnected):
        return [stored_bytes(t, "halfwords") for t in (layer.input, layer.output) if storages[t.name] == "packed"]
    choice = choose_convolution(layer, optimize) if isinstance(layer, Conv2d) else None
    return [choice.scratch_bytes] if choice else []


def storages_of(program: Program, variant: Variant) -> dict[str, Storage]:
    """How each activation lies, by name.

    In variant ``dsp`` vectors of 16 bits, and those that only fully connected layers and lookups touch,
    are ``halfwords``; everything else is ``packed``. In variant ``mve`` only those of 16 bits are ``halfwords``.
    """
    packed = {tensor.name for tensor in program.tensors if variant == "c" or (variant == "mve" and tensor.bits == 8)}
    for layer in program.layers:
        if not isinstance(layer, (FullyConnected, Lookup)):
            packed |= {t.name for t in (*layer.inputs, layer.output) if t.bits == 8}
    lookups = [{layer.input.name, layer.output.name} for layer in program.layers if isinstance(layer, Lookup)]
    for _ in lookups:
        for pair in lookups:
            packed |= pair if pair & packed else set()
    return {t.name: "packed" if t.name in packed else "halfwords" for t in program.tensors}
