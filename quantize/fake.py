"""The integer network in torch: equal bit for bit to the integers, with gradients for training.

Integers travel as float64, in which sums of products stay exact to 2**53; the requantizing multiply,
which needs 62 bits, is done in int64. Each rounding passes its gradient straight through where it does not
saturate, to weights and inputs, and to the scales where they are learned.

This module and those that it is made of, ``fake_*``, import torch; so does what learns to round blocks. Nothing of the
package imports them before it is asked to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from policyport.core.errors import ParityError
from policyport.core.semantics import Integers
from policyport.quantize.fake_layer import FakeLayer, Source
from policyport.quantize.fake_nodes import fake_operator
from policyport.quantize.fake_rounding import rounded
from policyport.quantize.fake_steps import NetworkSteps, with_steps
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedNode
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats
from policyport.quantize.simulate import simulate

Tensor = Any  # torch carries no types that a strict checker is shown here


class FakeQuantized(torch.nn.Module):  # type: ignore[misc]
    """A :class:`QuantizedNetwork` as a torch module: float observations in, dequantized outputs out.

    Weights and biases are float64 parameters, or come from elsewhere, and are rounded in every forward pass.
    :meth:`network` gives the trained integers back.
    """

    offset: Tensor
    gain: Tensor

    def __init__(
        self, network: QuantizedNetwork, *, learn_steps: bool = False, sources: Sequence[Source] | None = None
    ) -> None:
        """Of a network.

        :param learn_steps: whether the scales are parameters too; else they stay as they are
        :param sources: for each layer, what gives its weights and bias; None makes them parameters of this module
        """
        super().__init__()
        self.start = network
        self.register_buffer("offset", torch.from_numpy(network.prefix.offset.copy()))
        self.register_buffer("gain", torch.from_numpy(network.prefix.gain.copy()))
        self.steps = NetworkSteps(network, learned=learn_steps)
        self._latest: tuple[Tensor, QuantizedNetwork] = self.steps.start.clone(), network
        pairs = zip(network.layers, sources or (None,) * len(network.layers), strict=True)
        self.layers = torch.nn.ModuleList(FakeLayer(layer, source) for layer, source in pairs)

    def forward(self, observations: Tensor) -> Tensor:
        """Observations [n, inputs] or [n, *shape] float32 to outputs [n, outputs] float32."""
        now, name = self.now(), self.start.output_name
        return now.real(name, now.trace(observations)[name]).flatten(1)

    def integers(self, observations: Tensor) -> dict[str, Integers]:
        """The integers of every tensor, by name, [n, *shape] int64; those before tables too."""
        with torch.no_grad():
            trace = self.now().trace(observations)
        return {name: q.to(torch.int64).cpu().numpy() for name, q in trace.items()}

    def network(self) -> QuantizedNetwork:
        """The network with the scales and the integers that the parameters round to now.

        :raises UnsupportedModelError: an accumulator could overflow
        """
        now = self.now()
        layers: Any = zip(self.layers, now.weight_steps, strict=True)
        nodes: list[QuantizedNode] = []
        for node in now.network.nodes:
            if isinstance(node, QuantizedLayer):
                module, weight_steps = next(layers)
                node = module.quantized(node, now.steps, weight_steps)
            nodes.append(node)
        return replace(now.network, nodes=tuple(nodes))

    def settled(self, observations: Floats) -> QuantizedNetwork:
        """As :meth:`network`, held against what the module computes on observations.

        :param observations: [n, inputs], float32
        :raises ParityError: the integers are not those of the module
        :raises UnsupportedModelError: an accumulator could overflow
        """
        network, seen = self.network(), self.integers(torch.from_numpy(observations))
        for name, q in simulate(network, observations).tensors.items():
            if not np.array_equal(q, seen[name]):
                raise ParityError(
                    "the integers are not those that training saw", where=name, got=int(np.sum(q != seen[name]))
                )
        return network

    def now(self) -> Pass:
        """The module with its scales as they are, for one pass."""
        steps = self.steps()
        known = steps.detach()
        if not torch.equal(known, self._latest[0]):
            by_name, by_layer = self.steps.split(known.cpu())
            scales = {name: float(step) for name, step in by_name.items()}
            layers = [layer.name for layer in self.start.layers]
            weights = {name: step.numpy().astype(np.float32) for name, step in zip(layers, by_layer, strict=True)}
            self._latest = known.clone(), with_steps(self.start, scales, weights)
        return Pass(self, self._latest[1], *self.steps.split(steps))


@dataclass(frozen=True)
class Pass:
    """A module with its scales as they are at one moment."""

    module: FakeQuantized
    network: QuantizedNetwork
    """With these scales; its weights are those of the start."""

    steps: dict[str, Tensor]
    """The scale of each tensor, 0-dimensional float64."""

    weight_steps: list[Tensor]
    """The scales [outputs] of each layer."""

    def trace(self, observations: Tensor) -> dict[str, Tensor]:
        """The integers, as float64, by name: the input's, then each operator's."""
        return self.run({self.network.input_name: self.entered(observations)}, 0, len(self.network.nodes))

    def run(self, values: dict[str, Tensor], first: int, last: int) -> dict[str, Tensor]:
        """Integers by name, and with them those of the operators from ``first`` on, before ``last``."""
        position = {layer.name: index for index, layer in enumerate(self.network.layers)}
        for node in self.network.nodes[first:last]:
            inputs = [values[source.name] for source in node.inputs]
            if isinstance(node, QuantizedLayer):
                index = position[node.name]
                values |= self.module.layers[index](node, self.steps, self.weight_steps[index], *inputs)
            else:
                values[node.name] = fake_operator(node, self.steps, *inputs)
        return values

    def real(self, name: str, q: Tensor) -> Tensor:
        """Integers of a tensor to real values, float32."""
        return (q - self.network.activations[name].zero_point).to(torch.float32) * self.steps[name].to(torch.float32)

    def integer(self, name: str, real: Tensor) -> Tensor:
        """What :meth:`real` made, back to integers."""
        of = self.network.activations[name]
        return rounded(real.to(torch.float64) / self.steps[name], of.zero_point, of.low, of.high)

    def entered(self, observations: Tensor) -> Tensor:
        """The input's integers [n, *shape] as float64."""
        prefix, source = self.network.prefix, self.network.input
        real = observations.to(torch.float32)
        if self.network.channels_last:
            channels, height, width = source.shape
            real = real.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        scaled = (real.reshape(-1, *source.shape) - self.module.offset) * self.module.gain
        # Expanded, for a division by a scalar may become a multiplication by its inverse on a GPU.
        step = self.steps[source.name].to(torch.float32).expand(source.shape)
        steps = torch.clamp(scaled, float(prefix.low), float(prefix.high)) / step
        return rounded(steps, source.zero_point, source.low, source.high)
