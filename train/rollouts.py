"""Rollouts of an exported policy: its returns, and the observations that it really meets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.environment import open_environment
from policyport.core.errors import ConfigError
from policyport.core.progress import progress
from policyport.core.task import Environment, Task

Act = Callable[[NDArray[np.float32]], Any]
"""An observation [observation_size] to an action as the environment takes it."""

Begin = Callable[[], Act]
"""At the start of an episode: what acts in it, and remembers what it must."""

LONGEST_EPISODE = 100_000
"""Steps; the longest of Atari has 27,000."""

BATCH_BYTES = 1 << 26
"""Observations that a network is given at once."""


def onnx_policy(model: Path, task: Task) -> Act:
    """The policy of an exported float32 ONNX, one observation at a time."""
    run = onnx_outputs(model)
    return lambda observation: task.action(run(task.check_observation(observation)))[0]


def recurrent_policy(model: Path, task: Task) -> Begin:
    """The same of a recurrent network: its states are zeros where an episode begins."""
    run = onnx_steps(model, task)

    def begin() -> Act:
        state = np.zeros(task.state_size, np.float32)

        def act(observation: NDArray[np.float32]) -> Any:
            nonlocal state
            output, state = run(task.check_observation(observation)[0], state)
            return task.action(output[None])[0]

        return act

    return begin


Step = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""An observation and a state to an output and the state after, each a vector."""


def onnx_steps(model: Path, task: Task) -> Step:
    """One step of a recurrent ONNX whose inputs and outputs are [1, size]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), _one_thread(), providers=["CPUExecutionProvider"])
    ends = np.cumsum([vector.size for vector in task.state], dtype=np.intp)
    names = ["output", *(vector.output for vector in task.state)]

    def run(observation: NDArray[np.float32], state: NDArray[np.float32]) -> Any:
        given = {v.input: part[None] for v, part in zip(task.state, np.split(state, ends)[:-1], strict=True)}
        output, *after = session.run(names, {"observation": observation[None], **given})
        return output[0], np.concatenate([state[:0], *(part[0] for part in after)])

    return run


def _one_thread() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def onnx_outputs(model: Path) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Outputs [n, output_size] of an exported ONNX for observations [n, observation_size]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), _one_thread(), providers=["CPUExecutionProvider"])

    def run(observations: NDArray[Any]) -> NDArray[np.float32]:
        given = {"observation": observations.astype(np.float32, copy=False)}
        return np.asarray(session.run(None, given)[0], np.float32)

    return lambda observations: np.concatenate([run(batch) for batch in batches(observations)])


def batches(observations: NDArray[Any]) -> list[NDArray[Any]]:
    """Observations [n, size] in parts that fit in memory as float32."""
    at_once = max(1, BATCH_BYTES // (4 * observations.shape[1]))
    return [observations[start : start + at_once] for start in range(0, len(observations), at_once)]


def seeded_returns(begin: Begin, described: Environment, seed: int, episodes: int) -> list[float]:
    """Return of each episode; episode i is reset with ``seed + i``.

    :raises ConfigError: an episode that does not end
    """
    environment = open_environment(described)
    returns: list[float] = []
    with progress("evaluate float32", episodes) as advance:
        for episode in range(episodes):
            returns.append(_episode(environment, begin(), seed + episode))
            advance(episode + 1, f"return {returns[-1]:.1f}")
    environment.close()
    return returns


def _episode(environment: Any, act: Act, seed: int) -> float:
    observation, _ = environment.reset(seed=seed)
    total = 0.0
    for _ in range(LONGEST_EPISODE):
        observation, reward, terminated, truncated, _ = environment.step(act(observation))
        total += float(reward)
        if terminated or truncated:
            return total
    raise ConfigError(
        "an episode of this environment does not end",
        where=environment.spec.id,
        got=f"{LONGEST_EPISODE} steps",
        cure="register it with max_episode_steps",
    )


def record_observations(
    begin: Begin, described: Environment, seed: int, count: int, exploration: float
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Observations met by the policy, several episodes of them.

    With ``exploration`` a share of the actions is random, so that states off the policy's usual path are
    met as well, and ranges calibrated on them cover a recovery.

    :returns: [count, observation_size], bytes where the environment gives bytes, else float32; and [count], where an
        episode starts
    """
    environment = open_environment(described)
    environment.action_space.seed(seed)
    random = np.random.default_rng(seed)
    kind = np.uint8 if environment.observation_space.dtype == np.uint8 else np.float32
    # Episodes are cut, so that several starts are seen even where they are long.
    longest = max(1, count // 8)
    rows: list[NDArray[Any]] = []
    starts: list[bool] = []
    with progress("record observations", count) as advance:
        while len(rows) < count:
            observation, _ = environment.reset(seed=seed + len(rows))
            act = begin()
            for step in range(longest):
                starts.append(step == 0)
                rows.append(np.asarray(observation, kind).ravel())
                explores = random.random() < exploration
                chosen = act(observation)  # asked each time: one that remembers must see every observation
                action = environment.action_space.sample() if explores else chosen
                observation, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:
                    break
            advance(len(rows))
    environment.close()
    return np.array(rows[:count], kind), np.array(starts[:count])
