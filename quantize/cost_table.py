"""What each choice of a width costs, taken apart from what a cost model says of whole networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from policyport.quantize.config import QuantizeConfig
from policyport.quantize.cost import Cost, CostModel
from policyport.quantize.graph import FloatGraph
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.sensitivity import Candidates, Widths

OBSERVATIONS = 64
"""Ranges from so few observations do to say what a network costs."""


@dataclass(frozen=True)
class CostTable:
    """Costs by choice: a layer's by its weights and input, and what a group's width adds where it is written."""

    graph: FloatGraph
    observations: Floats
    """[n, *shape], float32: the first :data:`OBSERVATIONS` are used."""

    config: QuantizeConfig
    choices: Candidates
    model: CostModel

    @cached_property
    def reads(self) -> Mapping[str, str]:
        """Layer to the group that it reads."""
        return {node.name: self.choices.groups[node.inputs[0]] for node in self.graph.weighted}

    def ram_bytes(self, activations: Widths) -> int:
        """Of all activations, for a width of each group."""
        return self.model.ram_bytes(self._network(self.choices.widest_weights, activations))

    @cached_property
    def layers(self) -> Mapping[tuple[str, int, int], Cost]:
        """By layer, bits of its weights and bits of its input; its output in a group of 8 bits, if that may be."""
        found: dict[tuple[str, int, int], Cost] = {}
        for bits in sorted({bits for widths in self.choices.weights.values() for bits in widths}):
            weights = {name: bits if bits in widths else max(widths) for name, widths in self.choices.weights.items()}
            for read in (8, 16):
                costs = self.model.operators(self._network(weights, self._uniform(read)))
                for name in weights:
                    written = self._written.get(name, Cost()) if read == 16 else Cost()
                    found[name, weights[name], read] = costs[name] - written
        return found

    @cached_property
    def groups(self) -> Mapping[str, Cost]:
        """What 16 bits of a group add to the operators that have no weights, and to the layers that write it."""
        return {name: sum(costs.values(), Cost()) for name, costs in self._added.items()}

    @cached_property
    def others(self) -> Cost:
        """Of the operators without weights, their activations as narrow as may be."""
        return sum((cost for name, cost in self._narrow.items() if name not in self.reads), Cost())

    @cached_property
    def _written(self) -> Mapping[str, Cost]:
        """What 16 bits of its output add to each layer."""
        return {name: cost for costs in self._added.values() for name, cost in costs.items() if name in self.reads}

    @cached_property
    def _added(self) -> Mapping[str, Mapping[str, Cost]]:
        """Group to what 16 bits of it alone add to each operator, but for the layers that read it."""
        found = {}
        for group, widths in self.choices.activations.items():
            wide = self._uniform(8) | {group: 16}
            costs = self.model.operators(self._network(self.choices.widest_weights, wide)) if len(widths) > 1 else {}
            kept = {name: cost - self._narrow[name] for name, cost in costs.items() if self.reads.get(name) != group}
            found[group] = {name: cost for name, cost in kept.items() if cost != Cost()}
        return found

    @cached_property
    def _narrow(self) -> Mapping[str, Cost]:
        return self.model.operators(self._network(self.choices.widest_weights, self._uniform(8)))

    def _uniform(self, bits: int) -> dict[str, int]:
        """That width for every group that may have it."""
        return {name: bits if bits in widths else max(widths) for name, widths in self.choices.activations.items()}

    def _network(self, weights: Widths, activations: Widths) -> QuantizedNetwork:
        """Quickly quantized: only its shapes, widths and ranges matter."""
        config = self.choices.configured(self.config, weights, activations)
        return quantize_graph(self.graph, self.observations[:OBSERVATIONS], config, 16)
