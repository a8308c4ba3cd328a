"""What a network takes of flash, RAM and time, and how much it may take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

from policyport.core.errors import ConfigError
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.network import QuantizedNetwork

INSTRUCTIONS_PER_MAC = {(8, 8): 0.95, (4, 8): 1.05, (3, 8): 1.10, (2, 8): 1.06}
"""By bits of weights and input: fully connected layers of 256 and convolutions on a Cortex-M4 (docs/kernels.md)."""

INSTRUCTIONS_PER_MAC_16 = 1.2
"""The same behind an input of 16 bits, whatever the weights."""


@dataclass(frozen=True)
class Cost:
    """What one operator takes."""

    flash_bytes: int = 0
    """Weights, biases, multipliers and tables."""

    instructions: int = 0
    """Of one inference."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flash_bytes + other.flash_bytes, self.instructions + other.instructions)


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
    """A cost model that knows no compiler: weights as packed rows, a number of instructions for each multiplication."""

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
            most = max(most, sum(sizes[name].size * sizes[name].bits // 8 for name in alive))
            for name in node.node.inputs:
                left[name] -= 1
            alive = {name for name in alive if left.get(name, 0) > 0}
        return most


def _estimate(layer: QuantizedLayer) -> Cost:
    rows, *taps = layer.weights.shape
    packed = rows * -(-prod(taps) * layer.weight_bits // 8)
    places = layer.output.size // rows
    each = INSTRUCTIONS_PER_MAC_16 if layer.input.bits == 16 else INSTRUCTIONS_PER_MAC[layer.weight_bits, 8]
    return Cost(packed + 8 * rows, round(each * layer.weights.size * places))


@dataclass(frozen=True)
class Budget:
    """How much a network may take; None where that is left open."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    instructions: int | None = None

    @classmethod
    def parse(cls, flash: str, ram: str, instructions: str) -> Budget:
        """From text as a user types it: ``16384``, ``16K`` (bytes), ``7K`` (7,000 instructions); empty for none.

        :raises ConfigError: no such number
        """
        return cls(
            _count("flash_budget", flash, 1024),
            _count("ram_budget", ram, 1024),
            _count("instructions_budget", instructions, 1000),
        )

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return self == Budget()


def _count(key: str, text: str, kilo: int) -> int | None:
    """A whole number above zero.

    :param kilo: what K stands for; M is its square
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KM]?)", text.strip(), re.IGNORECASE)
    count = int(float(found[1]) * kilo ** ("", "K", "M").index(found[2].upper())) if found else 0
    if count <= 0:
        raise ConfigError(f"{key} is not a number above zero", where="[quantize]", expected="such as 16K", got=text)
    return count
