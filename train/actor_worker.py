"""A process that collects experience: its own environment, its own copy of the policy, no torch."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.environment import open_environment
from policyport.core.task import Environment
from policyport.train.actor_copy import Copy, Outputs, outputs_of

Reals = NDArray[np.float32]


@dataclass(frozen=True)
class Round:
    """What an actor is to do next."""

    steps: int
    copy: Copy | None
    """The policy; None for random actions."""

    exploration: float
    """Discrete actions: share of random ones. Continuous: deviation of Gaussian noise, where actions are in [-1, 1]."""


@dataclass(frozen=True)
class Batch:
    """What it brings back: [steps, ...] each, one step behind the other."""

    observations: Reals
    next_observations: Reals
    actions: NDArray[Any]
    """As the replay buffer has them: choices, or values in [-1, 1]."""

    rewards: Reals
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class Actor:
    """An environment, played on through rounds.

    :param library: what :func:`policyport.deploy.chain.compile_chain` wrote
    """

    def __init__(self, described: Environment, seed: int, library: Path) -> None:
        self._environment, self._library = open_environment(described), library
        self._space = self._environment.action_space
        self._random = np.random.default_rng(seed)
        self._space.seed(seed)
        self._observation, _ = self._environment.reset(seed=seed)

    def collect(self, asked: Round) -> Batch:
        """Play a round."""
        outputs = None if asked.copy is None else outputs_of(asked.copy, self._library)
        rows = [self._step(outputs, asked.exploration) for _ in range(asked.steps)]
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        seen, after, actions, rewards, terminated, truncated = columns
        reals = [column.astype(np.float32) for column in (seen, after, rewards)]
        return Batch(reals[0], reals[1], actions, reals[2], terminated, truncated)

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def _step(self, outputs: Outputs | None, exploration: float) -> tuple[Any, ...]:
        seen = np.ravel(self._observation).astype(np.float32)
        kept, action = self._action(outputs, seen, exploration)
        self._observation, reward, terminated, truncated, _ = self._environment.step(action)
        row = (seen, np.ravel(self._observation), kept, reward, terminated, truncated)
        if terminated or truncated:
            self._observation, _ = self._environment.reset()
        return row

    def _action(self, outputs: Outputs | None, seen: Any, exploration: float) -> tuple[Any, Any]:
        """The action for the replay buffer, and for the environment."""
        discrete = hasattr(self._space, "n")
        if discrete:
            explores = outputs is None or self._random.random() < exploration
            choice = int(self._space.sample()) if explores or outputs is None else int(np.argmax(outputs(seen[None])))
            return choice, choice
        low, high = self._space.low, self._space.high
        if outputs is None:
            scaled = 2.0 * (self._space.sample() - low) / (high - low) - 1.0
        else:
            noise = self._random.normal(0.0, exploration, low.shape) if exploration else 0.0
            scaled = np.clip(outputs(seen[None])[0].reshape(low.shape) + noise, -1.0, 1.0)
        return scaled.astype(np.float32), (low + 0.5 * (scaled + 1.0) * (high - low)).astype(np.float32)


def work(connection: Connection, described: Environment, seed: int, library: Path) -> None:
    """What the process does: a batch for every round, until there is none."""
    actor = Actor(described, seed, library)
    # Where the connection breaks the learner is gone, and has said why.
    with closing(actor), suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while (asked := connection.recv()) is not None:
            connection.send(actor.collect(asked))
