"""Step sizes of the integer network in torch, as they are or learned.

Esser et al. 2020, "Learned Step Size Quantization" (1902.08153): the gradient of a step size is scaled by
``1 / sqrt(N * Qp)``, with ``N`` the values that share it and ``Qp`` the largest integer. A step is held as an exponent
over its start, so that it stays positive, and so that an optimizer moves all steps by a share of their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from policyport.core.semantics import activation_range, weight_range
from policyport.quantize.activation import FIXED_SCALE, Activation
from policyport.quantize.fake_rounding import straight
from policyport.quantize.integer_nodes import (
    QuantizedConcat,
    QuantizedLayer,
    QuantizedLookup,
    QuantizedMove,
    QuantizedNode,
    QuantizedSoftmax,
    QuantizedSum,
)
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import NONE, Function, Pointwise

Tensor = Any  # torch carries no types that a strict checker is shown here

FARTHEST = 4.0
"""How far an exponent reaches at the most, so that no training drives a scale out of what integers can be scaled by."""


class StepSizes(torch.nn.Module):  # type: ignore[misc]
    """Positive float32 values, held as float64: ``start * exp(exponents)``."""

    start: Tensor
    shares: Tensor

    def __init__(self, start: Any, shares: Any, *, learned: bool) -> None:
        """Of a start [k] and the shares of the gradient that reach it [k]; 0 keeps a step as it is."""
        super().__init__()
        self.register_buffer("start", torch.as_tensor(np.asarray(start, np.float64)))
        self.register_buffer("shares", torch.as_tensor(np.asarray(shares, np.float64)))
        self.exponents = torch.nn.Parameter(torch.zeros_like(self.start)) if learned else None

    def forward(self) -> Tensor:
        """The steps [k]."""
        if self.exponents is None:
            return self.start
        within = torch.clamp(self.exponents, -FARTHEST, FARTHEST)
        steps = (self.start * torch.exp(within)).to(torch.float32).to(torch.float64)
        return straight(lambda: steps * self.shares, steps.detach())


class NetworkSteps(StepSizes):
    """Of every tensor of a network, then of every layer's weights.

    Tensors that must hold the same integers share one; a layer has one for each output, or one for all where all are
    equal. The results of tanh, sigmoid and softmax keep theirs, which is given.
    """

    def __init__(self, network: QuantizedNetwork, *, learned: bool) -> None:
        group, fixed, activations = tied(network), fixed_tensors(network), network.activations
        members = list(dict.fromkeys(group.values()))
        self.index = {name: members.index(root) for name, root in group.items()}
        start = [activations[root].scale for root in members]
        shares = [0.0 if root in fixed else _activation_share(activations[root]) for root in members]
        self.spans: list[tuple[int, int, int]] = []
        for layer in network.layers:
            scale = layer.weight_scale
            scale = scale[:1] if bool((scale == scale[0]).all()) else scale
            share = gradient_share(layer.weights.size // len(scale), weight_range(layer.weight_bits)[1])
            self.spans.append((len(start), len(scale), len(layer.weight_scale)))
            start += scale.tolist()
            shares += [share] * len(scale)
        super().__init__(start, shares, learned=learned)

    def split(self, steps: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What :meth:`forward` yields as the step of each tensor, 0-dimensional, and those of each layer [outputs]."""
        first = self.spans[0][0] if self.spans else len(steps)
        of_tensors = steps[:first].unbind()
        by_name = {name: of_tensors[index] for name, index in self.index.items()}
        return by_name, [steps[start : start + count].expand(outputs) for start, count, outputs in self.spans]


def gradient_share(values: int, largest: int) -> float:
    """``1 / sqrt(N * Qp)`` of section 2.2."""
    return float(1 / np.sqrt(max(1, values) * max(1, largest)))


def _activation_share(activation: Activation) -> float:
    return gradient_share(activation.size, activation.high - activation.zero_point)


def tied(network: QuantizedNetwork) -> dict[str, str]:
    """Each tensor to the one whose scale it has, itself where the scale is its own."""
    root = {name: name for name in network.activations}
    for node in network.nodes:
        if isinstance(node, QuantizedMove):
            root[node.name] = root[node.inputs[0].name]
        if isinstance(node, QuantizedConcat):
            joined = {root[x.name] for x in node.inputs if x.parameters == node.output.parameters}
            root.update({name: node.name for name, found in root.items() if found in joined})
    return root


def fixed_tensors(network: QuantizedNetwork) -> set[str]:
    """The roots of :func:`tied` whose scale is given: results of tanh, sigmoid and softmax, and what shares theirs."""
    root = tied(network)
    return {root[node.name] for node in network.nodes if _is_fixed(node)}


def _is_fixed(node: QuantizedNode) -> bool:
    if isinstance(node, QuantizedSoftmax):
        return True
    table = isinstance(node, QuantizedLookup) or (isinstance(node, QuantizedLayer) and node.has_table)
    return table and (node.node.function.name, node.output.bits) in FIXED_SCALE  # type: ignore[attr-defined]


def with_steps(network: QuantizedNetwork, steps: Mapping[str, float], weights: Mapping[str, Any]) -> QuantizedNetwork:
    """The network with other scales; zero points stay, and the integers of clamps move with the scales.

    :param steps: by tensor, float32 values
    :param weights: by layer, [outputs] float32
    """
    made = {network.input_name: replace(network.input, scale=steps[network.input_name])}
    nodes: list[QuantizedNode] = []
    for node in network.nodes:
        inputs = tuple(made[source.name] for source in node.inputs)
        output = _output(node, inputs, steps)
        if isinstance(node, QuantizedLayer):
            before = replace(node.before, scale=steps[node.before.name]) if node.has_table else output
            scale = weights[node.name]
            nodes.append(replace(node, inputs=inputs, output=output, before=before, weight_scale=scale))
        else:
            nodes.append(replace(node, inputs=inputs, output=output))
        made[node.name] = output
    return replace(network, input=made[network.input_name], nodes=tuple(nodes))


def _output(node: QuantizedNode, inputs: tuple[Activation, ...], steps: Mapping[str, float]) -> Activation:
    function = _function(node)
    if isinstance(node, QuantizedMove):
        return inputs[0].renamed(node.name, node.output.shape).clamped(function)
    output = replace(node.output, scale=steps[node.name])
    if not function.clamps:
        return output
    low, high = activation_range(output.bits)
    return replace(output, low=low, high=high).clamped(function)


def _function(node: QuantizedNode) -> Function:
    """The function at the end of an operator."""
    if isinstance(node, (QuantizedLayer, QuantizedSum, QuantizedLookup)):
        return node.node.function
    return node.node.function if isinstance(node.node, Pointwise) else NONE
