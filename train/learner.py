"""Training by Stable-Baselines3 in chunks: after each the policy is evaluated and a checkpoint written."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.environment import current_id, open_environment
from policyport.core.errors import ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.core.progress import Advance, progress
from policyport.core.task import Environment
from policyport.train.agent import Agent
from policyport.train.config import TrainConfig
from policyport.train.normalization import of_trained
from policyport.train.precision import training_in
from policyport.train.spaces import check_spaces

if TYPE_CHECKING:
    from policyport.train.qat import QuantizedTraining
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

log = logging.getLogger(__name__)

SOLVED_EVALUATIONS = 2
"""Evaluations in a row that must reach the target return: one alone can be luck."""


@dataclass
class Learner:
    """A model, its environments and how far it has come."""

    model: BaseAlgorithm
    vecnormalize: VecNormalize | None
    curve: list[tuple[int, float]]
    """(environment steps, mean return) of each evaluation."""

    quantized: QuantizedTraining | None = None
    """From when on the policy acts by integers."""


def require_stable_baselines() -> None:
    """Say how to install what training needs.

    :raises ToolError: torch or Stable-Baselines3 is missing
    """
    try:
        import stable_baselines3  # noqa: F401 -- only to see that it is there
    except ImportError as error:
        raise ToolError("Stable-Baselines3 is not installed", got=error, cure=pip_install("[train]")) from error


def learn(config: TrainConfig, partial: Path, key: str) -> Learner:
    """Train until the target return is reached or the steps are spent; with ``qat_weights``, reached by the integers.

    The folder ``partial`` holds the last checkpoint; one with the same ``key`` is resumed from,
    another is removed.

    :raises ConfigError: an argument that the algorithm does not take, a device that is not there, or actors for an
        algorithm that they cannot collect for
    """
    _check_device(config.device)
    threshold = _reward_threshold(config.environment)
    target = threshold if config.target_return is None else config.target_return
    learner = _resume(config, partial, key) or _start(config)
    label = f"train {config.algorithm} on {config.environment}"
    with _collecting(config) as actors, progress(label, config.total_steps) as advance:
        while not _finished(learner, config, target):
            if _is_due(learner, config, target):
                _quantize(learner, config)
                continue
            before = learner.model.num_timesteps
            _begin_anew(learner.model, config.seed)
            callback = _progress_callback(advance, learner)
            with training_in(learner.model, config.precision), actors(learner.model):
                learner.model.learn(_chunk(learner, config), callback=callback, reset_num_timesteps=before == 0)
            mean = _evaluate(learner, config)
            learner.curve.append((learner.model.num_timesteps, mean))
            log.info("%d steps: mean return %.1f", learner.model.num_timesteps, mean)
            _checkpoint(learner, partial, key)
    return learner


def _begin_anew(model: BaseAlgorithm, seed: int) -> None:
    """Begin a chunk from what a checkpoint holds alone: fresh episodes, random generators seeded by the steps done.

    A training that was interrupted so ends with the weights of one that was not.
    """
    model.set_random_seed(seed + model.num_timesteps)
    model._last_obs = None  # the next chunk resets the environments


@contextmanager
def _collecting(config: TrainConfig) -> Iterator[Callable[[Any], AbstractContextManager[None]]]:
    """What collects experience for a model: actors, or the model itself."""
    if not config.actors:
        yield lambda _: nullcontext()
        return
    from policyport.train.actors import Actors

    with Actors(config) as actors:
        yield actors.collecting_for


def trained_agent(learner: Learner, config: TrainConfig) -> Agent:
    """What is exported of a learner that is done."""
    model, name = learner.model, current_id(config.environment)
    environment = open_environment(Environment(name))
    environment.close()
    integers = None if learner.quantized is None else learner.quantized.finish()
    return Agent(
        policy=model.policy,
        algorithm=type(model).__name__,
        environment=Environment(name),
        observation_space=environment.observation_space,
        normalization=of_trained(learner.vecnormalize, environment.observation_space),
        save=model.save,
        steps=model.num_timesteps,
        curve=tuple(learner.curve),
        integers=integers,
    )


def evaluation_environment(config: TrainConfig, learner: Learner) -> VecEnv:
    """One environment whose observations are as the model takes them."""
    environments = _environments(config, learner.vecnormalize is not None, count=1)
    if learner.vecnormalize is not None:
        normalizer = _normalizer(environments)
        assert normalizer is not None
        normalizer.obs_rms = learner.vecnormalize.obs_rms
        normalizer.training = normalizer.norm_reward = False
        if learner.quantized is not None:
            learner.quantized.snap(normalizer)
    return environments


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA GPU", where="device", expected="cpu", got=device, cure="--device cpu")


def _algorithm(config: TrainConfig) -> Any:
    import stable_baselines3

    return getattr(stable_baselines3, config.algorithm)


def _reward_threshold(environment: str) -> float | None:
    """The mean return at which Gymnasium calls the environment solved, where it says so."""
    made = open_environment(Environment(environment))
    made.close()
    threshold = made.spec.reward_threshold
    return None if threshold is None else float(threshold)


def _environments(config: TrainConfig, normalized: bool, count: int | None = None) -> VecEnv:
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    count = config.n_envs if count is None else count
    environments = make_vec_env(lambda: open_environment(Environment(config.environment)), count, seed=config.seed)
    check_spaces(environments.observation_space, environments.action_space)
    return VecNormalize(environments, norm_reward=False) if normalized else environments


def _normalizer(environments: VecEnv) -> VecNormalize | None:
    from stable_baselines3.common.vec_env import VecNormalize

    return environments if isinstance(environments, VecNormalize) else None


def _start(config: TrainConfig) -> Learner:
    from torch import nn

    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[config.activation]
    policy = {"net_arch": list(config.network), "activation_fn": activation}
    environments = _environments(config, config.normalize_observations)
    hyperparameters = dict(config.hyperparameters)
    noise = hyperparameters.pop("action_noise", None)
    if noise is not None:
        hyperparameters["action_noise"] = _action_noise(environments, float(noise))
    try:
        model = _algorithm(config)(
            _policy_name(environments.observation_space),
            environments,
            seed=config.seed,
            policy_kwargs=policy,
            device=config.device,
            **hyperparameters,
        )
    except TypeError as error:
        raise ConfigError(
            f"{config.algorithm} does not take these arguments", where="hyperparameters", got=error
        ) from error
    _keep_no_log(model)
    return Learner(model, _normalizer(environments), [])


def _keep_no_log(model: BaseAlgorithm) -> None:
    """Stable-Baselines3 would open a log folder among the temporary files for each chunk and leave it empty."""
    from stable_baselines3.common.logger import Logger

    model.set_logger(Logger(folder=None, output_formats=[]))


def _policy_name(observation_space: Any) -> str:
    from gymnasium.spaces import Dict
    from stable_baselines3.common.preprocessing import is_image_space

    if isinstance(observation_space, Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"


def _action_noise(environments: VecEnv, deviation: float) -> Any:
    """Gaussian exploration noise of TD3 and DDPG, in units of the squashed action."""
    import numpy as np
    from stable_baselines3.common.noise import NormalActionNoise

    shape = environments.action_space.shape
    assert shape is not None
    return NormalActionNoise(np.zeros(shape), np.full(shape, deviation))


def _finished(learner: Learner, config: TrainConfig, target: float | None) -> bool:
    if config.qat_weights is not None and learner.quantized is None:
        return False
    return learner.model.num_timesteps >= config.total_steps or _is_solved(learner, target)


def _is_solved(learner: Learner, target: float | None) -> bool:
    """Whether the last evaluations reached the target, all of them by integers where these are trained."""
    since = -1 if learner.quantized is None else learner.quantized.since_steps
    recent = [mean for steps, mean in learner.curve if steps > since][-SOLVED_EVALUATIONS:]
    return target is not None and len(recent) == SOLVED_EVALUATIONS and min(recent) >= target


def _is_due(learner: Learner, config: TrainConfig, target: float | None) -> bool:
    """Whether the policy is to act by integers from now on."""
    if config.qat_weights is None or learner.quantized is not None:
        return False
    return learner.model.num_timesteps >= _delay_steps(config) or _is_solved(learner, target)


def _delay_steps(config: TrainConfig) -> int:
    return round(config.qat_delay * config.total_steps)


def _chunk(learner: Learner, config: TrainConfig) -> int:
    """Environment steps to the next evaluation, less where integers are due or training ends before."""
    if config.qat_weights is None:
        return config.eval_every_steps
    end = config.total_steps if learner.quantized is not None else _delay_steps(config)
    return min(config.eval_every_steps, end - learner.model.num_timesteps)


def _quantize(learner: Learner, config: TrainConfig) -> None:
    from policyport.train.qat import start_quantized

    environments = evaluation_environment(config, learner)
    try:
        learner.quantized = start_quantized(learner.model, environments, config, learner.vecnormalize)
    finally:
        environments.close()


def _evaluate(learner: Learner, config: TrainConfig) -> float:
    from stable_baselines3.common.evaluation import evaluate_policy

    environment = evaluation_environment(config, learner)
    try:
        returns, _ = evaluate_policy(
            learner.model, environment, config.eval_episodes, deterministic=True, return_episode_rewards=True
        )
    finally:
        environment.close()
    assert isinstance(returns, list)
    return float(sum(returns) / len(returns))


def _progress_callback(advance: Advance, learner: Learner) -> Any:
    """A Stable-Baselines3 callback that tells the progress bar how many steps are done."""

    def report(local: dict[str, Any], _: dict[str, Any]) -> bool:
        note = f"return {learner.curve[-1][1]:.0f}" if learner.curve else ""
        advance(local["self"].num_timesteps, note)
        return True

    return report


def _checkpoint(learner: Learner, partial: Path, key: str) -> None:
    """Write the state whole under another name, then put it in place: a torn checkpoint is never seen."""
    from policyport.train.qat import STATE
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    fresh = partial.with_name(partial.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with nullcontext() if learner.quantized is None else learner.quantized.in_float():
        learner.model.save(fresh / "model.zip")
        if learner.vecnormalize is not None:
            learner.vecnormalize.save(str(fresh / "vecnormalize.pkl"))
    if learner.quantized is not None:
        learner.quantized.save(fresh / STATE)
    if isinstance(learner.model, OffPolicyAlgorithm):
        learner.model.save_replay_buffer(fresh / "replay.pkl")
    (fresh / "state.json").write_text(json.dumps({"key": key, "curve": learner.curve}))
    shutil.rmtree(partial, ignore_errors=True)
    fresh.rename(partial)


def _resume(config: TrainConfig, partial: Path, key: str) -> Learner | None:
    from policyport.train.qat import STATE, resume_quantized

    state_file = partial / "state.json"
    if not state_file.is_file():
        return None
    state = json.loads(state_file.read_text())
    if state["key"] != key:
        shutil.rmtree(partial)
        return None
    environments = _environments(config, config.normalize_observations)
    if config.normalize_observations:
        from stable_baselines3.common.vec_env import VecNormalize

        assert isinstance(environments, VecNormalize) and environments.venv is not None
        environments = VecNormalize.load(str(partial / "vecnormalize.pkl"), environments.venv)
    model = _algorithm(config).load(partial / "model.zip", env=environments, device=config.device)
    _keep_no_log(model)
    if (partial / "replay.pkl").is_file():
        model.load_replay_buffer(partial / "replay.pkl")
    curve = [(int(steps), float(mean)) for steps, mean in state["curve"]]
    log.info("resuming at %d steps", model.num_timesteps)
    learner = Learner(model, _normalizer(environments), curve)
    if (partial / STATE).is_file():
        learner.quantized = resume_quantized(model, partial / STATE, learner.vecnormalize)
    return learner


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads: for networks this small more than one is slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
