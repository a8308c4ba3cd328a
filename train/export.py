"""An agent as the files of an artifact: network, task, observations, returns, zip."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import ArtifactWriter
from policyport.train.config import ExportConfig

if TYPE_CHECKING:
    from policyport.core.task import Task
    from policyport.train.actor import Actor
    from policyport.train.agent import Agent
    from policyport.train.rollouts import Begin

_FINITE = 1e6
"""Bounds of an observation beyond this are no bounds; ``task.json`` holds this instead of infinity."""

_RECORDED = 1 << 24
"""Elements of the recorded observations at most: images are recorded in smaller number."""


def export_agent(agent: Agent, config: ExportConfig, writer: ArtifactWriter) -> None:
    """Write ``policy.onnx``, ``task.json``, ``observations.npz``, ``returns.json``, ``curve.csv``, ``model.zip``.

    ``integers.npz`` too, where integers were trained.

    :raises UnsupportedModelError: a policy with something in it that cannot be exported
    :raises ParityError: the export does not choose what ``predict`` chooses
    """
    import numpy as np
    from policyport.quantize.trained import INTEGERS, write_trained
    from policyport.train.actor import extract_actor
    from policyport.train.check import check_export
    from policyport.train.onnx_writer import write_actor
    from policyport.train.rollouts import onnx_policy, record_observations

    actor = extract_actor(agent.policy, agent.observation_space, agent.normalization)
    task = _task(agent, actor)
    path = writer.path / "policy.onnx"
    write_actor(actor, path, task.name)
    task.write(writer.path / "task.json")
    act = onnx_policy(path, task)
    # Seeds far from the evaluation's and from each other's, so that no episode is seen twice.
    seeds = (config.evaluation_seed + 1_000_000, config.evaluation_seed + 2_000_000)
    count = min(config.calibration_steps, max(16, _RECORDED // task.observation_size))
    (observations, _), (held_out, _) = (
        record_observations(lambda: act, task.environment, seed, count, share)
        for seed, share in zip(seeds, (config.exploration, 0.0), strict=True)
    )
    np.savez_compressed(writer.path / "observations.npz", observations=observations, held_out=held_out)
    check = check_export(path, task, agent, np.concatenate([observations, held_out]))
    agent.save(writer.path / "model.zip")
    if agent.integers is not None:
        write_trained(agent.integers, writer.path / INTEGERS)
    _write_curve(agent, writer.path / "curve.csv")
    returns = returns_of(config, task, lambda: act)
    (writer.path / "returns.json").write_text(json.dumps(returns, indent=2) + "\n")
    writer.tools.update(task.environment.versions)
    writer.figures.update(
        algorithm=agent.algorithm,
        steps=agent.steps,
        mean_return=returns["mean"],
        return_deviation=returns["seed_to_seed_std"],
        parameters=sum(layer.weight.size + layer.bias.size for layer in actor.parametric),
        predict_check=dataclasses.asdict(check),
    )


def returns_of(config: ExportConfig, task: Task, begin: Begin) -> dict[str, Any]:
    """The float policy's return for each evaluation seed, and their mean and standard deviation."""
    from policyport.train.rollouts import seeded_returns

    seeds = [config.evaluation_seed + episode for episode in range(config.evaluation_episodes)]
    returns = seeded_returns(begin, task.environment, config.evaluation_seed, config.evaluation_episodes)
    mean = sum(returns) / len(returns)
    spread = math.sqrt(sum((value - mean) ** 2 for value in returns) / max(1, len(returns) - 1))
    return {"seeds": seeds, "returns": returns, "mean": mean, "seed_to_seed_std": spread}


def _task(agent: Agent, actor: Actor) -> Task:
    from gymnasium.spaces import Box, MultiBinary, MultiDiscrete
    from policyport.core.task import Task
    from policyport.train.spaces import flat_bounds

    action = agent.policy.action_space
    low, high = (action.low.ravel(), action.high.ravel()) if isinstance(action, Box) else ((), ())
    observation_low, observation_high = flat_bounds(agent.observation_space)
    flatten = not isinstance(agent.observation_space, Box)
    return Task(
        kind="policy",
        name=f"{agent.algorithm}-{agent.environment.id}",
        environment=dataclasses.replace(agent.environment, flatten=flatten, versions=_versions()),
        observation_size=actor.size,
        observation_low=_bounds(observation_low),
        observation_high=_bounds(observation_high),
        output_size=actor.outputs,
        action_rule=actor.action_rule,
        action_low=_bounds(low),
        action_high=_bounds(high),
        action_shape=tuple(action.shape) if isinstance(action, (Box, MultiBinary)) else (),
        action_sizes=tuple(int(size) for size in action.nvec) if isinstance(action, MultiDiscrete) else (),
        algorithm=agent.algorithm,
    )


def _bounds(values: Any) -> tuple[float, ...]:
    return tuple(max(-_FINITE, min(_FINITE, float(value))) for value in values)


def _write_curve(agent: Agent, path: Path) -> None:
    """``curve.csv``: environment steps and mean return of each evaluation."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("steps", "mean_return"))
        writer.writerows(agent.curve)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "stable-baselines3", "gymnasium", "numpy", "onnx")}
