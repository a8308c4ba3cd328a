"""The integer network inside a live policy of Stable-Baselines3: what acts and learns is what a board will compute.

The layers' own parameters stay where they are and are the ones that train, so that optimizers, target networks and
checkpoints keep theirs. What is swapped are the modules around them; step sizes are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from policyport.core.errors import UnsupportedModelError
from policyport.quantize.fake import FakeQuantized
from policyport.quantize.fake_layer import starting_floats
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Linear
from policyport.train.actor import flat_modules
from torch import nn

Tensor = Any  # torch carries no types that a strict checker is shown here


@dataclass(frozen=True)
class Place:
    """Where a module of the policy sits."""

    owner: nn.Module
    attribute: str


class LiveLayer(nn.Module):  # type: ignore[misc]
    """A layer's weights as the integer network has them, of the parameters of a live one.

    The first layer undoes what the host does to observations. The last one of choices leaves out what all of them have
    in common, which decides nothing, and has the mean of quantiles for one value.
    """

    def __init__(self, linear: nn.Linear, radius: Tensor | None, centre: Tensor | None, choices: int) -> None:
        """Of a live layer.

        :param radius: [inputs] float64, what the host divides by; None for a layer that is not the first
        :param centre: [inputs] float64, what it subtracts
        :param choices: how many actions there are to choose among; 0 for a layer whose outputs are no choices
        """
        super().__init__()
        self.linear, self.choices = linear, choices
        self.register_buffer("radius", radius, persistent=False)
        self.register_buffer("centre", centre, persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Weights [outputs, inputs] and bias [outputs], float64."""
        weights, bias = self.shared()
        if self.radius is not None:
            weights, bias = weights * self.radius, bias + weights @ self.centre
        return weights, bias

    def shared(self) -> tuple[Tensor, Tensor]:
        """The same before the host's part."""
        weights, bias = self.linear.weight.double(), self.linear.bias.double()
        if not self.choices:
            return weights, bias
        weights = weights.reshape(-1, self.choices, weights.shape[1]).mean(0)
        bias = bias.reshape(-1, self.choices).mean(0)
        return weights - weights.mean(0), bias - bias.mean()

    def put(self, weights: Tensor, bias: Tensor) -> None:
        """Set the parameters to what yields these; what they do not say stays as it is."""
        if self.radius is not None:
            weights = weights / self.radius
            bias = bias - weights @ self.centre
        with torch.no_grad():
            before = self.shared()
            times = len(self.linear.bias) // len(bias)
            self.linear.weight += (weights - before[0]).repeat(times, 1).to(self.linear.weight.dtype)
            self.linear.bias += (bias - before[1]).repeat(times).to(self.linear.bias.dtype)

    def rest(self, features: Tensor) -> Tensor:
        """[n, live outputs]: what the live outputs hold beside the integer network's, of features [n, inputs]."""
        live = self.linear(features)
        values = live.reshape(len(live), -1, self.choices)
        mean = values.mean(1, keepdim=True)
        return (values - (mean - mean.mean(2, keepdim=True))).flatten(1)


class LivePart(nn.Module):  # type: ignore[misc]
    """Some operators of the integer network in the place of one module: real values in, real values out."""

    def __init__(self, original: nn.Module, fake: FakeQuantized, span: tuple[int, int], names: tuple[str, ...]) -> None:
        """In place of ``original``.

        :param span: the operators, the second not among them
        :param names: of the tensors that the first operator reads, that the last one reads, and that comes out
        """
        super().__init__()
        self.original, self.fake = original, fake
        self._span, self._names = span, names
        self.values_of: LiveLayer | None = None
        """The last layer, where its outputs are learned as values: what all have in common is added in float."""

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, inputs] to outputs [n, outputs], float32."""
        (first, last), (source, read, target) = self._span, self._names
        now = self.fake.now()
        q = now.integer(source, features) if first else now.entered(features)
        values = now.run({source: q}, first, last)
        outputs = now.real(target, values[target])
        if self.values_of is None:
            return outputs
        rest = self.values_of.rest(features if read == source else now.real(read, values[read]))
        return rest + outputs.repeat(1, rest.shape[1] // outputs.shape[1])


class LiveActor:
    """One actor or Q network of a policy, with its integer network beside it."""

    def __init__(self, network: QuantizedNetwork, places: Sequence[Place], *, choices: int, values: bool) -> None:
        """Of a network that was quantized from it.

        :param places: of its modules, from the observation on
        :param choices: how many actions there are where the largest output decides, else 0
        :param values: whether outputs are learned as values, not only compared
        :raises UnsupportedModelError: a network of anything but fully connected layers
        """
        originals = [getattr(place.owner, place.attribute) for place in places]
        leaves = [list(flat_modules([module])) for module in originals]
        linears = [leaf for part in leaves for leaf in part if isinstance(leaf, nn.Linear)]
        if len(linears) != len(network.nodes) or not all(isinstance(node.node, Linear) for node in network.nodes):
            kinds = [type(node.node).__name__ for node in network.nodes]
            raise UnsupportedModelError(
                "quantization-aware training takes fully connected layers with a function behind each",
                where=network.name,
                got=", ".join(kinds),
                cure="train in float32 and quantize with --method qat",
            )
        self.layers = _live_layers(network, linears, choices)
        self.fake = FakeQuantized(network, learn_steps=True, sources=self.layers)
        self._swaps = list(zip(places, originals, _parts(self.fake, network, originals, leaves), strict=True))
        if values:
            self._swaps[-1][2].values_of = self.layers[-1]

    @property
    def exponents(self) -> nn.Parameter:
        """The learned step sizes."""
        found = self.fake.steps.exponents
        assert found is not None  # learn_steps is asked for
        return found

    def start(self) -> None:
        """Set the parameters to what rounds to the network's integers."""
        for live, layer in zip(self.layers, self.fake.start.layers, strict=True):
            live.put(*starting_floats(layer))

    def settle(self) -> None:
        """Set the parameters to the values that the integers stand for."""
        for live, layer in zip(self.layers, self.fake.network().layers, strict=True):
            weights = layer.weights * layer.weight_scale.astype("float64")[:, None]
            live.put(torch.from_numpy(weights), torch.from_numpy(layer.bias * layer.bias_scale))

    def swap_in(self) -> None:
        """Let the policy act by the integers."""
        for place, _, live in self._swaps:
            setattr(place.owner, place.attribute, live)

    def swap_out(self) -> None:
        """Let the policy act in float again, by the same parameters."""
        for place, original, _ in self._swaps:
            setattr(place.owner, place.attribute, original)


def _live_layers(network: QuantizedNetwork, linears: list[nn.Linear], choices: int) -> list[LiveLayer]:
    prefix, last = network.prefix, len(linears) - 1
    radius, centre = torch.from_numpy(1.0 / prefix.gain.astype("float64")), torch.from_numpy(prefix.offset).double()
    return [
        LiveLayer(linear, None if index else radius, None if index else centre, choices if index == last else 0)
        for index, linear in enumerate(linears)
    ]


def _parts(
    fake: FakeQuantized, network: QuantizedNetwork, originals: list[nn.Module], leaves: list[list[nn.Module]]
) -> list[nn.Module]:
    """A part for each module; one without layers stays as it is."""
    made: list[nn.Module] = []
    first, source = 0, network.input_name
    for original, part in zip(originals, leaves, strict=True):
        last = first + sum(isinstance(leaf, nn.Linear) for leaf in part)
        if last == first:
            made.append(original)
            continue
        node = network.layers[last - 1]
        # Where the policy applies the last function itself, as SAC its tanh, the part ends before it.
        target = node.before.name if isinstance(part[-1], nn.Linear) else node.name
        made.append(LivePart(original, fake, (first, last), (source, node.input.name, target)))
        first, source = last, node.name
    return made
