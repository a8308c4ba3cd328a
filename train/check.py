"""The exported network held against Stable-Baselines3's own ``predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ParityError
from policyport.core.task import Task
from policyport.train.agent import Agent
from policyport.train.rollouts import batches, onnx_outputs
from policyport.train.spaces import as_given

TIE = 1e-4
"""Two outputs that differ by less than this share of the output range are a tie for float32."""

CONTINUOUS_TOLERANCE = 1e-4
"""Largest difference of a continuous action, as a share of the action range."""


@dataclass(frozen=True)
class ExportCheck:
    """How an export compares with ``predict``."""

    observations: int
    """How many observations were compared."""

    different: int
    """Choices: actions that differ, all of them ties. Continuous: 0."""

    largest_difference: float
    """Continuous: largest difference as a share of the action range. Choices: 0."""


def check_export(path: Path, task: Task, agent: Agent, observations: NDArray[Any]) -> ExportCheck:
    """Compare actions on real observations.

    :param observations: [n, observation_size], flat, as the environment gives them
    :raises ParityError: an action that is not ``predict``'s
    """
    outputs = onnx_outputs(path)(observations)
    theirs = np.concatenate([_predict(agent, batch) for batch in batches(observations)])
    if task.discrete:
        return _check_choices(outputs, theirs, task, path)
    return _check_continuous(task.action(outputs), theirs, task, path)


def _predict(agent: Agent, observations: NDArray[Any]) -> NDArray[Any]:
    normalized = agent.normalization
    flat = observations if normalized is None else normalized.apply(observations)
    actions, _ = agent.policy.predict(as_given(agent.observation_space, flat), deterministic=True)
    return np.asarray(actions)


def _check_choices(outputs: NDArray[np.float32], theirs: NDArray[Any], task: Task, path: Path) -> ExportCheck:
    """Choices may differ only where the outputs that decide them are a tie."""
    ours = task.action(outputs)
    count = len(ours)
    differs = (ours != theirs).reshape(count, -1).any(axis=1)
    span = float(np.ptp(outputs)) or 1.0
    for index in np.flatnonzero(differs):
        if _gap(outputs[index], ours[index], theirs[index], task) > TIE * span:
            raise ParityError(
                "the exported network chooses another action than predict",
                where=f"{path.name}, observation {index}",
                expected=theirs[index],
                got=ours[index],
            )
    return ExportCheck(count, int(differs.sum()), 0.0)


def _gap(output: NDArray[np.float32], ours: Any, theirs: Any, task: Task) -> float:
    """How far the outputs are apart that the two choices rest on."""
    if task.action_rule == "threshold":
        return float(np.abs(output[np.ravel(ours != theirs)]).max())
    starts = np.cumsum((0, *task.action_sizes))[:-1] if task.action_sizes else np.zeros(1, np.int64)
    return float(np.abs(output[starts + np.ravel(ours)] - output[starts + np.ravel(theirs)]).max())


def _check_continuous(ours: NDArray[np.float32], theirs: NDArray[Any], task: Task, path: Path) -> ExportCheck:
    span = np.array(task.action_high) - np.array(task.action_low)
    difference = np.abs(ours - theirs).reshape(len(ours), -1) / span
    worst = int(difference.max(axis=1).argmax())
    largest = float(difference.max())
    if largest > CONTINUOUS_TOLERANCE:
        raise ParityError(
            "the exported network's action is not predict's",
            where=f"{path.name}, observation {worst}",
            expected=theirs[worst],
            got=ours[worst],
        )
    return ExportCheck(len(ours), 0, largest)
