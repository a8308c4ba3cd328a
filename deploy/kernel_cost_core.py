"""How many instructions each layer of a program takes on a core, by the kernels that are chosen for it there.

What :mod:`policyport.deploy.kernel_cost` and its neighbours count of the kernels is completed here: Cortex-M0, plain C,
tables, and the copies of input and output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policyport.core.errors import ConfigError
from policyport.deploy.board import Board
from policyport.deploy.candidates import ROWS, candidates
from policyport.deploy.codegen_memory import storages_of
from policyport.deploy.fusing import extra_instructions
from policyport.deploy.kernel_cost import plain_instructions
from policyport.deploy.kernel_cost_points import CALL, Kernels, point_instructions, table_instructions
from policyport.deploy.kernel_cost_rows import WIDEN
from policyport.deploy.layers import Affine, Conv2d, FullyConnected, Layer, Strips, Tensor
from policyport.deploy.planner import Storage
from policyport.deploy.program import Program
from policyport.deploy.variant import AARCH64_VARIANTS, Variant

ARMV6M = {
    f"{ROWS} bytes": 1.65,
    f"{ROWS} nibbles": 2.05,
    f"{ROWS} crumbs": 2.15,
    f"{ROWS} depthwise": 2.9,
    "taps": 2.2,
    "channels": 2.2,
}
"""How many times a Cortex-M3's instructions kernels take on a Cortex-M0: it has 16-bit encodings alone."""

Plain = tuple[float, float, float]
"""Instructions of an output, of a tap, and of a product; of fully connected layers no taps."""

PLAIN_DENSE: dict[str, dict[tuple[bool, bool], Plain]] = {
    "armv6m": {
        (False, False): (82, 0, 7.1),
        (False, True): (94, 0, 10.0),
        (True, False): (98, 0, 23.3),
        (True, True): (117, 0, 26.5),
    },
    "thumb": {
        (False, False): (44, 0, 4.8),
        (False, True): (34, 0, 5.0),
        (True, False): (55, 0, 14.8),
        (True, True): (42, 0, 15.0),
    },
}
"""Plain C by whether weights have fewer than 8 bits, and whether inputs have 16, fitted to emulated runs."""

PLAIN_CONVOLUTION: dict[str, dict[tuple[bool, bool], Plain]] = {
    "armv6m": {(True, False): (200, 78, 20.7), (True, True): (225, 71, 26.4)},
    "thumb": {(True, False): (102, 48, 15.0), (True, True): (103, 48, 15.8)},
}

TABLE_IN_KERNEL = {8: 1.25, 16: 6.5}
"""Instructions of a table that the kernels of fully connected layers look up themselves, by its width."""

NARROW = 4.0
"""Instructions of an output, which the formula of fully connected layers has in it as it has :data:`WIDEN` of an input:
here these count where they are spent, at the network's ends, or where a layer's neighbours hold bytes."""

LEAST_COPIED = 64
"""Bytes of an input or output that are copied by words."""

COPIED_BYTE: dict[Kernels, float] = {
    "armv6m": 0.75,
    "thumb": 0.75,
    "dsp": 0.75,
    "mve": 0.75,
    "neon": 0.2,
    "neon_dot": 0.2,
}
"""Instructions of a byte of a large input or output."""

COPIED_ELEMENT, WIDENED_ELEMENT = 5.0, 2.0
"""Instructions of an element of a small one, and of one that lies as int16 in the arena."""


@dataclass(frozen=True)
class Core:
    """What the kernels of a board's core take."""

    variant: Variant
    kernels: Kernels
    optimize: str
    """``size`` or ``speed``"""

    @classmethod
    def of(cls, board: Board, optimize: str) -> Core:
        """That of a board, with its fastest kernels.

        :raises ConfigError: a core whose kernels are plain C alone
        """
        variant = board.variant
        if variant == "c":
            known = ", ".join(("Cortex-M", *AARCH64_VARIANTS))
            raise ConfigError(
                "what kernels take on this core is not known", where=board.name, expected=known, got=board.core
            )
        small = variant == "thumb" and board.core.startswith("cortex-m0")
        return cls(variant, "armv6m" if small else variant, optimize)

    def layer_instructions(self, program: Program) -> tuple[int, ...]:
        """Of each layer of a program."""
        storages = storages_of(program, self.variant)
        return tuple(self._instructions(layer, storages) for layer in program.layers)

    def end_instructions(self, program: Program) -> int:
        """Of taking the input and giving the output."""
        storages = storages_of(program, self.variant)
        return round(CALL + sum(self._copied(tensor, storages) for tensor in (program.input, program.output)))

    def _copied(self, tensor: Tensor, storages: Mapping[str, Storage]) -> float:
        size = tensor.size * tensor.bits // 8
        if size < LEAST_COPIED:
            return COPIED_ELEMENT * tensor.size
        if tensor.bits == 8 and storages[tensor.name] == "halfwords":
            return WIDENED_ELEMENT * tensor.size
        return COPIED_BYTE[self.kernels] * size

    def _instructions(self, layer: Layer, storages: Mapping[str, Storage]) -> int:
        if isinstance(layer, Strips):
            inside: dict[str, Storage] = {
                tensor.name: "packed" for part in layer.layers for tensor in (*part.inputs, part.output)
            }
            parts = sum(self._instructions(part, {**inside, **storages}) for part in layer.layers)
            return parts + extra_instructions(layer)
        if not isinstance(layer, Affine):
            return point_instructions(layer, self.kernels)
        chosen = next(found for found in candidates(layer, self.optimize, self.variant) if found.chosen)
        if chosen.instructions is None:
            taken = self._plain(layer)
        else:
            taken = chosen.instructions * (ARMV6M.get(chosen.name, 1.0) if self.kernels == "armv6m" else 1.0)
        by_blocks = isinstance(layer, FullyConnected) and self._by_blocks(chosen.name)
        if by_blocks:
            taken -= WIDEN * layer.input.size + NARROW * layer.output.size
            packed = (tensor for tensor in (layer.input, layer.output) if storages[tensor.name] == "packed")
            taken += WIDENED_ELEMENT * sum(tensor.size for tensor in packed)
        return round(taken + self._table(layer, by_blocks))

    def _by_blocks(self, kernel: str) -> bool:
        """Whether a fully connected layer takes the kernels that read and write int16."""
        return self.kernels in ("dsp", "mve") and not kernel.startswith(ROWS)

    def _table(self, layer: Affine, by_blocks: bool) -> float:
        if layer.table is None:
            return 0.0
        if by_blocks:
            return TABLE_IN_KERNEL[layer.output.bits] * layer.output.size
        return table_instructions(layer.output.size, layer.output.bits, self.kernels)

    def _plain(self, layer: Affine) -> float:
        case, outputs = (layer.weight_bits < 8, layer.input.bits == 16), layer.output.size
        if not isinstance(layer, Conv2d):
            output, _, product = PLAIN_DENSE[self.kernels][case]
            return outputs * (output + product * layer.input.size)
        found = PLAIN_CONVOLUTION.get(self.kernels, {}).get(case)
        if found is None:
            return plain_instructions(layer)
        output, tap, product = found
        taps, depth = layer.window.kernel[0] * layer.window.kernel[1], layer.weights.shape[3]
        return outputs * (output + taps * (tap + product * depth))
