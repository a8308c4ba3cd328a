"""The integer network in torch: equal bit for bit to the integers, with gradients for training.

Integers travel as float64, in which sums of products stay exact to 2**53; the requantizing multiply,
which needs 62 bits, is done in int64. Each rounding passes its gradient straight through where it does not
saturate, to weights and inputs, and to the scales where they are learned.

This module and those that it is made of, ``fake_*``, alone of the package import torch; nothing of the package
imports them before it is asked to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from policyport.core.semantics import Integers
from policyport.quantize.fake_nodes import FakeLayer, Source, fake_operator
from policyport.quantize.fake_rounding import rounded
from policyport.quantize.fake_steps import ActivationSteps, with_steps
from policyport.quantize.integer_nodes import QuantizedLayer
from policyport.quantize.network import QuantizedNetwork

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
        self._start = network
        self._now, self._scales = network, b""
        self.learn_steps = learn_steps
        self.register_buffer("offset", torch.from_numpy(network.prefix.offset.copy()))
        self.register_buffer("gain", torch.from_numpy(network.prefix.gain.copy()))
        self.steps = ActivationSteps(network, learned=learn_steps)
        pairs = zip(network.layers, sources or (None,) * len(network.layers), strict=True)
        self.layers = torch.nn.ModuleList(
            FakeLayer(layer, learn_steps=learn_steps, source=source) for layer, source in pairs
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Observations [n, inputs] or [n, *shape] float32 to outputs [n, outputs] float32."""
        return self.real(self._start.output_name, self.trace(observations)[self._start.output_name]).flatten(1)

    def integers(self, observations: Tensor) -> dict[str, Integers]:
        """The integers of every tensor, by name, [n, *shape] int64; those before tables too."""
        with torch.no_grad():
            trace = self.trace(observations)
        return {name: q.to(torch.int64).cpu().numpy() for name, q in trace.items()}

    def network(self) -> QuantizedNetwork:
        """The network with the scales and the integers that the parameters round to now.

        :raises UnsupportedModelError: an accumulator could overflow
        """
        now, steps, layers = self._current(), self.steps.by_name(), iter(self._layers())
        nodes = tuple(
            next(layers).quantized(node, steps) if isinstance(node, QuantizedLayer) else node for node in now.nodes
        )
        return replace(now, nodes=nodes)

    def trace(self, observations: Tensor) -> dict[str, Tensor]:
        """The integers, as float64, by name: the input's, then each operator's."""
        return self.run({self._start.input_name: self.entered(observations)}, 0, len(self._start.nodes))

    def run(self, values: dict[str, Tensor], first: int, last: int) -> dict[str, Tensor]:
        """Integers by name, and with them those of the operators from ``first`` on, before ``last``."""
        now, steps = self._current(), self.steps.by_name()
        position = {layer.name: index for index, layer in enumerate(now.layers)}
        for node in now.nodes[first:last]:
            inputs = [values[source.name] for source in node.inputs]
            if isinstance(node, QuantizedLayer):
                values |= self.layers[position[node.name]](node, steps, *inputs)
            else:
                values[node.name] = fake_operator(node, steps, *inputs)
        return values

    def real(self, name: str, q: Tensor) -> Tensor:
        """Integers of a tensor to real values, float32."""
        zero_point = self._start.activations[name].zero_point
        return (q - zero_point).to(torch.float32) * self.steps.by_name()[name].to(torch.float32)

    def integer(self, name: str, real: Tensor) -> Tensor:
        """What :meth:`real` made, back to integers."""
        of = self._current().activations[name]
        return rounded(real.to(torch.float64) / self.steps.by_name()[name], of.zero_point, of.low, of.high)

    def entered(self, observations: Tensor) -> Tensor:
        """The input's integers [n, *shape] as float64."""
        now = self._current()
        prefix, source = now.prefix, now.input
        real = observations.to(torch.float32)
        if now.channels_last:
            channels, height, width = source.shape
            real = real.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        scaled = (real.reshape(-1, *source.shape) - self.offset) * self.gain
        # Expanded, for a division by a scalar may become a multiplication by its inverse on a GPU.
        step = self.steps.by_name()[source.name].to(torch.float32).expand(source.shape)
        steps = torch.clamp(scaled, float(prefix.low), float(prefix.high)) / step
        return rounded(steps, source.zero_point, source.low, source.high)

    def _layers(self) -> list[Any]:
        """The layers with weights; torch's own containers have no element type."""
        return list(self.layers)

    def _current(self) -> QuantizedNetwork:
        """The network with the scales as they are now; its weights are those of the start."""
        if not self.learn_steps:
            return self._start
        with torch.no_grad():
            steps = self.steps().cpu().numpy()
            weights = [layer.steps().cpu().numpy().astype(np.float32) for layer in self._layers()]
        key = b"".join(values.tobytes() for values in (steps, *weights))
        if key != self._scales:
            by_name = {name: float(steps[index]) for name, index in self.steps.index.items()}
            by_layer = {layer.name: scale for layer, scale in zip(self._start.layers, weights, strict=True)}
            self._now, self._scales = with_steps(self._start, by_name, by_layer), key
        return self._now
