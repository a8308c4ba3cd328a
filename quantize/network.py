"""A network as integers with their scales: what calibration yields, and every writer and simulator reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from policyport.quantize.activation import Activation
from policyport.quantize.graph import HostPrefix, count_readers
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedNode


@dataclass(frozen=True)
class QuantizedNetwork:
    """Integer operators in an order in which each finds its inputs ready, and what the host does before them."""

    name: str
    input_name: str
    output_name: str
    prefix: HostPrefix
    input: Activation
    nodes: tuple[QuantizedNode, ...]
    channels_last: bool = False
    """Whether an image observation comes as [height, width, channels]."""

    @property
    def layers(self) -> tuple[QuantizedLayer, ...]:
        """The operators that have weights."""
        return tuple(node for node in self.nodes if isinstance(node, QuantizedLayer))

    @cached_property
    def activations(self) -> Mapping[str, Activation]:
        """Every tensor by name, those before a table too, in the order of their making."""
        found = {self.input_name: self.input}
        for node in self.nodes:
            if isinstance(node, QuantizedLayer):
                found[node.before.name] = node.before
            found[node.name] = node.output
        return found

    @property
    def output(self) -> Activation:
        """The activation of the network's output."""
        return self.activations[self.output_name]

    @cached_property
    def reader_counts(self) -> Mapping[str, int]:
        """How often each tensor is read, the output once more."""
        return count_readers([node.node for node in self.nodes], self.output_name)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights and biases as integers."""
        return sum(-(-layer.weights.size * layer.weight_bits // 8) + 4 * layer.bias.size for layer in self.layers)
