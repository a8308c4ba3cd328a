"""The deterministic actor inside a Stable-Baselines3 model, as plain arrays.

What ``predict(deterministic=True)`` computes is a chain of linear layers and activation functions, and
a rule that makes an action of its output. Value heads, log probabilities and exploration stay behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.task import ActionRule

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecNormalize
    from torch import nn

ACTIVATIONS = ("Tanh", "ReLU", "Sigmoid")
"""torch modules that may stand between linear layers."""

SUPPORTED = "MlpPolicy with Linear, Tanh, ReLU and Sigmoid layers"


@dataclass(frozen=True)
class Linear:
    """A fully connected layer."""

    weight: NDArray[np.float32]
    """[outputs, inputs]"""

    bias: NDArray[np.float32]
    """[outputs]"""


@dataclass(frozen=True)
class Normalization:
    """VecNormalize on observations: ``clip((x - mean) / deviation, -limit, limit)``."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    limit: float


@dataclass(frozen=True)
class Actor:
    """A deterministic policy as a chain."""

    layers: tuple[Linear | str, ...]
    """Linear layers, and names out of :data:`ACTIVATIONS` between and after them."""

    action_rule: ActionRule
    normalization: Normalization | None

    @property
    def linear(self) -> tuple[Linear, ...]:
        """Its fully connected layers."""
        return tuple(layer for layer in self.layers if isinstance(layer, Linear))


def extract_actor(model: BaseAlgorithm, vecnormalize: VecNormalize | None = None) -> Actor:
    """The deterministic actor of a trained model.

    :param vecnormalize: the statistics that observations were normalised with, where they were
    :raises UnsupportedModelError: images, dictionaries, recurrent or state-dependent policies, other layers
    """
    check_spaces(model.observation_space, model.action_space)
    _check_extractor(model.policy)
    name = type(model).__name__
    if name not in _CHAINS:
        raise UnsupportedModelError("no such algorithm", expected=", ".join(_CHAINS), got=name)
    modules, rule = _CHAINS[name](model.policy)
    layers = tuple(_plain(module, name) for module in _flat(modules))
    return Actor(layers, rule, _normalization(vecnormalize))


def _on_policy(policy: Any) -> tuple[list[nn.Module], ActionRule]:
    """PPO and A2C: logits of a Categorical, or the mean of a Gaussian."""
    from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution

    if isinstance(policy.action_dist, CategoricalDistribution):
        rule: ActionRule = "argmax"
    elif isinstance(policy.action_dist, DiagGaussianDistribution) and not policy.squash_output:
        rule = "clip"
    else:
        raise UnsupportedModelError(
            "no such action distribution",
            expected="categorical or diagonal Gaussian",
            got=type(policy.action_dist).__name__,
        )
    return [policy.mlp_extractor.policy_net, policy.action_net], rule


def _q_network(policy: Any) -> tuple[list[nn.Module], ActionRule]:
    """DQN: one Q value per action."""
    return [policy.q_net.q_net], "argmax"


def _squashed_gaussian(policy: Any) -> tuple[list[nn.Module], ActionRule]:
    """SAC: the tanh of the mean."""
    from torch import nn

    if policy.actor.use_sde:
        raise UnsupportedModelError(
            "generalized state-dependent exploration is not supported", expected=SUPPORTED, got="SAC with use_sde=True"
        )
    return [policy.actor.latent_pi, policy.actor.mu, nn.Tanh()], "scale"


def _deterministic(policy: Any) -> tuple[list[nn.Module], ActionRule]:
    """TD3 and DDPG: an actor that ends in tanh."""
    return [policy.actor.mu], "scale"


_CHAINS = {
    "PPO": _on_policy,
    "A2C": _on_policy,
    "DQN": _q_network,
    "SAC": _squashed_gaussian,
    "TD3": _deterministic,
    "DDPG": _deterministic,
}


def _flat(modules: list[nn.Module]) -> Iterator[nn.Module]:
    from torch import nn

    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _flat(list(module))
        elif not isinstance(module, (nn.Flatten, nn.Identity)):
            yield module


def _plain(module: nn.Module, algorithm: str) -> Linear | str:
    from torch import nn

    name = type(module).__name__
    if isinstance(module, nn.Linear):
        weight = module.weight.detach().cpu().numpy().astype(np.float32)
        bias = np.zeros(len(weight), np.float32) if module.bias is None else module.bias.detach().cpu().numpy()
        return Linear(weight, bias.astype(np.float32))
    if name in ACTIVATIONS:
        return name
    raise UnsupportedModelError(
        f"layer {name} is not supported", where=f"{algorithm} actor", expected=SUPPORTED, got=name
    )


def check_spaces(observation_space: Any, action_space: Any) -> None:
    """Refuse an environment whose observations or actions no policy here can take.

    :raises UnsupportedModelError: anything but Box observations of numbers and Discrete or Box actions
    """
    from gymnasium.spaces import Box, Discrete
    from stable_baselines3.common.preprocessing import is_image_space

    if not isinstance(observation_space, Box) or is_image_space(observation_space):
        raise UnsupportedModelError(
            "observations of this kind are not supported", expected="a Box of numbers", got=observation_space
        )
    if not isinstance(action_space, (Box, Discrete)):
        raise UnsupportedModelError(
            "actions of this kind are not supported", expected="Discrete or Box", got=action_space
        )


def _check_extractor(policy: Any) -> None:
    from stable_baselines3.common.torch_layers import FlattenExtractor

    extractor = policy.features_extractor_class
    if extractor is not FlattenExtractor:
        raise UnsupportedModelError(
            "this features extractor is not supported", expected=SUPPORTED, got=extractor.__name__
        )


def _normalization(vecnormalize: VecNormalize | None) -> Normalization | None:
    from stable_baselines3.common.running_mean_std import RunningMeanStd

    if vecnormalize is None or not vecnormalize.norm_obs:
        return None
    statistics = vecnormalize.obs_rms
    if not isinstance(statistics, RunningMeanStd):
        raise UnsupportedModelError("statistics of dictionary observations are not supported", expected="a Box")
    return Normalization(
        statistics.mean.astype(np.float32).ravel(),
        np.sqrt(statistics.var + vecnormalize.epsilon).astype(np.float32).ravel(),
        float(vecnormalize.clip_obs),
    )
