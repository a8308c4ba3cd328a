"""The train stage: a policy from an environment, and everything that later stages need to know of it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import Artifact, ArtifactWriter, code_version, open_artifact, stage_key, write_artifact
from policyport.core.options import to_table
from policyport.train.config import TrainConfig

if TYPE_CHECKING:
    from policyport.core.task import Task
    from policyport.train.actor import Actor
    from policyport.train.learner import Learner

_ROOT = Path(__file__).resolve().parent
CODE = (_ROOT, _ROOT.parent / "core")
"""Source folders that this stage's key depends on."""

_FINITE = 1e6
"""Bounds of an observation beyond this are no bounds; ``task.json`` holds this instead of infinity."""


def train(config: TrainConfig, out: Path) -> Artifact:
    """Train a policy, or take a trained one, and export its deterministic actor.

    Writes ``policy.onnx``, ``task.json``, ``observations.npz``, ``returns.json``, ``curve.csv`` and
    ``model.zip``. Interrupted, it leaves ``<out>.partial`` and resumes from there.

    :raises ConfigError: unknown environment or argument
    :raises UnsupportedModelError: a policy that is no chain of fully connected layers
    :raises ParityError: the export does not choose what ``predict`` chooses
    :raises ToolError: Stable-Baselines3 is not installed
    """
    from policyport.train.learner import learn, load_agent, require_stable_baselines, torch_threads

    require_stable_baselines()
    inputs = _inputs(config)
    code = code_version(*CODE)
    partial = out.with_name(out.name + ".partial")
    key = stage_key("train", inputs, to_table(config), code)
    with torch_threads(config.threads):
        learner = load_agent(config) if config.agent is not None else learn(config, partial, key)
        with write_artifact(out, "train", inputs=inputs, config=to_table(config), code=code) as writer:
            _export(config, learner, writer)
    shutil.rmtree(partial, ignore_errors=True)
    return open_artifact(out, "train")


def _inputs(config: TrainConfig) -> dict[str, str]:
    from policyport.core.artifact import sha256_file

    files = {"agent": config.agent, "vecnormalize": config.vecnormalize}
    return {name: sha256_file(file) for name, file in files.items() if file is not None and file.is_file()}


def _export(config: TrainConfig, learner: Learner, writer: ArtifactWriter) -> None:
    import numpy as np
    from policyport.train.actor import extract_actor
    from policyport.train.check import check_export
    from policyport.train.learner import write_curve
    from policyport.train.onnx_writer import write_actor
    from policyport.train.rollouts import onnx_policy, record_observations

    actor = extract_actor(learner.model, learner.vecnormalize)
    task = _task(config, learner, actor)
    path = writer.path / "policy.onnx"
    write_actor(actor, path, task.name)
    task.write(writer.path / "task.json")
    act = onnx_policy(path, task)
    # Seeds far from the evaluation's and from each other's, so that no episode is seen twice.
    seeds = (config.evaluation_seed + 1_000_000, config.evaluation_seed + 2_000_000)
    observations, held_out = (
        record_observations(act, config.environment, seed, config.calibration_steps, share)
        for seed, share in zip(seeds, (config.exploration, 0.0), strict=True)
    )
    np.savez_compressed(writer.path / "observations.npz", observations=observations, held_out=held_out)
    check = check_export(path, task, learner.model, learner.vecnormalize, np.concatenate([observations, held_out]))
    learner.model.save(writer.path / "model.zip")
    write_curve(learner.curve, writer.path / "curve.csv")
    returns = _returns(config, act)
    (writer.path / "returns.json").write_text(json.dumps(returns, indent=2) + "\n")
    writer.tools.update(task.environment.versions)
    writer.figures.update(
        steps=learner.model.num_timesteps,
        mean_return=returns["mean"],
        return_deviation=returns["seed_to_seed_std"],
        parameters=sum(layer.weight.size + layer.bias.size for layer in actor.linear),
        predict_check=dataclasses.asdict(check),
    )


def _returns(config: TrainConfig, act: Any) -> dict[str, Any]:
    """The float policy's return for each evaluation seed, and their mean and standard deviation."""
    from policyport.train.rollouts import seeded_returns

    seeds = [config.evaluation_seed + episode for episode in range(config.evaluation_episodes)]
    returns = seeded_returns(act, config.environment, config.evaluation_seed, config.evaluation_episodes)
    mean = sum(returns) / len(returns)
    spread = math.sqrt(sum((value - mean) ** 2 for value in returns) / max(1, len(returns) - 1))
    return {"seeds": seeds, "returns": returns, "mean": mean, "seed_to_seed_std": spread}


def _task(config: TrainConfig, learner: Learner, actor: Actor) -> Task:
    from gymnasium.spaces import Box
    from policyport.core.task import Environment, Task

    observation, action = learner.model.observation_space, learner.model.action_space
    assert isinstance(observation, Box)
    low, high = (_bounds(action.low), _bounds(action.high)) if isinstance(action, Box) else ((), ())
    algorithm = type(learner.model).__name__
    return Task(
        kind="policy",
        name=f"{algorithm}-{config.environment}",
        environment=Environment(config.environment, versions=_versions()),
        observation_size=actor.linear[0].weight.shape[1],
        observation_low=_bounds(observation.low),
        observation_high=_bounds(observation.high),
        output_size=actor.linear[-1].weight.shape[0],
        action_rule=actor.action_rule,
        action_low=low,
        action_high=high,
        action_shape=tuple(action.shape) if isinstance(action, Box) else (),
        algorithm=algorithm,
    )


def _bounds(values: Any) -> tuple[float, ...]:
    return tuple(max(-_FINITE, min(_FINITE, float(value))) for value in values.ravel())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "stable-baselines3", "gymnasium", "numpy", "onnx")}
