"""The margin of the equivalence test: how far apart two mean returns may be and still be the same.

It is stated before the board plays its first episode, from float32's own returns alone. A mean over n episodes is
noisy by itself: float32's moves by its standard error, the deviation of its returns over the square root of n,
whenever n other seeds are drawn. That is the margin; the pairing over common seeds then tests it with the much smaller
noise of the differences. The deviation over seeds, without the root, would be a margin of no use: where starts
differ in difficulty, as Pendulum's do, it is as large as the return itself.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policyport.core.errors import ArtifactError
from policyport.core.progress import progress
from policyport.hil.config import HilConfig
from policyport.hil.loop import Acting, make_environment, play
from policyport.hil.policy import TaskPolicy
from policyport.hil.statistics import Returns, deviation

FRESH_SEEDS = 1_000_000
"""Distance of the seeds that float32's noise is measured on, where training has not done so, from the test's."""


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
    if returns is not None:
        return from_returns(config, recorded_returns(returns), "training's own evaluation")
    return from_returns(config, _fresh_returns(config, float32), "an evaluation on other seeds, before the board's")


def from_returns(config: HilConfig, returns: Returns, source: str) -> Margin:
    """Standard error of float32's mean over the episodes to be played, or the floor where that is larger.

    :param returns: [episodes], of float32
    :param source: where they were played, for the basis
    """
    mean, spread = float(returns.mean()), deviation(returns)
    error = spread / math.sqrt(config.episodes)
    floor = abs(mean) * config.min_margin / 100.0
    noise = f"float32's return deviates by {spread:.4g} over the {len(returns)} seeds of {source}"
    if error >= floor:
        return Margin(error, f"{noise}: standard error of its mean over {config.episodes} episodes")
    return Margin(floor, f"{noise}; min_margin is larger: {config.min_margin:g} % of its mean {mean:.4g}")


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
