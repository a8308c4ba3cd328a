"""Quantized actors (ActorQ): processes collect experience by integers while the learner trains in float32.

Krishnan et al., "QuaRL" (arXiv 1910.01055): the learner quantizes its weights and hands them out every so many steps. C
is compiled once; weights and scales are its data. Rounds keep a training the same whenever it is repeated: while
the learner trains on what one round brought, the actors play the next, by the weights that the learner had when it
began.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport.core.closing import Closing
from policyport.core.errors import ConfigError, ToolError
from policyport.core.task import Environment
from policyport.deploy.chain import compile_chain
from policyport.quantize.nodes import Floats
from policyport.train.actor_copy import copy_of
from policyport.train.actor_worker import Batch, Round, work

if TYPE_CHECKING:
    from policyport.train.config import TrainConfig
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

ALGORITHMS = ("DQN", "TD3", "DDPG")
"""Those that learn from a replay buffer and act deterministically but for noise."""


class Actors(Closing):
    """The processes, and what they have collected.

    :raises ConfigError: an algorithm or an option that actors do not go with
    :raises ToolError: no C compiler
    """

    def __init__(self, config: TrainConfig) -> None:
        _check(config)
        self._config = config
        self._folder = TemporaryDirectory(prefix="policyport-actors-")
        library = Path(self._folder.name, "chain.so")
        compile_chain(library)
        context = multiprocessing.get_context("spawn")
        self._connections, self._processes = [], []
        for number in range(config.actors):
            ours, theirs = context.Pipe()
            seed = config.seed + 1 + number
            given = (theirs, Environment(config.environment), seed, library)
            process = context.Process(target=work, args=given, daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
        self._ready: deque[tuple[Any, ...]] = deque()
        self._asked_steps = 0
        self._recent: Floats | None = None

    @contextmanager
    def collecting_for(self, model: OffPolicyAlgorithm) -> Iterator[None]:
        """While the context lasts, the model learns from what the actors collect."""

        def collect_rollouts(*given: Any, **named: Any) -> Any:
            return self._rollout(model, *given, **named)

        vars(model)["collect_rollouts"] = collect_rollouts
        try:
            yield
        finally:
            del vars(model)["collect_rollouts"]

    def close(self) -> None:
        """End the processes."""
        for connection, process in zip(self._connections, self._processes, strict=True):
            if process.is_alive():
                connection.send(None)
            connection.close()
            process.join(timeout=10)
        self._connections, self._processes = [], []
        self._folder.cleanup()

    def _rollout(self, model: Any, env: Any, callback: Any, train_freq: Any, replay_buffer: Any, **_: Any) -> Any:
        """As many steps as training waits for, out of what the actors brought."""
        from stable_baselines3.common.type_aliases import RolloutReturn

        model.policy.set_training_mode(False)
        callback.on_rollout_start()
        for step in range(train_freq.frequency):
            self._store(self._next(model), replay_buffer)
            model.num_timesteps += 1
            callback.update_locals({"self": model})
            if not callback.on_step():
                return RolloutReturn(step + 1, 0, continue_training=False)
            model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
            model._on_step()
        callback.on_rollout_end()
        return RolloutReturn(train_freq.frequency, 0, continue_training=True)

    def _store(self, row: tuple[Any, ...], replay_buffer: Any) -> None:
        observation, after, action, reward, terminated, truncated = row
        done, shape = np.array([terminated or truncated]), (1, *replay_buffer.obs_shape)
        information = [{"TimeLimit.truncated": bool(truncated and not terminated)}]
        replay_buffer.add(
            observation.reshape(shape), after.reshape(shape), action[None], np.array([reward]), done, information
        )

    def _next(self, model: Any) -> tuple[Any, ...]:
        if not self._ready:
            if not self._asked_steps:
                self._ask(model)
            self._receive()
            self._ask(model)
        return self._ready.popleft()

    def _ask(self, model: Any) -> None:
        """Hand out the weights as they are, for another round."""
        from policyport.train.qat import actor_graph

        begun = self._asked_steps
        self._asked_steps += self._config.push_steps
        copy, exploration = None, 0.0
        if self._recent is not None and begun >= model.learning_starts:
            copy = copy_of(actor_graph(model.policy, None), self._recent, self._config.actor_precision)
            exploration = _exploration(model)
        for steps, connection in zip(self._shares(), self._connections, strict=True):
            connection.send(Round(steps, copy, exploration))

    def _shares(self) -> list[int]:
        """Steps of a round for each actor."""
        total, count = self._config.push_steps, self._config.actors
        return [total // count + (number < total % count) for number in range(count)]

    def _receive(self) -> None:
        """The round that is under way, the actors' steps in turn."""
        batches = [self._batch(number) for number in range(len(self._connections))]
        self._recent = np.concatenate([batch.observations for batch in batches])
        columns = [
            (b.observations, b.next_observations, b.actions, b.rewards, b.terminated, b.truncated) for b in batches
        ]
        for step in range(max(len(batch.rewards) for batch in batches)):
            for column in columns:
                if step < len(column[3]):
                    self._ready.append(tuple(values[step] for values in column))

    def _batch(self, number: int) -> Batch:
        try:
            batch: Batch = self._connections[number].recv()
        except (EOFError, ConnectionError) as error:
            code = self._processes[number].exitcode
            raise ToolError(
                "an actor ended before training did", where=f"actor {number}", got=f"exit {code}"
            ) from error
        return batch


def _exploration(model: Any) -> float:
    """DQN's share of random actions; the deviation of the others' Gaussian noise, 0 without one."""
    if hasattr(model, "exploration_rate"):
        return float(model.exploration_rate)
    deviation = getattr(model.action_noise, "_sigma", 0.0)
    return float(np.max(deviation))


def _check(config: TrainConfig) -> None:
    wrong = {
        "algorithm": config.algorithm not in ALGORITHMS and (", ".join(ALGORITHMS), config.algorithm),
        "n_envs": config.n_envs > 1 and ("1: each actor has an environment of its own", config.n_envs),
        "normalize_observations": config.normalize_observations and (False, True),
        "qat_weights": config.qat_weights is not None and ("none", config.qat_weights),
        "push_steps": config.push_steps < config.actors
        and (f"{config.actors}, a step for each actor", config.push_steps),
    }
    for where, found in wrong.items():
        if found:
            expected, got = found
            raise ConfigError("actors do not go with this option", where=where, expected=expected, got=got)
