"""The margin of the equivalence test: how far apart two mean returns may be and still be the same.

It is stated before the board plays its first episode, as a share of what float32 has learned: of the span from the mean
return of random actions to its own. That span is the unit of normalized scores, which make tasks comparable whose
returns have other zeros and other sizes (Mnih et al., Nature 518, 2015, with a person in float32's place; Fu et al.,
"D4RL", arXiv 2004.07219, with an expert). How many episodes are played has no part in it: more of them narrow the
test's interval, and leave the margin that it must lie in.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policyport.core.errors import ArtifactError
from policyport.core.progress import progress
from policyport.core.task import Environment
from policyport.hil.config import HilConfig
from policyport.hil.loop import Acting, make_environment, play
from policyport.hil.policy import TaskPolicy
from policyport.hil.statistics import Returns, deviation, planned_episodes

FRESH_SEEDS = 1_000_000
"""Distance of the seeds that the span is measured on from the test's."""

RANDOM_EPISODES = 50
"""Of random actions: a margin of 5 % of the span moves with them by less than a hundredth of their deviation."""


@dataclass(frozen=True)
class Margin:
    """A margin and its reason."""

    value: float
    """In units of return, positive."""

    basis: str
    """Where it comes from, in words with the figures."""


def state_margin(config: HilConfig, float32: TaskPolicy, returns: Path | None) -> Margin:
    """The margin of a closed loop that has not begun.

    :param returns: ``returns.json`` of the train stage; where there is none, float32 plays seeds of its own first
    :raises ArtifactError: a ``returns.json`` without returns
    """
    if config.margin > 0:
        return Margin(config.margin, "given by the margin option")
    by_chance = random_returns(float32.task.environment, config.seed + FRESH_SEEDS, RANDOM_EPISODES)
    if returns is not None:
        return of_span(config.margin_share, by_chance, recorded_returns(returns), "training's own evaluation")
    return of_span(config.margin_share, by_chance, _fresh_returns(config, float32), "other seeds, before the board's")


def of_span(share: float, by_chance: Returns, float32: Returns, source: str) -> Margin:
    """A share of the span between two mean returns.

    :param share: in %
    :param by_chance: [episodes], of random actions
    :param float32: [episodes]
    :param source: where these were played, for the basis
    """
    low, high = float(by_chance.mean()), float(float32.mean())
    margin = share / 100.0 * abs(high - low)
    basis = (
        f"{share:g} % of the span from random actions' mean return, {low:.4g} in {len(by_chance)} episodes, "
        f"to float32's, {high:.4g} in the {len(float32)} of {source}"
    )
    if margin == 0:
        return Margin(margin, f"{basis}; nothing is equivalent within a span of zero")
    needed = planned_episodes(differences_spread(float32), margin)
    return Margin(margin, f"{basis}; float32's deviation of {deviation(float32):.4g} asks for some {needed} episodes")


def differences_spread(float32: Returns) -> float:
    """Standard deviation that paired differences have where pairing gains nothing: the root of two times float32's.

    Episodes that chance drives apart after the first action that differs are as good as unpaired; others scatter less.
    """
    return math.sqrt(2.0) * deviation(float32)


def random_returns(environment: Environment, seed: int, episodes: int) -> Returns:
    """[episodes]: returns of actions drawn uniformly from the action space.

    :param seed: of the first episode and of its actions; the next have the next
    """
    returns = []
    with make_environment(environment) as playing, progress("random actions", episodes) as advance:
        for number in range(episodes):
            playing.action_space.seed(seed + number)
            returns.append(play(playing, seed + number, lambda _: playing.action_space.sample()).total)
            advance(number + 1)
    return np.array(returns, np.float64)


def recorded_returns(path: Path) -> Returns:
    """[episodes]: the returns in a ``returns.json``.

    :raises ArtifactError: it holds none
    """
    try:
        returns = np.array(json.loads(path.read_text())["returns"], np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError("no returns in this file", where=path, expected='{"returns": [...]}', got=error) from error
    if returns.ndim != 1 or len(returns) == 0 or not np.isfinite(returns).all():
        raise ArtifactError("no returns in this file", where=path, expected="a list of finite numbers", got=returns)
    return returns


def _fresh_returns(config: HilConfig, float32: TaskPolicy) -> Returns:
    returns = []
    first = config.seed + FRESH_SEEDS
    with make_environment(float32.task.environment) as environment, progress("float32", config.episodes) as advance:
        for number in range(config.episodes):
            total = play(environment, first + number, Acting(float32)).total
            returns.append(total)
            advance(number + 1, f"return {total:.1f}")
    return np.array(returns, np.float64)
