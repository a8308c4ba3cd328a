"""The deterministic actor inside a Stable-Baselines3 policy, as plain arrays.

What ``predict(deterministic=True)`` computes is layers and activation functions behind one another, for images and
dictionaries in several branches that are joined, and a rule that makes an action of the output. Value heads, log
probabilities and exploration stay behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.task import ActionRule
from policyport.train.normalization import Normalization

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy
    from torch import nn

Floats = NDArray[np.float32]

SUPPORTED = "Linear, Conv2d, Flatten, Tanh, ReLU, ReLU6, Hardtanh, Sigmoid, ELU and LeakyReLU"


@dataclass(frozen=True)
class Linear:
    """A fully connected layer."""

    weight: Floats
    """[outputs, inputs]"""

    bias: Floats
    """[outputs]"""


@dataclass(frozen=True)
class Convolution:
    """A convolution on [channels, height, width]."""

    weight: Floats
    """[outputs, inputs, height, width]"""

    bias: Floats
    """[outputs]"""

    stride: tuple[int, int]
    padding: tuple[int, int]
    """Zeros above and below, left and right."""


@dataclass(frozen=True)
class Function:
    """A function of each element, as an ONNX operator."""

    operator: str
    attributes: dict[str, float] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    """Of a Clip."""


FLATTEN = Function("Flatten")

Layer = Linear | Convolution | Function


@dataclass(frozen=True)
class Branch:
    """What becomes of one part of the flat observation."""

    start: int
    stop: int
    image: tuple[int, ...] = ()
    """Shape of the image that the part is; empty for a vector."""

    channels_last: bool = False
    """Whether the image must be turned from [height, width, channels]."""

    divisor: float = 1.0
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Actor:
    """A deterministic policy."""

    size: int
    """Elements of the flat observation."""

    normalization: Normalization | None
    branches: tuple[Branch, ...]
    """Their results are joined to one vector."""

    layers: tuple[Layer, ...]
    """What follows."""

    action_rule: ActionRule

    @property
    def parametric(self) -> tuple[Linear | Convolution, ...]:
        """Its layers that have weights."""
        every = [layer for part in (*(branch.layers for branch in self.branches), self.layers) for layer in part]
        return tuple(layer for layer in every if not isinstance(layer, Function))

    @property
    def outputs(self) -> int:
        """Elements of the output."""
        return len(self.parametric[-1].bias)


def extract_actor(policy: BasePolicy, space: Any, normalization: Normalization | None = None) -> Actor:
    """The deterministic actor of a policy.

    :param space: of the environment's observations, which may have channels last where the policy's has them first
    :param normalization: the statistics that observations were normalised with, where they were
    :raises UnsupportedModelError: recurrent or masked policies, other layers, other feature extractors
    """
    from gymnasium.spaces import flatdim

    chain = actor_chain(policy)
    layers = tuple(_plain(module, chain.kind) for module in flat_modules(chain.modules))
    if chain.kind == "QRDQNPolicy":
        layers = (*layers[:-1], _mean_of_quantiles(layers[-1], policy))
    branches = _branches(chain.extractor, policy, space)
    return Actor(int(flatdim(space)), normalization, branches, layers, chain.rule)


@dataclass(frozen=True)
class Chain:
    """The modules of a policy that its deterministic action goes through."""

    kind: str
    """Name of the class of the policy that is known here."""

    extractor: nn.Module
    modules: list[nn.Module]
    """Behind the features extractor."""

    rule: ActionRule


def actor_chain(policy: BasePolicy) -> Chain:
    """The modules of a policy.

    :raises UnsupportedModelError: recurrent or masked policies, or others that are not known
    """
    kinds = [kind.__name__ for kind in type(policy).__mro__]
    kind = next((kind for kind in kinds if kind in _CHAINS or kind in REFUSED), kinds[0])
    if kind not in _CHAINS:
        raise UnsupportedModelError("no such policy", expected=", ".join(_CHAINS), got=REFUSED.get(kind, kind))
    return Chain(kind, *_CHAINS[kind](policy))


REFUSED = {
    "RecurrentActorCriticPolicy": "a recurrent policy (RecurrentPPO)",
    "MaskableActorCriticPolicy": "a policy with action masks (MaskablePPO)",
    "CrossQPolicy": "CrossQ, whose batch renormalization is not supported",
}
"""Policies that are known and not supported, in words."""


def _actor_critic(policy: Any) -> tuple[nn.Module, list[nn.Module], ActionRule]:
    """PPO, A2C, TRPO: logits of choices, or the mean of a Gaussian, with gSDE squashed or not."""
    from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete
    from torch import nn

    modules: list[nn.Module] = [policy.mlp_extractor.policy_net, policy.action_net]
    rules: dict[type[Any], ActionRule] = {
        Discrete: "argmax",
        MultiDiscrete: "argmax_each",
        MultiBinary: "threshold",
    }
    rule: ActionRule | None = next((rules[kind] for kind in rules if isinstance(policy.action_space, kind)), None)
    if rule is None:
        rule = "scale" if policy.squash_output else "clip"
        modules += [nn.Tanh()] if policy.squash_output else []
    return policy.pi_features_extractor, modules, rule


def _q_network(policy: Any) -> tuple[nn.Module, list[nn.Module], ActionRule]:
    """DQN: one Q value per action."""
    return policy.q_net.features_extractor, [policy.q_net.q_net], "argmax"


def _quantile_network(policy: Any) -> tuple[nn.Module, list[nn.Module], ActionRule]:
    """QR-DQN: the quantiles of every action's Q value, of which the mean decides."""
    return policy.quantile_net.features_extractor, [policy.quantile_net.quantile_net], "argmax"


def _squashed_gaussian(policy: Any) -> tuple[nn.Module, list[nn.Module], ActionRule]:
    """SAC, TQC: the tanh of the mean, which gSDE bounds by a Hardtanh before."""
    from torch import nn

    actor = policy.actor
    return actor.features_extractor, [actor.latent_pi, actor.mu, nn.Tanh()], "scale"


def _deterministic(policy: Any) -> tuple[nn.Module, list[nn.Module], ActionRule]:
    """TD3 and DDPG: an actor that ends in tanh."""
    return policy.actor.features_extractor, [policy.actor.mu], "scale"


def _random_search(policy: Any) -> tuple[nn.Module, list[nn.Module], ActionRule]:
    """ARS: one network, its output squashed or clipped."""
    from gymnasium.spaces import Discrete

    rule: ActionRule = "scale" if policy.squash_output else "clip"
    return (
        policy.features_extractor,
        [policy.action_net],
        "argmax" if isinstance(policy.action_space, Discrete) else rule,
    )


_CHAINS = {
    "ActorCriticPolicy": _actor_critic,
    "DQNPolicy": _q_network,
    "QRDQNPolicy": _quantile_network,
    "SACPolicy": _squashed_gaussian,
    "TQCPolicy": _squashed_gaussian,
    "TD3Policy": _deterministic,
    "ARSPolicy": _random_search,
}


def _mean_of_quantiles(last: Layer, policy: Any) -> Linear:
    """The last layer of a quantile network as one Q value per action: the mean of rows is the mean of their outputs."""
    assert isinstance(last, Linear)
    actions = int(policy.action_space.n)
    weight = last.weight.astype(np.float64).reshape(-1, actions, last.weight.shape[1]).mean(axis=0)
    bias = last.bias.astype(np.float64).reshape(-1, actions).mean(axis=0)
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def _branches(extractor: Any, policy: Any, space: Any) -> tuple[Branch, ...]:
    """The parts of the flat observation, each with the layers of its own.

    The extractors of Stable-Baselines3 alone: what the ``forward`` of another does is not known.
    """
    from gymnasium.spaces import flatdim
    from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

    if type(extractor) in (FlattenExtractor, NatureCNN):
        return (_branch(extractor, policy.observation_space, space, 0, policy.normalize_images),)
    if type(extractor) is not CombinedExtractor:
        raise UnsupportedModelError(
            "this features extractor is not supported",
            expected="FlattenExtractor, NatureCNN or CombinedExtractor",
            got=type(extractor).__name__,
        )
    ends = dict(zip(space.spaces, np.cumsum([flatdim(part) for part in space.spaces.values()]), strict=True))
    made = []
    for key, part in extractor.extractors.items():
        inside, outside = policy.observation_space.spaces[key], space.spaces[key]
        branch = _branch(part, inside, outside, int(ends[key]) - flatdim(outside), policy.normalize_images)
        made.append(branch)
    return tuple(made)


def _branch(extractor: Any, inside: Any, outside: Any, start: int, normalize_images: bool) -> Branch:
    """One part.

    :param inside: its space as the policy has it
    :param outside: its space as the environment has it
    """
    from gymnasium.spaces import flatdim
    from stable_baselines3.common.preprocessing import is_image_space
    from stable_baselines3.common.torch_layers import NatureCNN

    branch = Branch(start, start + int(flatdim(outside)))
    convolutional = isinstance(extractor, NatureCNN)
    if not convolutional and not is_image_space(outside):
        return branch
    modules: list[nn.Module] = [extractor.cnn, extractor.linear] if convolutional else []
    layers = tuple(_plain(module, "NatureCNN") for module in flat_modules(modules)) or (FLATTEN,)
    divisor = 255.0 if normalize_images and is_image_space(inside) else 1.0
    turned = inside.shape != outside.shape
    return replace(branch, image=tuple(outside.shape), channels_last=turned, divisor=divisor, layers=layers)


def flat_modules(modules: list[nn.Module]) -> Iterator[nn.Module]:
    """The modules inside of sequences, in their order, without those that do nothing."""
    from torch import nn

    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from flat_modules(list(module))
        elif not isinstance(module, nn.Identity):
            yield module


def _plain(module: nn.Module, where: str) -> Layer:
    from torch import nn

    if isinstance(module, nn.Linear):
        return Linear(*_parameters(module))
    if isinstance(module, nn.Conv2d) and module.groups == 1 and set(_pair(module.dilation)) == {1}:
        assert not isinstance(module.padding, str)
        return Convolution(*_parameters(module), _pair(module.stride), _pair(module.padding))
    made = _FUNCTIONS.get(type(module).__name__)
    if made is None:
        name = type(module).__name__
        raise UnsupportedModelError(f"layer {name} is not supported", where=where, expected=SUPPORTED, got=module)
    return made(module)


_FUNCTIONS: dict[str, Any] = {
    "Flatten": lambda module: FLATTEN,
    "Tanh": lambda module: Function("Tanh"),
    "ReLU": lambda module: Function("Relu"),
    "Sigmoid": lambda module: Function("Sigmoid"),
    "ELU": lambda module: Function("Elu", {"alpha": float(module.alpha)}),
    "LeakyReLU": lambda module: Function("LeakyRelu", {"alpha": float(module.negative_slope)}),
    "ReLU6": lambda module: Function("Clip", bounds=(0.0, 6.0)),
    "Hardtanh": lambda module: Function("Clip", bounds=(float(module.min_val), float(module.max_val))),
}
"""torch module to what it is."""


def _parameters(module: Any) -> tuple[Floats, Floats]:
    weight = module.weight.detach().cpu().numpy().astype(np.float32)
    bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().cpu().numpy()
    return weight, bias.astype(np.float32)


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple) else (value, value)
    return int(first), int(second)
