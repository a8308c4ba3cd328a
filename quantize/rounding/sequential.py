"""Rounds the weights of a float graph layer by layer, each seeing what the rounded layers before it yield.

Weights alone are quantized here, so that solvers can be compared by themselves; activations stay float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from policyport.quantize.graph import FloatGraph, evaluate
from policyport.quantize.nodes import Floats, Node, Weighted
from policyport.quantize.rounding.layer import in_place
from policyport.quantize.rounding.problem import Solution

Rounder = Callable[[Weighted, Floats, Floats], Solution]
"""Rounds one layer, given its input on the observations in the float network and in the rounded one."""


def rounded_graph(graph: FloatGraph, observations: Floats, rounder: Rounder) -> FloatGraph:
    """The graph with every layer's weights on its grid.

    :param observations: [n, *shape], float32, as the environment gives them
    """
    exact = {graph.input_name: graph.enter(observations)}
    rounded = dict(exact)
    nodes: list[Node] = []
    for node in graph.nodes:
        made = node
        if isinstance(node, Weighted):
            source = node.inputs[0]
            made = installed(node, rounder(node, exact[source], rounded[source]))
        exact.update(evaluate(node, *(exact[name] for name in node.inputs)))
        rounded.update(evaluate(made, *(rounded[name] for name in made.inputs)))
        nodes.append(made)
    return replace(graph, nodes=tuple(nodes))


def installed(node: Weighted, found: Solution) -> Weighted:
    """The layer with the rounded weights and their bias, as float32."""
    weights = in_place(node, found.integers * found.scales[..., None])
    return replace(node, weights=weights.astype(np.float32), bias=found.bias.reshape(-1).astype(np.float32))
