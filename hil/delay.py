"""The closed loop with late actions: what the return loses when inference and line take whole control periods.

Each episode is one line of ``delays.jsonl``, appended when it ends, as in :mod:`policyport.hil.loop`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.progress import Advance
from policyport.hil.loop import (
    Acting,
    Episode,
    append,
    make_environment,
    play,
    read_rows,
    success_rate,
)
from policyport.hil.policy import TaskPolicy
from policyport.hil.result import DelayFigures
from policyport.hil.statistics import summarize


@dataclass(frozen=True)
class DelayedEpisode:
    """One seed, played by the board with late actions."""

    delay_steps: int
    episode: int
    board_return: float
    steps: int
    success: bool | None


class Delayed:
    """Actions of some steps ago; until the first has come, the action for the first observation.

    :param act: observation to action
    :param delay_steps: from 0 on; 0 delays nothing
    """

    def __init__(self, act: Callable[[NDArray[Any]], Any], delay_steps: int) -> None:
        self._act = act
        self._delay_steps = delay_steps
        self._under_way: deque[Any] = deque()

    def __call__(self, observation: NDArray[Any]) -> Any:
        """The action that has arrived when this observation is made."""
        self._under_way.append(self._act(observation))
        return self._under_way.popleft() if len(self._under_way) > self._delay_steps else self._under_way[0]


def play_delayed(
    board: TaskPolicy, delays: Sequence[int], episodes: list[Episode], journal: Path, advance: Advance
) -> tuple[DelayFigures, ...]:
    """Play what the journal lacks, with each delay on the seeds of the closed loop.

    :param delays: in steps of the environment; 0 is the closed loop itself
    :param episodes: of the closed loop
    :param journal: ``delays.jsonl``; one line per finished episode
    :returns: fewest steps first, without 0
    :raises ConfigError: gymnasium does not know the environment
    """
    rows = [DelayedEpisode(**row) for row in read_rows(journal)]
    done = {(row.delay_steps, row.episode): row for row in rows}
    wanted = [(delay, episode) for delay in sorted({*delays} - {0}) for episode in episodes]
    with make_environment(board.task.environment) as environment:
        for count, (delay, episode) in enumerate(wanted, start=1):
            if (delay, episode.episode) not in done:
                late = Delayed(Acting(board), delay)
                played = play(environment, episode.seed, late)
                row = DelayedEpisode(delay, episode.episode, played.total, played.steps, played.success)
                append(journal, row)
                done[delay, episode.episode] = row
            advance(count, f"{delay} steps late, return {done[delay, episode.episode].board_return:.1f}")
    return tuple(
        _figures(delay, episodes, [done[delay, one.episode] for one in episodes]) for delay in sorted({*delays} - {0})
    )


def _figures(delay: int, episodes: list[Episode], played: list[DelayedEpisode]) -> DelayFigures:
    returns = np.array([row.board_return for row in played])
    loss = np.array([episode.board_return for episode in episodes]) - returns
    success = success_rate(row.success for row in played)
    return DelayFigures(delay, tuple(returns.tolist()), summarize(returns), summarize(loss), success)
