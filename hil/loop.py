"""The closed loop: seeded episodes in which the board chooses every action.

Each episode is one line of ``episodes.jsonl``, appended when it ends, so an interrupted run goes on with
the episode that it lacks. The float32 policy sees every observation too (agreement), and plays the same
seeds itself (paired returns).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.environment import open_environment
from policyport.core.progress import Advance
from policyport.core.task import Environment, Task
from policyport.hil.policy import Policy, State, TaskPolicy
from policyport.hil.result import DelayFigures, LoopFigures
from policyport.hil.statistics import equivalence, summarize

ACTION_TOLERANCE = 0.01
"""Continuous actions agree when they differ by at most this share of the action's range, in every dimension."""


@dataclass(frozen=True)
class Episode:
    """One seed, played by the board and by float32."""

    episode: int
    seed: int
    board_return: float
    steps: int
    float_return: float
    float_steps: int
    agreed: int
    """Steps on which float32 would have taken the same action."""

    action_error: float
    """Mean over the steps of the absolute difference of the actions, as a share of the range."""

    output_error: float
    """Largest absolute difference of an output."""

    board_success: bool | None = None
    """What the environment said of success at the end; None where it does not say."""

    float_success: bool | None = None
    fewest_ticks: int = 0
    """Of one inference; 0 where nothing counts them."""

    most_ticks: int = 0


@dataclass(frozen=True)
class Played:
    """One episode of one policy."""

    total: float
    """Its return."""

    steps: int
    success: bool | None
    """See :func:`success_of`."""


@contextmanager
def make_environment(described: Environment) -> Iterator[Any]:
    """The environment of a task, closed at the end; raises as :func:`open_environment`."""
    environment = open_environment(described)
    try:
        yield environment
    finally:
        environment.close()


class Comparison:
    """Board and float32 on the same observations, step by step, each with its own state."""

    def __init__(self, board: TaskPolicy, float32: TaskPolicy) -> None:
        self._board = board
        self._float32 = float32
        task = board.task
        self._span = np.array(task.action_high, np.float64) - np.array(task.action_low, np.float64)
        self._states: tuple[State, State] = (None, None)
        self.agreed = 0
        self.action_errors: list[float] = []
        self.output_error = 0.0

    def action(self, observation: NDArray[Any]) -> Any:
        """The board's action; what float32 thinks of it is remembered."""
        checked = self._board.task.check_observation(observation)
        got, before = self._board.step(checked, self._states[0])
        want, other_before = self._float32.step(checked, self._states[1])
        self._states = before, other_before
        action, other = self._board.task.action(got)[0], self._board.task.action(want)[0]
        errors = self._errors(action, other)
        self.agreed += bool((errors <= ACTION_TOLERANCE).all())
        self.action_errors.append(float(errors.mean()))
        self.output_error = max(self.output_error, float(np.abs(got - want).max()))
        return action

    def _errors(self, action: Any, other: Any) -> NDArray[np.float64]:
        difference = np.abs(np.asarray(action, np.float64) - np.asarray(other, np.float64)).reshape(-1)
        return difference / self._span if self._span.size else (difference != 0).astype(np.float64)


def play(environment: Any, seed: int, act: Any) -> Played:
    """One episode.

    :param act: observation to action
    """
    observation, _ = environment.reset(seed=seed)
    total, steps, over, info = 0.0, 0, False, {}
    while not over:
        observation, reward, terminated, truncated, info = environment.step(act(observation))
        total += float(reward)
        steps += 1
        over = bool(terminated or truncated)
    return Played(total, steps, success_of(info))


def success_of(info: Mapping[str, Any]) -> bool | None:
    """What an episode's last ``info`` says of success, as ``is_success`` or as ``success``; None where it does not."""
    said = info.get("is_success", info.get("success"))
    return None if said is None else bool(said)


def play_pair(environment: Any, number: int, seed: int, board: TaskPolicy, float32: TaskPolicy) -> Episode:
    """The board's episode, and float32's on the same seed."""
    both, before = Comparison(board, float32), len(board.ticks)
    here = play(environment, seed, both.action)
    ticks = board.ticks[before:] or [0]
    there = play(environment, seed, Acting(float32))
    return Episode(
        episode=number,
        seed=seed,
        board_return=here.total,
        steps=here.steps,
        float_return=there.total,
        float_steps=there.steps,
        agreed=both.agreed,
        action_error=float(np.mean(both.action_errors)),
        output_error=both.output_error,
        board_success=here.success,
        float_success=there.success,
        fewest_ticks=min(ticks),
        most_ticks=max(ticks),
    )


class Acting:
    """One observation's action after the other, from the start of an episode on, with what the policy remembers."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._state: State = None

    def __call__(self, observation: NDArray[Any]) -> Any:
        """The action for the next observation of the episode."""
        action, self._state = self._policy.predict(observation, self._state, deterministic=True)
        return action


def run_episodes(
    board: TaskPolicy, float32: TaskPolicy, episodes: int, first_seed: int, journal: Path, advance: Advance
) -> list[Episode]:
    """Play what the journal lacks.

    :param journal: ``episodes.jsonl``; one line per finished episode
    :returns: all episodes, in order of their number
    :raises ConfigError: gymnasium does not know the environment
    """
    done = {episode.episode: episode for episode in read_journal(journal)}
    with make_environment(board.task.environment) as environment:
        for number in range(episodes):
            if number not in done:
                episode = play_pair(environment, number, first_seed + number, board, float32)
                append(journal, episode)
                done[number] = episode
            advance(number + 1, f"return {done[number].board_return:.1f}")
    return [done[number] for number in range(episodes)]


def append(journal: Path, episode: Any) -> None:
    """Add a finished episode, a dataclass, to its journal."""
    with journal.open("a") as stream:
        stream.write(json.dumps(dataclasses.asdict(episode)) + "\n")


def read_journal(journal: Path) -> list[Episode]:
    """The finished episodes of ``episodes.jsonl``."""
    return [Episode(**row) for row in read_rows(journal)]


def read_rows(journal: Path) -> list[dict[str, Any]]:
    """The finished lines of a journal.

    A last line without its end is the one that an interruption tore; it is removed from the file.
    """
    if not journal.exists():
        return []
    text = journal.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        journal.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def success_rate(successes: Iterable[bool | None]) -> float | None:
    """The share of episodes that succeeded; None where one does not say."""
    said = list(successes)
    return None if not said or None in said else sum(map(bool, said)) / len(said)


def summarize_loop(
    task: Task,
    episodes: list[Episode],
    margin: float,
    basis: str,
    counted: Callable[[int], int] = int,
    delays: tuple[DelayFigures, ...] = (),
) -> LoopFigures:
    """Figures of a closed loop.

    :param margin: equivalence margin in units of return, stated before the first episode
    :param basis: where the margin comes from
    :param counted: an inference's ticks to instructions or cycles
    :param delays: what became of actions that came late
    """
    board = np.array([episode.board_return for episode in episodes])
    float32 = np.array([episode.float_return for episode in episodes])
    steps = sum(episode.steps for episode in episodes)
    return LoopFigures(
        environment=task.environment.id,
        episodes=len(episodes),
        first_seed=episodes[0].seed,
        steps=steps,
        board_returns=tuple(board.tolist()),
        float_returns=tuple(float32.tolist()),
        board=summarize(board),
        float32=summarize(float32),
        margin_basis=basis,
        equivalence=equivalence(board, float32, margin),
        agreement=sum(episode.agreed for episode in episodes) / steps,
        action_error=sum(episode.action_error * episode.steps for episode in episodes) / steps,
        output_error=max(episode.output_error for episode in episodes),
        board_success=success_rate(episode.board_success for episode in episodes),
        float_success=success_rate(episode.float_success for episode in episodes),
        fewest=counted(min(episode.fewest_ticks for episode in episodes)),
        most=counted(max(episode.most_ticks for episode in episodes)),
        delays=delays,
    )
