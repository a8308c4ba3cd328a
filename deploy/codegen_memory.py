"""Where the generated code keeps activations, and how: the plan of the arena as C expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policyport.deploy import layout_rows
from policyport.deploy.choice import variant_choice
from policyport.deploy.choice_neon import neon_scratch_bytes
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Layer, Lookup, Strips, Tensor
from policyport.deploy.layout_rows import rows_layout
from policyport.deploy.overlay import overlaps
from policyport.deploy.placement import Overlap
from policyport.deploy.planner import Plan, Storage, plan_program, stored_bytes
from policyport.deploy.program import Program
from policyport.deploy.strips import Call, part_of, row_bytes, schedule, sums_bytes
from policyport.deploy.variant import VARIANTS as VARIANTS
from policyport.deploy.variant import Variant as Variant


@dataclass(frozen=True)
class Memory:
    """The arena of a generated file."""

    plan: Plan
    storages: Mapping[str, Storage]

    def halfwords(self, tensor: Tensor) -> bool:
        """Whether an activation lies as int16, padded, whatever its width."""
        return self.storages[tensor.name] == "halfwords"

    def bytes_of(self, tensor: Tensor) -> range:
        """The bytes of the arena in which an activation lies."""
        begin = self.plan.offsets[tensor.name]
        return range(begin, begin + stored_bytes(tensor, self.storages[tensor.name]))

    def at(self, tensor: Tensor) -> str:
        """The C expression of an activation's place."""
        bits = 16 if self.halfwords(tensor) else tensor.bits
        return f"pp_arena.s{bits} + {self.plan.offsets[tensor.name] * 8 // bits}"

    def scratch(self, number: int, index: int) -> str:
        """The C expression of a layer's scratch, as int16.

        :param number: the layer's, counted from 1
        """
        return f"pp_arena.s16 + {self.plan.scratch[number - 1][index] // 2}"

    def scratch_bytes(self, number: int, index: int, signed: bool = True) -> str:
        """The same as int8, or as uint8."""
        return f"pp_arena.{'s8' if signed else 'u8'} + {self.plan.scratch[number - 1][index]}"

    def scratch_words(self, number: int, index: int) -> str:
        """The same as words."""
        return f"pp_arena.words + {self.plan.scratch[number - 1][index] // 4}"


def plan_memory(program: Program, variant: Variant, optimize: str = "size") -> Memory:
    """Chooses how each activation lies, and plans the arena.

    :param optimize: what :func:`policyport.deploy.choice.choose_convolution` takes
    """
    storages = storages_of(program, variant)
    scratch = scratch_bytes(program, variant, optimize)
    return Memory(plan_program(program, storages, scratch, overlaps_of(program, variant, optimize)), storages)


def overlaps_of(program: Program, variant: Variant, optimize: str = "size") -> list[dict[str, Overlap]]:
    """Per layer the operands over which its output may lie, and how."""
    return [overlaps(layer, variant, optimize) for layer in program.layers]


def scratch_bytes(program: Program, variant: Variant, optimize: str = "size") -> list[list[int]]:
    """Per layer the sizes of its scratch buffers: in variant ``dsp`` fully connected layers widen and narrow there, and
    convolutions keep what their kernels need; in the other variants inputs are copied there.
    """
    storages = storages_of(program, variant)
    return [_scratch_bytes(layer, storages, variant, optimize) for layer in program.layers]


def _scratch_bytes(layer: Layer, storages: Mapping[str, Storage], variant: Variant, optimize: str) -> list[int]:
    if isinstance(layer, Strips):
        return _strip_bytes(layer, storages, variant, optimize)
    if variant == "c":
        return []
    if variant == "neon" or variant == "neon_dot":
        size = neon_scratch_bytes(layer, variant, optimize) if isinstance(layer, Affine) else 0
        return [size] if size else []
    if isinstance(layer, Affine) and (variant == "mve" or variant == "thumb"):
        layout = rows_layout(layer, variant, optimize)
        if layout is not None:
            size = layout_rows.scratch_bytes(layer, variant, layout)
            return [size] if size else []
    if isinstance(layer, FullyConnected) and variant != "thumb":
        return [stored_bytes(t, "halfwords") for t in (layer.input, layer.output) if storages[t.name] == "packed"]
    choice = variant_choice(layer, variant, optimize) if isinstance(layer, Conv2d) else None
    return [choice.scratch_bytes] if choice else []


def _strip_bytes(layer: Strips, storages: Mapping[str, Storage], variant: Variant, optimize: str) -> list[int]:
    """The buffer behind each part but the last, the sums of a mean, then the largest scratch of all parts."""
    found = schedule(layer)
    sizes = [rows * row_bytes(part.output) for rows, part in zip(found.buffer_rows, layer.layers, strict=False)]
    sums = sums_bytes(layer)
    calls = {(action.part, action.shape) for step in found.steps for action in step if isinstance(action, Call)}
    parts = [part_of(layer.layers[k], shape) for k, shape in calls if not (sums and k == len(sizes))]
    scratch = max((sum(_scratch_bytes(part, storages, variant, optimize)) for part in parts), default=0)
    return [*sizes, *([sums] if sums else ()), *([scratch] if scratch else ())]


def storages_of(program: Program, variant: Variant) -> dict[str, Storage]:
    """How each activation lies, by name.

    In variant ``dsp`` vectors of 16 bits, and those that only fully connected layers and lookups touch,
    are ``halfwords``; everything else is ``packed``. In variant ``mve`` only those of 16 bits are ``halfwords``,
    in the others none.
    """
    packed = {tensor.name for tensor in program.tensors if _packs(tensor, variant)}
    for layer in program.layers:
        if not isinstance(layer, (FullyConnected, Lookup)):
            packed |= {t.name for t in (*layer.inputs, layer.output) if t.bits == 8}
    lookups = [{layer.input.name, layer.output.name} for layer in program.layers if isinstance(layer, Lookup)]
    for _ in lookups:
        for pair in lookups:
            packed |= pair if pair & packed else set()
    return {t.name: "packed" if t.name in packed else "halfwords" for t in program.tensors}


def _packs(tensor: Tensor, variant: Variant) -> bool:
    return variant not in ("dsp", "mve") or (variant == "mve" and tensor.bits == 8)
