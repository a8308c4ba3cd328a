"""Rollouts of an exported policy: its returns, and the observations that it really meets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.task import Task
from policyport.train.environments import make_environment

Act = Callable[[NDArray[np.float32]], Any]
"""An observation [observation_size] to an action as the environment takes it."""


def onnx_policy(model: Path, task: Task) -> Act:
    """The policy of an exported float32 ONNX, one observation at a time."""
    run = onnx_outputs(model)
    return lambda observation: task.action(run(task.check_observation(observation)))[0]


def onnx_outputs(model: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Outputs [n, output_size] of an exported ONNX for observations [n, observation_size], float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda observations: np.asarray(session.run(None, {"observation": observations})[0], np.float32)


def seeded_returns(act: Act, environment_id: str, seed: int, episodes: int) -> list[float]:
    """Return of each episode; episode i is reset with ``seed + i``."""
    environment = make_environment(environment_id)
    returns = []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed + episode)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = environment.step(act(observation))
            total += float(reward)
            done = terminated or truncated
        returns.append(total)
    environment.close()
    return returns


def record_observations(
    act: Act, environment_id: str, seed: int, count: int, exploration: float
) -> NDArray[np.float32]:
    """Observations met by the policy, several episodes of them.

    With ``exploration`` a share of the actions is random, so that states off the policy's usual path are
    met as well, and ranges calibrated on them cover a recovery.

    :returns: [count, observation_size] float32
    """
    environment = make_environment(environment_id)
    environment.action_space.seed(seed)
    random = np.random.default_rng(seed)
    # Episodes are cut, so that several starts are seen even where they are long.
    longest = max(1, count // 8)
    rows: list[NDArray[np.float32]] = []
    while len(rows) < count:
        observation, _ = environment.reset(seed=seed + len(rows))
        for _ in range(longest):
            rows.append(np.asarray(observation, np.float32).ravel())
            explores = random.random() < exploration
            action = environment.action_space.sample() if explores else act(observation)
            observation, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                break
    environment.close()
    return np.array(rows[:count], np.float32)
