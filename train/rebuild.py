"""A policy of Stable-Baselines3 built anew from a zip: its class and options by name, its shape from the weights.

Nothing of the file runs, and nothing but the actor is taken over, so zips of any age load: what changed between
versions lies in the parts that are left out (schedules, buffers, optimizers, critics).
"""

from __future__ import annotations

import importlib
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.environment import current_id
from policyport.core.errors import ArtifactError, ConfigError, ToolError, UnsupportedModelError
from policyport.core.install import pip_install
from policyport.core.task import Environment
from policyport.train.actor import REFUSED
from policyport.train.agent import Agent
from policyport.train.normalization import read_statistics
from policyport.train.saved import ClassName, SavedAgent
from policyport.train.spaces import check_spaces, space_of
from policyport.train.surroundings import as_trained

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy

log = logging.getLogger(__name__)

Weights = dict[str, Any]
"""Name to tensor."""


@dataclass(frozen=True)
class Family:
    """Policies that are built and read alike."""

    policy: str
    """Class, as ``module:name``."""

    actor: tuple[str, ...]
    """Beginnings of the names of the weights that ``predict`` needs."""

    arguments: Callable[[SavedAgent, Weights], dict[str, Any]]
    """Constructor arguments that only these policies have, or whose values the weights give."""

    algorithm: Callable[[SavedAgent], str]


def read_agent(path: Path, environment: str, vecnormalize: Path | None = None, *, pickle: bool = True) -> Agent:
    """An agent out of a zip.

    :param environment: id of the environment; a version since replaced is found under its successor
    :param vecnormalize: statistics that belong to it
    :param pickle: whether pickled parts may be read, as inert data
    :raises ConfigError: no such file or environment, or one that the agent was not trained in
    :raises ArtifactError: the zip does not read as an agent
    :raises UnsupportedModelError: a policy of another kind; it is named
    :raises ToolError: sb3-contrib is not installed
    """
    if not environment:
        raise ConfigError("no environment given", where=path, expected="--environment with the id it was trained in")
    name = current_id(environment)
    if not path.is_file():
        raise ConfigError("no such file", where="agent", got=path)
    saved = SavedAgent(path, pickle=pickle)
    family = _family(saved)
    spaces = [space_of(saved.value(key), f"{path}, {key}") for key in ("observation_space", "action_space")]
    check_spaces(*spaces)
    policy = _policy(saved, family, *spaces)
    described, outside = as_trained(Environment(name), *spaces)
    _warn_of_statistics(path, vecnormalize)
    normalization = read_statistics(vecnormalize, outside, pickle=pickle) if vecnormalize is not None else None
    _announce(saved, vecnormalize if pickle else None)
    return Agent(
        policy=policy,
        algorithm=family.algorithm(saved),
        environment=described,
        observation_space=outside,
        normalization=normalization,
        save=partial(shutil.copyfile, path),
        steps=int(saved.value("num_timesteps", 0)),
    )


STATISTICS = "vecnormalize.pkl"
"""Under this name the zoo of Stable-Baselines3 puts statistics beside an agent."""


def _warn_of_statistics(path: Path, given: Path | None) -> None:
    beside = path.with_name(STATISTICS)
    if given is None and beside.is_file():
        log.warning("statistics lie beside the agent and are not used; to use them: --vecnormalize %s", beside)


def _announce(saved: SavedAgent, vecnormalize: Path | None) -> None:
    """One line on what was unpickled."""
    names = [f"{saved.path.name}: {', '.join(saved.unpickled)}"] if saved.unpickled else []
    names += [vecnormalize.name] if vecnormalize is not None and vecnormalize.suffix != ".npz" else []
    if names:
        log.warning("unpickled as inert data, none of its code was run: %s", "; ".join(names))


def _family(saved: SavedAgent) -> Family:
    module, _, name = saved.policy_class.rpartition(".")
    if module in _FAMILIES:
        return _FAMILIES[module]
    raise UnsupportedModelError(
        "this policy is not supported",
        where=saved.path,
        expected="a policy of PPO, A2C, DQN, DDPG, TD3, SAC, QR-DQN, TQC, ARS or TRPO",
        got=REFUSED.get(name, saved.policy_class),
    )


def _policy(saved: SavedAgent, family: Family, observation_space: Any, action_space: Any) -> BasePolicy:
    weights = _without_shared_layers(saved.weights())
    arguments = _common(saved, weights) | family.arguments(saved, weights)
    policy: BasePolicy = _class_of(family)(observation_space, action_space, *_schedule(family), **arguments)
    needed = {name: value for name, value in weights.items() if _is_needed(name, family)}
    try:
        result = policy.load_state_dict(needed, strict=False)
    except RuntimeError as error:
        raise ArtifactError("weights of another shape", where=saved.path, got=" ".join(str(error).split())) from error
    wrong = [*result.unexpected_keys, *(name for name in result.missing_keys if _is_needed(name, family))]
    if wrong:
        raise UnsupportedModelError(
            "weights that the policy does not have, or the other way round", where=saved.path, got=", ".join(wrong)
        )
    policy.set_training_mode(False)
    return policy


def _class_of(family: Family) -> Any:
    module, _, name = family.policy.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ToolError(
            "sb3-contrib is not installed, and this agent is of it", got=error, cure=pip_install("[contrib]")
        ) from error


def _schedule(family: Family) -> tuple[Any, ...]:
    """The learning rate, which all constructors but that of ARS ask for."""
    return () if "ars" in family.policy else (lambda _: 0.0,)


def _is_needed(name: str, family: Family) -> bool:
    return name.startswith(family.actor) and not name.startswith(("actor.log_std", "actor.latent_sde"))


def _without_shared_layers(weights: Weights) -> Weights:
    """Policies before SB3 1.8 could have layers that actor and critic share; they come first in the actor."""
    shared = [name for name in weights if name.startswith("mlp_extractor.shared_net.")]
    depth = 2 * len({name.split(".")[2] for name in shared})
    if not depth:
        return weights

    def moved(name: str) -> str:
        found = re.fullmatch(r"mlp_extractor\.(shared_net|policy_net)\.(\d+)\.(\w+)", name)
        if found is None:
            return name
        index = int(found[2]) + (depth if found[1] == "policy_net" else 0)
        return f"mlp_extractor.policy_net.{index}.{found[3]}"

    return {moved(name): value for name, value in weights.items()}


IRRELEVANT = {
    *("net_arch", "ortho_init", "log_std_init", "full_std", "use_expln", "optimizer_class", "optimizer_kwargs"),
    *("n_critics", "n_quantiles", "use_sde", "device", "sde_net_arch", "share_features_extractor", "with_bias"),
}
"""Policy arguments that the deterministic action does not depend on, or that the weights give."""

FUNCTIONS = ("Tanh", "ReLU", "Sigmoid", "ELU", "LeakyReLU", "ReLU6", "Hardtanh")
EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")


def _common(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    """Constructor arguments that all policies have."""
    given = saved.table("policy_kwargs")
    arguments: dict[str, Any] = {}
    for name, value in given.items():
        if name == "activation_fn":
            arguments[name] = _known(value, "torch.nn", FUNCTIONS, saved)
        elif name == "features_extractor_class":
            arguments[name] = _known(value, "stable_baselines3.common.torch_layers", EXTRACTORS, saved)
        elif name in ("features_extractor_kwargs", "normalize_images", "squash_output", "clip_mean"):
            arguments[name] = value
        elif name not in IRRELEVANT:
            raise UnsupportedModelError(
                "a policy argument that is not known", where=f"{saved.path}, policy_kwargs", got=f"{name}={value}"
            )
    return arguments | _extractor(arguments, weights)


def _known(value: Any, module: str, names: tuple[str, ...], saved: SavedAgent) -> Any:
    """The class of that name, out of those that may be named."""
    name = str(value).rpartition(".")[2]
    if not isinstance(value, ClassName) or name not in names or not value.startswith(module):
        where = f"{saved.path}, policy_kwargs"
        raise UnsupportedModelError("this class is not supported", where=where, expected=", ".join(names), got=value)
    return getattr(importlib.import_module(module), name)


def _extractor(arguments: dict[str, Any], weights: Weights) -> dict[str, Any]:
    """The features extractor as the weights have it, where the policy's class chose it."""
    from stable_baselines3.common import torch_layers

    options = dict(arguments.get("features_extractor_kwargs") or {})
    cnn = next((name for name in weights if name.endswith("features_extractor.linear.0.weight")), None)
    joined = next(
        (name for name in weights if re.search(r"features_extractor\.extractors\..*linear\.0\.weight$", name)), None
    )
    if cnn is not None:
        options["features_dim"] = len(weights[cnn])
        return {"features_extractor_class": torch_layers.NatureCNN, "features_extractor_kwargs": options}
    if joined is not None:
        options["cnn_output_dim"] = len(weights[joined])
        return {"features_extractor_class": torch_layers.CombinedExtractor, "features_extractor_kwargs": options}
    return {}


def _widths(weights: Weights, prefix: str) -> list[int]:
    """Outputs of each fully connected layer of a network, in order."""
    found = {int(name.split(".")[-2]): len(value) for name, value in weights.items() if _is_layer(name, prefix)}
    return [found[index] for index in sorted(found)]


def _is_layer(name: str, prefix: str) -> bool:
    return re.fullmatch(re.escape(prefix) + r"\d+\.weight", name) is not None


def _of_actor_critic(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    hidden = _widths(weights, "mlp_extractor.policy_net.")
    return {"net_arch": {"pi": hidden, "vf": [8]}, "use_sde": bool(saved.value("use_sde", False))}


def _of_q_network(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    return {"net_arch": _widths(weights, "q_net.q_net.")[:-1]}


def _of_quantiles(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    *hidden, outputs = _widths(weights, "quantile_net.quantile_net.")
    actions = int(space_of(saved.value("action_space"), saved.path).n)
    return {"net_arch": hidden, "n_quantiles": outputs // actions}


def _of_deterministic(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    return {"net_arch": {"pi": _widths(weights, "actor.mu.")[:-1], "qf": [8]}}


def _of_squashed(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    stated = {"use_sde": bool(saved.table("policy_kwargs").get("use_sde", False))}
    unbounded = {"clip_mean": 0.0} if stated["use_sde"] and "actor.mu.weight" in weights else {}
    return {"net_arch": {"pi": _widths(weights, "actor.latent_pi."), "qf": [8]}, **stated, **unbounded}


def _of_random_search(saved: SavedAgent, weights: Weights) -> dict[str, Any]:
    linear = saved.policy_class.endswith(".ARSLinearPolicy")
    bias = any(name.startswith("action_net.") and name.endswith(".bias") for name in weights)
    squash = saved.table("policy_kwargs").get("squash_output", not linear)
    return {"net_arch": _widths(weights, "action_net.")[:-1], "with_bias": bias, "squash_output": squash}


def _on_policy_name(saved: SavedAgent) -> str:
    return "PPO" if "clip_range" in saved else "TRPO" if "cg_max_steps" in saved else "A2C"


def _td3_name(saved: SavedAgent) -> str:
    single = saved.value("policy_delay") == 1 and saved.table("policy_kwargs").get("n_critics") == 1
    return "DDPG" if single else "TD3"


_ACTOR_CRITIC = Family(
    "stable_baselines3.common.policies:ActorCriticPolicy",
    ("features_extractor.", "mlp_extractor.policy_net.", "action_net."),
    _of_actor_critic,
    _on_policy_name,
)

_FAMILIES = {
    "stable_baselines3.common.policies": _ACTOR_CRITIC,
    "stable_baselines3.ppo.policies": _ACTOR_CRITIC,
    "stable_baselines3.a2c.policies": _ACTOR_CRITIC,
    "stable_baselines3.dqn.policies": Family(
        "stable_baselines3.dqn.policies:DQNPolicy", ("q_net.",), _of_q_network, lambda _: "DQN"
    ),
    "stable_baselines3.td3.policies": Family(
        "stable_baselines3.td3.policies:TD3Policy", ("actor.",), _of_deterministic, _td3_name
    ),
    "stable_baselines3.sac.policies": Family(
        "stable_baselines3.sac.policies:SACPolicy", ("actor.",), _of_squashed, lambda _: "SAC"
    ),
    "sb3_contrib.qrdqn.policies": Family(
        "sb3_contrib.qrdqn.policies:QRDQNPolicy", ("quantile_net.",), _of_quantiles, lambda _: "QRDQN"
    ),
    "sb3_contrib.tqc.policies": Family(
        "sb3_contrib.tqc.policies:TQCPolicy", ("actor.",), _of_squashed, lambda _: "TQC"
    ),
    "sb3_contrib.ars.policies": Family(
        "sb3_contrib.ars.policies:ARSPolicy", ("action_net.",), _of_random_search, lambda _: "ARS"
    ),
}
"""Module of the policy's class to how it is built."""
