"""Which activation every tensor of a network gets: width, scale and zero point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce

from policyport.core.semantics import activation_stored_bits
from policyport.quantize.activation import FIXED_SCALE, Activation, fixed_output
from policyport.quantize.calibrate import Range, Statistics, activation_for, before_function, observed_range
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import (
    Concat,
    MaxPool,
    Node,
    Pad,
    Pointwise,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Sum,
    Weighted,
)


@dataclass(frozen=True)
class Ties:
    """Which tensors of a graph must hold the same integers, and which of them have a scale given at 8 and 16 bits."""

    graph: FloatGraph

    def root(self, tensor: str) -> str:
        """The tensor whose integers this one only moves; itself where it is computed."""
        node = self.graph.producer(tensor)
        return self.root(node.inputs[0]) if node is not None and _moves(node) else tensor

    def is_given(self, root: str) -> bool:
        """Whether a root's scale is given at 8 and 16 bits: the network's input, or behind tanh, sigmoid or softmax."""
        node = self.graph.producer(root)
        if isinstance(node, (Weighted, Pointwise)):
            return (node.function.name, 8) in FIXED_SCALE
        return node is None or isinstance(node, Softmax)

    def joins_input(self, node: Concat) -> bool:
        """Whether all that is laid together are the network's own input's integers."""
        return all(self.root(name) == self.graph.input_name for name in node.inputs)

    @cached_property
    def group(self) -> Mapping[str, tuple[str, ...]]:
        """For each root those that share its scale: what is laid side by side, unless a scale is given."""
        groups: dict[str, tuple[str, ...]] = {root: (root,) for root in map(self.root, self.graph.shapes)}
        for node in self.graph.nodes:
            if isinstance(node, Concat):
                free = [name for name in map(self.root, (node.name, *node.inputs)) if not self.is_given(name)]
                joined = tuple(dict.fromkeys(member for name in free for member in groups[name]))
                groups.update((member, joined) for member in joined)
        return groups

    def widths(self, bits: int, chosen: Mapping[str, int]) -> Mapping[str, int]:
        """Width of each root: that chosen for a tensor, the least of those that must be equal, else ``bits``.

        What shares a scale shares a width. The ends of a table are stored alike: where one has 8 bits or fewer, another
        of 16 gets 8. Softmax reads 8 bits at the most, and yields 8.

        :param bits: of what nobody chose
        :param chosen: by tensor
        """
        said = {self.root(name): width for name, width in chosen.items()}
        tables: list[tuple[str, ...]] = []
        for node in self.graph.nodes:
            ends = tuple(self.root(name) for name in (*node.inputs, node.name))
            if isinstance(node, Softmax):
                said |= {ends[0]: min(8, said.get(ends[0], 8)), ends[-1]: 8}
            if isinstance(node, Pointwise) and node.function.has_table:
                tables.append(ends)
        found: dict[str, int] = {}
        for names in self.group.values():
            found.update(dict.fromkeys(names, min((said[name] for name in names if name in said), default=bits)))
        while unlike := [ends for ends in tables if len({activation_stored_bits(found[end]) for end in ends}) > 1]:
            narrowed = {name for ends in unlike for end in ends for name in self.group[end]}
            found.update((name, min(8, found[name])) for name in narrowed)
        return found


def _moves(node: Node) -> bool:
    """Whether a node yields its input's integers in other places, or clamps them."""
    if isinstance(node, Pointwise):
        return node.function.clamps
    return isinstance(node, (MaxPool, Pad, Reshape, Resize, Slice))


def assign(
    graph: FloatGraph,
    entry: Activation,
    statistics: Mapping[str, Statistics],
    config: QuantizeConfig,
    widths: Mapping[str, int],
) -> dict[str, Activation]:
    """The activation of every tensor, by name; those before a table too.

    :param entry: of the network's input
    :param statistics: of every tensor, on the calibration observations
    :param widths: of :meth:`Ties.widths`
    """
    ties = Ties(graph)
    carried = ties.group[ties.root(graph.output_name)] if graph.state_size else ()
    found = {graph.input_name: entry}
    for node in graph.nodes:
        shape = graph.shapes[node.name]
        if _moves(node):
            found[node.name] = found[node.inputs[0]].renamed(node.name, shape)
        elif isinstance(node, Concat) and ties.joins_input(node):
            found[node.name] = entry.renamed(node.name, shape)
        elif ties.is_given(node.name) and widths[node.name] in (8, 16):
            function = "Softmax" if isinstance(node, Softmax) else node.function.name  # type: ignore[attr-defined]
            found[node.name] = fixed_output(node.name, shape, function, widths[node.name])
        elif node.name in carried:  # the state leaves as the integers that it enters as
            found[node.name] = entry.renamed(node.name, shape)
        else:
            bits = widths[node.name]
            reaches = [_reach(statistics[member], config, bits) for member in ties.group[node.name]]
            reach = reduce(Range.joined, reaches)
            found[node.name] = activation_for(node.name, shape, reach, bits, symmetric=config.symmetric)
        if isinstance(node, (Weighted, Sum, Pointwise)):
            found[node.name] = found[node.name].clamped(node.function)
        if isinstance(node, Weighted) and node.function.has_table:
            stored = activation_stored_bits(widths[node.name])  # a table has an entry for each of them anyway
            found[node.linear_name] = _before(node, shape, statistics[node.linear_name], config, stored)
    return found


def _reach(statistics: Statistics, config: QuantizeConfig, bits: int) -> Range:
    return observed_range(statistics, config, bits).scaled(config.headroom if bits == 16 else 1.0)


def _before(
    node: Weighted, shape: tuple[int, ...], statistics: Statistics, config: QuantizeConfig, bits: int
) -> Activation:
    return before_function(
        node.linear_name,
        shape,
        node.function.name,
        statistics.sample,
        _reach(statistics, config, bits),
        bits,
        symmetric=config.symmetric,
    )
