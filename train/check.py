"""The exported network held against Stable-Baselines3's own ``predict``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ParityError
from policyport.core.task import Task
from policyport.train.rollouts import onnx_outputs

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecNormalize

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
    """Discrete: actions that differ, all of them ties. Continuous: 0."""

    largest_difference: float
    """Continuous: largest difference as a share of the action range. Discrete: 0."""


def check_export(
    path: Path, task: Task, model: BaseAlgorithm, vecnormalize: VecNormalize | None, observations: NDArray[np.float32]
) -> ExportCheck:
    """Compare actions on real observations.

    :param observations: [n, observation_size], as the environment gives them
    :raises ParityError: an action that is not ``predict``'s
    """
    outputs = onnx_outputs(path)(observations)
    ours = task.action(outputs)
    space = model.observation_space
    assert space.shape is not None
    given = observations.reshape(-1, *space.shape)
    if vecnormalize is not None:
        given = np.asarray(vecnormalize.normalize_obs(given), np.float32)
    theirs, _ = model.predict(given, deterministic=True)
    if task.action_rule == "argmax":
        return _check_discrete(outputs, ours, theirs, path)
    return _check_continuous(ours, theirs, task, path)


def _check_discrete(
    outputs: NDArray[np.float32], ours: NDArray[np.int64], theirs: NDArray[np.int64], path: Path
) -> ExportCheck:
    different = np.flatnonzero(ours != theirs)
    span = float(np.ptp(outputs)) or 1.0
    for index in different:
        gap = abs(float(outputs[index, ours[index]] - outputs[index, theirs[index]]))
        if gap > TIE * span:
            raise ParityError(
                "the exported network chooses another action than predict",
                where=f"{path.name}, observation {index}",
                expected=theirs[index],
                got=ours[index],
            )
    return ExportCheck(len(ours), len(different), 0.0)


def _check_continuous(ours: NDArray[np.float32], theirs: NDArray[np.float32], task: Task, path: Path) -> ExportCheck:
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
