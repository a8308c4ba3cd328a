"""A block of a float network in torch, its weights on their way to integers, its activations rounded or left alone.

BRECQ (Li et al. 2021, 2102.05426) learns to round all weights of a block together; QDrop (Wei et al. 2022, 2203.05740)
leaves each activation's rounding out by chance while it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from policyport.core.semantics import weight_range
from policyport.quantize.activation import Activation
from policyport.quantize.fake_layer import CELL, weighted_sums
from policyport.quantize.fake_nodes import moved, window_sums
from policyport.quantize.fake_rounding import EXACT
from policyport.quantize.nodes import AveragePool, Concat, Function, Node, Product, Softmax, Sum, Weighted
from policyport.quantize.rounding.block_sides import Grid, Grids
from policyport.quantize.rounding.blocks import Block
from policyport.quantize.rounding.relaxation import GAMMA, ZETA, initial

Tensor = Any  # torch carries no types that a strict checker is shown here


class SoftLayer(torch.nn.Module):  # type: ignore[misc]
    """A layer that starts at its grid's integers, each weight free to go to one neighbour of its own."""

    scale: Tensor
    floor: Tensor
    bias: Tensor
    unit: Tensor

    def __init__(self, node: Weighted, grid: Grid, unit: float) -> None:
        """Of a float layer.

        :param unit: what a step of the learned bias is worth, about the spread of the layer's sums
        """
        super().__init__()
        shape = (-1, *[1] * (node.weights.ndim - 1))
        scale = grid.scale.astype(np.float64).reshape(shape)
        steps = np.clip(node.weights / scale, grid.integers - CELL, grid.integers + CELL)
        self.range = weight_range(grid.bits)
        for name, value in (("scale", scale), ("floor", np.floor(steps)), ("bias", grid.bias), ("unit", unit)):
            self.register_buffer(name, torch.as_tensor(np.asarray(value), dtype=torch.float32))
        self.up = torch.nn.Parameter(torch.from_numpy(initial(steps - np.floor(steps))))
        self.shift = torch.nn.Parameter(torch.zeros(len(grid.bias)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Weights and bias."""
        return torch.clamp(self.floor + self.share(), *self.range) * self.scale, self.bias + self.unit * self.shift

    def share(self) -> Tensor:
        """By how much each weight rounds up: the rectified sigmoid of AdaRound, equation 23."""
        return torch.clamp(torch.sigmoid(self.up) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)

    def unsettled(self, beta: float) -> Tensor:
        """AdaRound's regularizer, equation 24."""
        return (1 - (2 * self.share() - 1).abs() ** beta).sum()

    def rounded(self, grid: Grid) -> Grid:
        """The grid with the integers that were learned, for good."""
        with torch.no_grad():
            whole = torch.clamp(self.floor + (self.share() >= 0.5), *self.range).to(torch.int64).numpy()
            bias = self.bias + self.unit * self.shift
        assert whole.min() >= self.range[0] and whole.max() <= self.range[1]
        return replace(grid, integers=whole, bias=bias.numpy().astype(np.float64))


class SoftBlock(torch.nn.Module):  # type: ignore[misc]
    """Real values of the block's source to those of its target."""

    def __init__(
        self, block: Block, grids: Grids, activations: Mapping[str, Activation], units: Mapping[str, float]
    ) -> None:
        """Of a block of the float network.

        :param activations: of the tensors that are rounded
        :param units: for each layer, see :class:`SoftLayer`
        """
        super().__init__()
        self.block, self.activations = block, activations
        soft = [SoftLayer(node, grids[node.name], units[node.name]) for node in block.layers]
        self.layers = torch.nn.ModuleList(soft)
        self._of = {node.name: layer for node, layer in zip(block.layers, soft, strict=True)}

    def forward(self, source: Tensor, drop: float, chance: torch.Generator) -> Tensor:
        """One pass.

        :param source: [n, *shape] float32
        :param drop: probability that an element of an activation is not rounded
        """
        values = {self.block.source: source}
        for node in self.block.nodes:
            inputs = [values[name] for name in node.inputs]
            if isinstance(node, Weighted):
                sums = weighted_sums(node, inputs[0], *self._of[node.name]())
                if node.function.has_table:
                    sums = self._rounded(node.linear_name, sums, drop, chance)
                found = function(node.function, sums)
            else:
                found = operator(node, *inputs)
            values[node.name] = self._rounded(node.name, found, drop, chance)
        return values[self.block.target]

    def rounded(self, grids: Grids) -> dict[str, Grid]:
        """What was learned, by layer."""
        return {name: layer.rounded(grids[name]) for name, layer in self._of.items()}

    def _rounded(self, name: str, real: Tensor, drop: float, chance: torch.Generator) -> Tensor:
        """To the grid of an activation, but for what chance leaves out; the gradient passes where nothing saturates."""
        of = self.activations.get(name)
        if of is None:
            return real
        within = torch.clamp(real / of.scale + of.zero_point, of.low, of.high)
        kept = (within + (within.round() - within).detach() - of.zero_point) * of.scale
        return torch.where(torch.rand(real.shape, generator=chance) < drop, real, kept) if drop else kept


def operator(node: Node, *x: Tensor) -> Tensor:
    """An operator without weights on real values."""
    match node:
        case Sum(signs=signs):
            return function(node.function, sum(sign * value for sign, value in zip(signs, x, strict=True)))
        case Product():
            return x[0] * x[1]
        case Concat():
            return torch.cat(x, dim=1)
        case AveragePool():
            ones = torch.ones(1, *x[0].shape[1:])
            return window_sums(node, x[0], 0.0) / window_sums(node, ones, float(node.count_padding))
        case Softmax():
            return torch.softmax(x[0], dim=-1)
    found = moved(node, x[0], 0.0)
    return function(node.function, x[0]) if found is None else found  # type: ignore[attr-defined]


def function(of: Function, x: Tensor) -> Tensor:
    """A function of one value."""
    if of.clamps:
        return torch.clamp(x, of.low, of.high)
    return EXACT[of.name](x) if of.name else x


def output_slopes(nodes: tuple[Node, ...], source: str, target: str, values: Tensor, directions: Tensor) -> Tensor:
    """The slope of ``directions * target`` by a tensor, [n, *shape], behind which float operators follow.

    :param nodes: those between the two
    :param values: [n, *shape] of ``source``
    :param directions: [n, *shape of target]
    """
    found = {source: values.clone().requires_grad_()}
    for node in nodes:
        inputs = [found[name] for name in node.inputs]
        if isinstance(node, Weighted):
            weights, bias = (torch.from_numpy(np.asarray(part, np.float32)) for part in (node.weights, node.bias))
            found[node.name] = function(node.function, weighted_sums(node, inputs[0], weights, bias))
        else:
            found[node.name] = operator(node, *inputs)
    (slope,) = torch.autograd.grad((found[target] * directions).sum(), found[source])
    return slope
