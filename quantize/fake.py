"""The integer network in torch: equal bit for bit to the integers, with gradients for training.

Integers travel as float64, in which sums of products stay exact to 2**53; the requantizing multiply,
which needs 62 bits, is done in int64. Each rounding passes its gradient straight through (Bengio et al.
2013, straight-through estimator) where it does not saturate.

This module and :mod:`policyport.quantize.fake_nodes`, which it is made of, alone of the package import
torch; nothing of the package imports them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from policyport.core.semantics import Integers
from policyport.quantize.fake_nodes import FakeLayer, fake_node
from policyport.quantize.fake_rounding import Round
from policyport.quantize.network import QuantizedNetwork

Tensor = Any  # torch carries no types that a strict checker is shown here


class FakeQuantized(torch.nn.Module):  # type: ignore[misc]
    """A :class:`QuantizedNetwork` as a torch module: float observations in, dequantized outputs out.

    Weights and biases are float64 parameters, rounded in every forward pass; scales stay as they are.
    :meth:`network` gives the trained integers back.
    """

    offset: Tensor
    gain: Tensor
    input_scale: Tensor
    output_scale: Tensor

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        self._network = network
        prefix, source = network.prefix, network.input
        self.register_buffer("offset", torch.from_numpy(prefix.offset.copy()))
        self.register_buffer("gain", torch.from_numpy(prefix.gain.copy()))
        # A tensor, for a division by a scalar may become a multiplication by its inverse on a GPU.
        self.register_buffer("input_scale", torch.full(source.shape, source.scale, dtype=torch.float32))
        self.register_buffer("output_scale", torch.tensor(network.output.scale, dtype=torch.float32))
        self.nodes = torch.nn.ModuleList([fake_node(node) for node in network.nodes])

    @property
    def layers(self) -> list[FakeLayer]:
        """The modules that have weights, in order."""
        return [module for module in self.nodes if isinstance(module, FakeLayer)]

    def forward(self, observations: Tensor) -> Tensor:
        """Observations [n, inputs] or [n, *shape] float32 to outputs [n, outputs] float32."""
        q = self._trace(observations)[self._network.output_name].flatten(1)
        return (q - self._network.output.zero_point).to(torch.float32) * self.output_scale

    def integers(self, observations: Tensor) -> dict[str, Integers]:
        """The integers of every operator's output and of the input, by name, [n, *shape] int64."""
        with torch.no_grad():
            trace = self._trace(observations)
        return {name: q.to(torch.int64).cpu().numpy() for name, q in trace.items()}

    def network(self) -> QuantizedNetwork:
        """The network with the integers that the parameters round to now."""
        pairs = zip(self.nodes, self._network.nodes, strict=True)
        nodes = tuple(module.quantized() if isinstance(module, FakeLayer) else node for module, node in pairs)
        return replace(self._network, nodes=nodes)

    def _trace(self, observations: Tensor) -> dict[str, Tensor]:
        """The integers, as float64, by name: the input's, then each operator's output."""
        values = {self._network.input_name: self._entered(observations)}
        for module, node in zip(self.nodes, self._network.nodes, strict=True):
            values[node.name] = module(*(values[name] for name in node.node.inputs))
        return values

    def _entered(self, observations: Tensor) -> Tensor:
        """The input's integers [n, *shape]."""
        prefix, source = self._network.prefix, self._network.input
        real = observations.to(torch.float32)
        if self._network.channels_last:
            channels, height, width = source.shape
            real = real.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        scaled = (real.reshape(-1, *source.shape) - self.offset) * self.gain
        steps = torch.clamp(scaled, float(prefix.low), float(prefix.high)) / self.input_scale
        return Round.apply(steps, source.zero_point, source.low, source.high)
