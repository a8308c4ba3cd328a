"""What a block is reconstructed in: an integer network, or a float one whose weights alone are on grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from policyport.core.semantics import Integers, Reals
from policyport.quantize import quantizers
from policyport.quantize.activation import Activation
from policyport.quantize.graph import FloatGraph, evaluate
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedMove, QuantizedNode
from policyport.quantize.layer_data import LayerData, Rounding
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats, Node, Weighted
from policyport.quantize.ptq import corrected
from policyport.quantize.rounding.blocks import Block
from policyport.quantize.rounding.layer import in_place
from policyport.quantize.rounding.problem import Solution
from policyport.quantize.rounding.sequential import Rounder
from policyport.quantize.simulate import quantize_input, run_node


@dataclass(frozen=True)
class Grid:
    """A layer's weights as integers with their scales, and its bias."""

    integers: Integers
    """[outputs, taps...]"""

    scale: NDArray[np.float32]
    """[outputs], positive."""

    bits: int
    bias: Reals
    """[outputs], real."""

    @property
    def weights(self) -> Reals:
        """[outputs, taps...], real."""
        return self.integers * self.scale.astype(np.float64).reshape(-1, *[1] * (self.integers.ndim - 1))


Grids = Mapping[str, Grid]
"""By layer."""


class Side(Protocol):
    """The quantized network beside the float one; its values are what it hands from block to block."""

    @property
    def graph(self) -> FloatGraph:
        """The float network that it stands for."""
        ...

    @property
    def grids(self) -> Grids:
        """Its layers as they are at the start."""
        ...

    @property
    def activations(self) -> Mapping[str, Activation]:
        """Tensors that are rounded where they are made."""
        ...

    def enter(self, observations: Floats) -> Any:
        """Observations as the environment gives them as what the first operator reads."""

    def solve(self, block: Block, exact: Floats, value: Any) -> Grids:
        """A block's layers rounded anew, one by one, for what enters it now.

        :param exact: [n, *shape], what enters it in the float network
        """
        ...

    def run(self, block: Block, grids: Grids, value: Any) -> Any:
        """What leaves a block with these grids where ``value`` enters."""

    def real(self, tensor: str, value: Any) -> Floats:
        """Such a value as real numbers [n, *shape]."""
        ...


class RealSide:
    """Weights on grids, activations left alone."""

    def __init__(self, graph: FloatGraph, grids: Grids, rounder: Rounder) -> None:
        """Of a float graph.

        :param rounder: solves a layer
        """
        self.graph, self.grids, self._rounder = graph, grids, rounder
        self.activations: Mapping[str, Activation] = {}

    def enter(self, observations: Floats) -> Floats:
        """:meth:`Side.enter`"""
        return self.graph.enter(observations)

    def solve(self, block: Block, exact: Floats, value: Floats) -> Grids:
        """:meth:`Side.solve`"""
        found: dict[str, Grid] = {}
        floats, values = {block.source: exact}, {block.source: value}
        for node in block.nodes:
            if isinstance(node, Weighted):
                source = node.inputs[0]
                found[node.name] = solved(node, self._rounder(node, floats[source], values[source]), self._bits(node))
            floats[node.name] = node.evaluate(*(floats[name] for name in node.inputs))
            values[node.name] = self._evaluate(node, found, values)
        return found

    def run(self, block: Block, grids: Grids, value: Floats) -> Floats:
        """:meth:`Side.run`"""
        values = {block.source: value}
        for node in block.nodes:
            values[node.name] = self._evaluate(node, grids, values)
        return values[block.target]

    def _evaluate(self, node: Node, grids: Grids, values: Mapping[str, Floats]) -> Floats:
        made = on_grid(node, grids[node.name]) if isinstance(node, Weighted) else node
        return made.evaluate(*(values[name] for name in node.inputs))

    def _bits(self, node: Weighted) -> int:
        return self.grids[node.name].bits

    def real(self, tensor: str, value: Floats) -> Floats:
        """:meth:`Side.real`"""
        return value


class IntegerSide:
    """An integer network, computed as a board computes it."""

    def __init__(
        self, network: QuantizedNetwork, rounding: Rounding, *, per_channel: bool = True, bias_correction: bool = True
    ) -> None:
        """Of a network.

        :param rounding: solves a layer
        :param per_channel: whether an output channel may have a scale of its own
        :param bias_correction: whether a solved layer's mean error is taken off its bias
        """
        self.network, self._rounding = network, rounding
        self._per_channel, self._bias_correction = per_channel, bias_correction
        self.graph = float_graph(network)
        self.grids: Grids = {layer.name: _grid(layer) for layer in network.layers}
        moved = {node.name for node in network.nodes if isinstance(node, QuantizedMove)}
        self.activations = {name: made for name, made in network.activations.items() if name not in moved}

    def enter(self, observations: Floats) -> Any:
        """:meth:`Side.enter`"""
        return quantize_input(self.network, observations)

    def solve(self, block: Block, exact: Floats, value: Any) -> Grids:
        """:meth:`Side.solve`"""
        found: dict[str, Grid] = {}
        floats, values = {block.source: exact}, {block.source: value}
        for node in _members(self.network, block):
            inputs = [floats[name] for name in node.node.inputs]
            floats.update(evaluate(node.node, *inputs))
            q = [values[name] for name in node.node.inputs]
            if isinstance(node, QuantizedLayer):
                node = self._solved(node, inputs[0], q[0], floats[node.node.linear_name])
                found[node.name] = _grid(node)
            values.update(run_node(node, *q))
        return found

    def _solved(self, layer: QuantizedLayer, exact: Floats, q: Any, linear: Floats) -> QuantizedLayer:
        per_channel = self._per_channel and layer.node.takes_channel_scales
        data = LayerData(layer.node, layer.input, layer.before, layer.weight_bits, per_channel, exact, q)
        rounded = self._rounding(data)
        made = replace(layer, weights=rounded.weights, weight_scale=rounded.scale, bias=rounded.bias)
        return corrected(made, q, linear) if self._bias_correction else made

    def run(self, block: Block, grids: Grids, value: Any) -> Any:
        """:meth:`Side.run`"""
        values = {block.source: value}
        for node in _members(self.with_grids(grids), block):
            values.update(run_node(node, *(values[name] for name in node.node.inputs)))
        return values[block.target]

    def real(self, tensor: str, value: Any) -> Floats:
        """:meth:`Side.real`"""
        return self.network.activations[tensor].dequantize(value)

    def with_grids(self, grids: Grids) -> QuantizedNetwork:
        """The network with these layers in place of its own.

        :raises UnsupportedModelError: an accumulator could overflow
        """
        nodes: list[QuantizedNode] = []
        for node in self.network.nodes:
            if isinstance(node, QuantizedLayer) and node.name in grids:
                node = _layer(node, grids[node.name])
            nodes.append(node)
        return replace(self.network, nodes=tuple(nodes))


def _members(network: QuantizedNetwork, block: Block) -> list[QuantizedNode]:
    names = {node.name for node in block.nodes}
    return [node for node in network.nodes if node.name in names]


def float_graph(network: QuantizedNetwork) -> FloatGraph:
    """The float network of a quantized one, with the host's part that its integers have."""
    nodes = tuple(node.node for node in network.nodes)
    shape = network.input.shape
    return FloatGraph(
        network.name, network.input_name, shape, network.output_name, network.prefix, nodes, network.channels_last
    )


def on_grid(node: Weighted, grid: Grid) -> Weighted:
    """A float layer with the weights of a grid."""
    return replace(node, weights=grid.weights.astype(np.float32), bias=grid.bias.astype(np.float32))


def solved(node: Weighted, found: Solution, bits: int) -> Grid:
    """What a solver found of a float layer."""
    scale = found.scales.reshape(-1).astype(np.float32)
    return Grid(in_place(node, found.integers), scale, bits, found.bias.reshape(-1))


def _grid(layer: QuantizedLayer) -> Grid:
    return Grid(layer.weights, layer.weight_scale, layer.weight_bits, layer.bias * layer.bias_scale)


def _layer(layer: QuantizedLayer, grid: Grid) -> QuantizedLayer:
    bias = quantizers.bounded_bias(grid.bias, layer.node.weights, layer.input.range, layer.before.range)
    q_bias = quantizers.round_bias(bias, layer.input.scale, grid.scale)
    made = replace(layer, weights=grid.integers, weight_scale=grid.scale, bias=q_bias)
    _ = made.requantize  # proves that no accumulator overflows
    return made
