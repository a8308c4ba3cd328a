"""What a network takes of flash, RAM and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

from policyport.core.semantics import TABLE8_SIZE, TABLE16_SIZE
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.network import QuantizedNetwork

PER_MAC = {(8, 8): 0.89, (4, 8): 1.02, (3, 8): 1.03, (2, 8): 1.03}
"""Instructions by bits of weights and input: fully connected layers on a Cortex-M4 (docs/kernels.md)."""

PER_MAC_16 = 1.14
"""The same behind an input of 16 bits, whatever the weights."""

TABLE_BYTES = {8: TABLE8_SIZE, 16: 2 * TABLE16_SIZE}
"""Of a function's table, by the width of its result; layers with the same one share it, which is not counted on."""

PER_OUTPUT, PER_TABLE = 5.5, {8: 1.25, 16: 6.5}
"""Instructions of a requantization, and by width of looking its result up in a table."""


@dataclass(frozen=True)
class Cost:
    """What one operator takes."""

    flash_bytes: int = 0
    """Weights, biases, multipliers and tables."""

    instructions: int = 0
    """Of one inference."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flash_bytes + other.flash_bytes, self.instructions + other.instructions)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.flash_bytes - other.flash_bytes, self.instructions - other.instructions)


class CostModel(Protocol):
    """Says what a quantized network will take."""

    version: str
    """Changes when its answers may; part of the key of an artifact that was chosen by it."""

    def operators(self, network: QuantizedNetwork) -> Mapping[str, Cost]:
        """Of each operator, by the name of its output."""
        ...

    def ram_bytes(self, network: QuantizedNetwork) -> int:
        """Of all activations, those that are not alive together sharing their place."""
        ...


class Estimate:
    """A cost model that knows no compiler: packed rows, and so many instructions for each multiplication and output."""

    version = "estimate 1"

    def operators(self, network: QuantizedNetwork) -> Mapping[str, Cost]:
        """Layers alone; what has no weights counts nothing."""
        return {layer.name: _estimate(layer) for layer in network.layers}

    def ram_bytes(self, network: QuantizedNetwork) -> int:
        """The most that is alive at once, while an operator reads its inputs and writes its output."""
        left, sizes = dict(network.reader_counts), network.activations
        alive = {network.input_name}
        most = 0
        for node in network.nodes:
            alive.add(node.name)
            most = max(most, sum(sizes[name].size * sizes[name].stored_bits // 8 for name in alive))
            for name in node.node.inputs:
                left[name] -= 1
            alive = {name for name in alive if left.get(name, 0) > 0}
        return most


def _estimate(layer: QuantizedLayer) -> Cost:
    rows, *taps = layer.weights.shape
    stored_bits = 8 if layer.input.bits == 16 else layer.weight_bits  # behind 16 bits the kernels take whole bytes
    packed = rows * -(-prod(taps) * stored_bits // 8)
    table = TABLE_BYTES[layer.output.stored_bits] if layer.has_table else 0
    places = layer.output.size // rows
    each = PER_MAC_16 if layer.input.bits == 16 else PER_MAC[layer.weight_bits, 8]
    end = PER_OUTPUT + (PER_TABLE[layer.output.stored_bits] if layer.has_table else 0)
    return Cost(packed + 8 * rows + table, round(each * layer.weights.size * places + end * layer.output.size))
