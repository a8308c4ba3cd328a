"""Gymnasium environments by name, with an error that helps where there is none."""

from __future__ import annotations

import difflib
from typing import Any

from policyport.core.errors import ConfigError, ToolError


def make_environment(environment: str) -> Any:
    """A Gymnasium environment.

    :raises ConfigError: no such id; the nearest ones are named
    :raises ToolError: a package that the environment needs is not installed
    """
    import gymnasium

    try:
        return gymnasium.make(environment)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ToolError(
            "a package that this environment needs is not installed", where=environment, got=error
        ) from error
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(environment, list(gymnasium.registry), 3)
        raise ConfigError(
            "unknown environment",
            where="environment",
            expected="an id that Gymnasium knows",
            got=environment,
            cure=f"did you mean {' or '.join(near)}?" if near else "import the package that registers it",
        ) from error


def reward_threshold(environment: str) -> float | None:
    """The mean return at which Gymnasium calls the environment solved, where it says so.

    :raises ConfigError: as :func:`make_environment`
    """
    made = make_environment(environment)
    made.close()
    threshold = made.spec.reward_threshold
    return None if threshold is None else float(threshold)
