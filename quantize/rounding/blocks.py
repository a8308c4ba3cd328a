"""Blocks of a float network: what lies between two tensors through which everything passes.

A residual block is one, from the tensor that its shortcut leaves from to the sum that ends it. Errors inside of a block
can make each other good, so that it is what reconstruction looks at (BRECQ, Li et al. 2021, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import Node, Weighted

LEAST_LAYERS = 1
"""Layers with weights that a block holds at least, but for the last one."""


@dataclass(frozen=True)
class Block:
    """Operators in a row that read one tensor from before and leave one behind."""

    nodes: tuple[Node, ...]
    source: str
    """The tensor that enters."""

    @property
    def target(self) -> str:
        """The tensor that leaves."""
        return self.nodes[-1].name

    @property
    def layers(self) -> tuple[Weighted, ...]:
        """Its operators with weights."""
        return tuple(node for node in self.nodes if isinstance(node, Weighted))


def blocks(graph: FloatGraph, least_layers: int = LEAST_LAYERS) -> tuple[Block, ...]:
    """The graph's operators as blocks, in order; each has weights, unless the graph has none.

    Operators without weights end the block before them. A depthwise convolution takes the next layer into its block,
    which mixes what it keeps apart.

    :param least_layers: layers with weights of a block; short blocks take in what follows
    """
    found: list[tuple[Node, ...]] = []
    for part in _parts(graph):
        layers = [node for block in found[-1:] for node in block if isinstance(node, Weighted)]
        unfinished = len(layers) < least_layers or all(map(_is_depthwise, layers))
        if found and (unfinished or not any(isinstance(node, Weighted) for node in part)):
            found[-1] += part
        else:
            found.append(part)
    sources = (graph.input_name, *(part[-1].name for part in found))
    return tuple(Block(part, source) for part, source in zip(found, sources, strict=False))


def _parts(graph: FloatGraph) -> list[tuple[Node, ...]]:
    """The operators, cut wherever one tensor alone is read later on."""
    found: list[tuple[Node, ...]] = []
    begin = 0
    for end in range(1, len(graph.nodes) + 1):
        later = {name for node in graph.nodes[end:] for name in node.inputs} | {graph.output_name}
        made = {graph.input_name, *(node.name for node in graph.nodes[:end])}
        if later & made == {graph.nodes[end - 1].name}:
            found.append(graph.nodes[begin:end])
            begin = end
    return found


def _is_depthwise(node: Weighted) -> bool:
    """Whether every group sees one channel."""
    return node.group_count > 1 and node.weights.shape[1] == 1
