"""Quantization-aware training inside the loop of Stable-Baselines3, after a delay in float32.

As in QuaRL (Krishnan et al., 1910.01055): the policy trains in float until the quantization delay is over, ranges are
observed, and from then on it acts and learns through quantized weights and activations. Here these are the integers of
the integer network itself (:mod:`policyport.train.live`), with learned step sizes (LSQ).
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport.core.errors import UnsupportedModelError
from policyport.core.progress import progress
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats
from policyport.train.actor import Chain, actor_chain, extract_actor
from policyport.train.config import TrainConfig
from policyport.train.normalization import Normalization, of_trained
from policyport.train.own_states import start_integers

if TYPE_CHECKING:
    from policyport.train.live import LiveActor, Place
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

log = logging.getLogger(__name__)

STATE = "qat.pkl"
"""Of a checkpoint: what the zip of Stable-Baselines3 has no place for."""


@dataclass
class QuantizedTraining:
    """A policy that acts and learns by integers."""

    network: QuantizedNetwork
    """What training began with, on observations as the policy is given them."""

    features: Floats
    """[n, inputs]: what the policy saw when ranges were chosen."""

    since_steps: int
    """Environment steps before."""

    actors: list[LiveActor]
    """What acts, then its target network where it has one."""

    optimizer: Any
    vecnormalize: VecNormalize | None = None
    """Of the environments that training plays in."""

    @contextmanager
    def in_float(self) -> Iterator[None]:
        """The policy and its environments as Stable-Baselines3 knows them, for as long as they are saved."""
        group = self.optimizer.param_groups.pop()
        kept = {step: self.optimizer.state.pop(step) for step in group["params"] if step in self.optimizer.state}
        self._swap_out()
        try:
            yield
        finally:
            for actor in self.actors:
                actor.swap_in()
            self.snap(self.vecnormalize)
            self.optimizer.param_groups.append(group)
            self.optimizer.state.update(kept)

    def save(self, path: Path) -> None:
        """Write what going on needs beside the zip."""
        state = {
            "network": self.network,
            "features": self.features,
            "since_steps": self.since_steps,
            "exponents": [actor.exponents.detach().clone() for actor in self.actors],
            "optimizer": self.optimizer.state_dict(),
        }
        path.write_bytes(pickle.dumps(state))

    def finish(self) -> QuantizedNetwork:
        """The trained integers, on observations as the environment gives them.

        The policy is float again, with the values that they stand for as its weights.

        :raises ParityError: the integers are not those that the policy acted by
        """
        network = self.actors[0].fake.settled(self.features)
        for actor in self.actors:
            actor.settle()
        self._swap_out()
        return self._outside(network, self.vecnormalize)

    def snap(self, vecnormalize: VecNormalize | None) -> None:
        """Let normalised observations be those that the board's input integers stand for, bit for bit."""
        if vecnormalize is None:
            return
        outside, inside = self._outside(self.network, vecnormalize), self.network.prefix

        def normalize_obs(observations: Any) -> Any:
            source = outside.input
            real = source.dequantize(source.quantize(outside.prefix.apply(np.asarray(observations, np.float32))))
            return real / inside.gain + inside.offset

        vars(vecnormalize)["normalize_obs"] = normalize_obs

    def _outside(self, network: QuantizedNetwork, vecnormalize: VecNormalize | None) -> QuantizedNetwork:
        """The network on observations as the environment gives them."""
        by = None if vecnormalize is None else of_trained(vecnormalize, vecnormalize.observation_space)
        return network if by is None else replace(network, prefix=_composed(network.prefix, by))

    def _swap_out(self) -> None:
        for actor in self.actors:
            actor.swap_out()
        if self.vecnormalize is not None:
            vars(self.vecnormalize).pop("normalize_obs", None)


def start_quantized(
    model: BaseAlgorithm, environments: VecEnv, config: TrainConfig, vecnormalize: VecNormalize | None
) -> QuantizedTraining:
    """Observe ranges, quantize the actor, and let the policy go on by the integers.

    :param environments: one, its observations as the policy takes them
    :param vecnormalize: of the environments that training plays in; its statistics stay from now on as they are
    :raises UnsupportedModelError: a policy with anything but fully connected layers
    """
    if vecnormalize is not None:
        vecnormalize.training = False  # The integers know one mean and deviation.
    features = observed_features(model, environments, config)
    graph = actor_graph(model.policy, None if vecnormalize is None else float(vecnormalize.clip_obs))
    network = start_integers(graph, features, config)
    training = _assembled(model, network, features, model.num_timesteps, vecnormalize)
    for actor in training.actors:
        actor.start()
    log.info("from %d steps on the policy acts by integers of %s bits", model.num_timesteps, config.qat_weights)
    return training


def resume_quantized(model: BaseAlgorithm, path: Path, vecnormalize: VecNormalize | None) -> QuantizedTraining:
    """Go on from a checkpoint that :meth:`QuantizedTraining.save` wrote beside the model's zip."""
    import torch

    state = pickle.loads(path.read_bytes())
    training = _assembled(model, state["network"], state["features"], state["since_steps"], vecnormalize)
    with torch.no_grad():
        for actor, exponents in zip(training.actors, state["exponents"], strict=True):
            actor.exponents.copy_(exponents)
    training.optimizer.load_state_dict(state["optimizer"])
    return training


def observed_features(model: BaseAlgorithm, environments: VecEnv, config: TrainConfig) -> Floats:
    """What the actor is given while the policy plays, now and then at random: [calibration_steps, inputs]."""
    import torch
    from stable_baselines3.common.preprocessing import preprocess_obs

    policy = model.policy
    extractor = actor_chain(policy).extractor
    random = np.random.default_rng(config.seed)
    environments.action_space.seed(config.seed)
    observation: Any = environments.reset()
    rows: list[Floats] = []
    with progress("observe ranges", config.calibration_steps) as advance:
        while len(rows) < config.calibration_steps:
            tensor, _ = policy.obs_to_tensor(observation)
            with torch.no_grad():
                given = preprocess_obs(tensor, policy.observation_space, policy.normalize_images)
                rows.append(extractor(given).cpu().numpy()[0])
            action, _ = model.predict(observation, deterministic=True)
            if random.random() < config.exploration:
                action = np.array([environments.action_space.sample()])
            observation, *_ = environments.step(action)
            advance(len(rows))
    return np.array(rows, np.float32)


def actor_graph(policy: BasePolicy, limit: float | None) -> FloatGraph:
    """The actor as a float graph, by the way that an export goes.

    :param limit: of normalised observations, where they are
    """
    from policyport.quantize.onnx_reader import read_onnx
    from policyport.quantize.transforms import centre_outputs
    from policyport.train.onnx_writer import write_actor
    from stable_baselines3.common.torch_layers import FlattenExtractor

    chain = actor_chain(policy)
    if type(chain.extractor) is not FlattenExtractor:
        raise UnsupportedModelError(
            "training by integers takes observations that are vectors",
            expected="FlattenExtractor",
            got=type(chain.extractor).__name__,
            cure="train in float32 and quantize with --method qat",
        )
    with TemporaryDirectory() as folder:
        path = Path(folder, "policy.onnx")
        write_actor(extract_actor(policy, policy.observation_space), path, type(policy).__name__)
        graph = read_onnx(path)
    if limit is not None:
        graph = replace(graph, prefix=replace(HostPrefix.identity(graph.input_shape), low=-limit, high=limit))
    return centre_outputs(graph) if chain.rule == "argmax" else graph


def _assembled(
    model: BaseAlgorithm,
    network: QuantizedNetwork,
    features: Floats,
    since_steps: int,
    vecnormalize: VecNormalize | None,
) -> QuantizedTraining:
    """The modules swapped, the steps of what acts among what the optimizer moves."""
    from policyport.train.live import LiveActor

    chain = actor_chain(model.policy)
    choices = network.output.size if chain.rule == "argmax" else 0
    values = chain.kind in ("DQNPolicy", "QRDQNPolicy")
    actors = [LiveActor(network, found, choices=choices, values=values) for found in _places(chain, model.policy)]
    optimizer = getattr(model.policy, "actor", model.policy).optimizer
    optimizer.add_param_group({"params": [actors[0].exponents]})
    training = QuantizedTraining(network, features, since_steps, actors, optimizer, vecnormalize)
    for actor in actors:
        actor.swap_in()
        if vecnormalize is not None:  # What the environment gives lies on the input's grid, which cannot move then.
            actor.fake.steps.shares[actor.fake.steps.index[network.input_name]] = 0.0
    training.snap(vecnormalize)
    return training


def _places(chain: Chain, policy: Any) -> list[list[Place]]:
    """Where the modules of the actor sit, and those of its target network where it has one."""
    from policyport.train.live import Place

    match chain.kind:
        case "ActorCriticPolicy":
            return [[Place(policy.mlp_extractor, "policy_net"), Place(policy, "action_net")]]
        case "DQNPolicy":
            return [[Place(network, "q_net")] for network in (policy.q_net, policy.q_net_target)]
        case "QRDQNPolicy":
            networks = policy.quantile_net, policy.quantile_net_target
            return [[Place(network, "quantile_net")] for network in networks]
        case "TD3Policy":
            return [[Place(network, "mu")] for network in (policy.actor, policy.actor_target)]
        case "SACPolicy" | "TQCPolicy":
            return [[Place(policy.actor, "latent_pi"), Place(policy.actor, "mu")]]
    raise UnsupportedModelError(
        "quantization-aware training learns by gradients", expected="PPO, A2C, DQN, DDPG, TD3, SAC", got=chain.kind
    )


def _composed(prefix: HostPrefix, by: Normalization) -> HostPrefix:
    """What the host does to observations as they come, where ``prefix`` takes normalised ones.

    No range of the network's input reaches beyond the clip of the normalization, so that is no longer needed.
    """
    offset = by.mean + prefix.offset.astype(np.float64) * by.deviation
    gain = prefix.gain.astype(np.float64) / by.deviation
    return replace(prefix, offset=offset.astype(np.float32), gain=gain.astype(np.float32))
