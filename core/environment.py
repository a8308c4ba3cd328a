"""Gymnasium environments as tasks describe them: by id, with the wrappers that the policy was trained behind."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.core.task import Environment

REGISTERING = (
    "policyport.core.navigation",
    "policyport.core.recall",
    "policyport.core.quadrotor",
    "policyport.core.point_maze",
    "ale_py",
    "gymnasium_robotics",
    "minigrid",
    "highway_env",
)
"""Modules whose environments Gymnasium knows only once they are imported."""

log = logging.getLogger(__name__)


def current_id(asked: str) -> str:
    """The id under which Gymnasium has the environment by now.

    An environment whose version was replaced is found under its next higher version: ``LunarLander-v2`` as
    ``LunarLander-v3``. An id that Gymnasium knows is returned as it is.

    :raises ConfigError: no such environment in any version; the nearest are named
    """
    import gymnasium

    if asked not in gymnasium.registry and ":" not in asked:
        _import_registering()
    known: dict[str, Any] = gymnasium.registry
    usable = [name for name, spec in known.items() if not _is_gone(spec)]
    if ":" in asked or asked in usable:
        return asked
    stem, _, version = asked.rpartition("-v")
    later = [name for name in usable if re.fullmatch(re.escape(stem) + r"-v\d+", name)] if version.isdigit() else []
    later = sorted((name for name in later if _version(name) > int(version)), key=_version)
    if later:
        log.warning("%s is %s by now", asked, later[0])
        return later[0]
    near = difflib.get_close_matches(asked, usable, 3)
    raise ConfigError(
        "unknown environment",
        where="environment",
        expected="an id that Gymnasium knows",
        got=asked,
        cure=f"did you mean {' or '.join(near)}?"
        if near
        else "install the package that registers it, and name it as module:id",
    )


def open_environment(described: Environment) -> Any:
    """A Gymnasium environment, as the policy sees it.

    :raises ConfigError: no such id; the nearest are named
    :raises ToolError: a package that the environment needs is not installed
    """
    import gymnasium

    name = current_id(described.id)
    try:
        made = gymnasium.make(name, **described.kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ToolError(
            "a package that this environment needs is not installed",
            where=described.id,
            got=error,
            cure=pip_install("[envs]"),
        ) from error
    except (gymnasium.error.Error, ImportError) as error:
        raise ConfigError(
            "Gymnasium cannot make this environment", where=described.id, got=str(error).splitlines()[0]
        ) from error
    return wrapped(made, described)


def wrapped(environment: Any, described: Environment) -> Any:
    """An environment behind the wrappers that ``described`` names.

    :raises ToolError: a package that a wrapper needs is not installed
    """
    import gymnasium

    if described.atari:
        environment = _atari(environment, described)
    if described.frame_stack > 1:
        environment = _frame_stack(environment, described.frame_stack)
    if described.flatten:
        environment = gymnasium.wrappers.FlattenObservation(environment)
    return environment


def _version(name: str) -> int:
    return int(name.rpartition("-v")[2])


def _is_gone(spec: Any) -> bool:
    """Whether an id is registered only to say that its environment needs mujoco-py."""
    return getattr(spec.entry_point, "__name__", "") == "_raise_mujoco_py_error"


def _import_registering() -> None:
    import gymnasium

    for package in REGISTERING:
        if importlib.util.find_spec(package) is not None:
            gymnasium.register_envs(importlib.import_module(package))


def _atari(environment: Any, described: Environment) -> Any:
    """Stable-Baselines3's Atari preprocessing, without what only training has: clipped rewards, one life an episode."""
    try:
        from stable_baselines3.common.atari_wrappers import AtariWrapper
    except ImportError as error:
        raise ToolError(
            "Atari images are prepared by Stable-Baselines3 and OpenCV",
            where=described.id,
            got=error,
            cure=pip_install("[train]", "[atari]"),
        ) from error
    return AtariWrapper(environment, terminal_on_life_loss=False, clip_reward=False)


def _frame_stack(environment: Any, count: int) -> Any:
    """The last ``count`` observations along the last axis, the oldest first; zeros before the first.

    This is Stable-Baselines3's ``VecFrameStack`` for vectors and for images whose channels come last.
    """
    import gymnasium

    space = environment.observation_space
    repeats = [1] * (len(space.shape) - 1) + [count]
    stacked = gymnasium.spaces.Box(np.tile(space.low, repeats), np.tile(space.high, repeats), dtype=space.dtype)

    class FrameStack(gymnasium.Wrapper):  # type: ignore[misc]
        """Remembers the last frames."""

        def __init__(self) -> None:
            super().__init__(environment)
            self.observation_space = stacked
            self._frames = np.zeros(stacked.shape, stacked.dtype)

        def reset(self, **given: Any) -> tuple[NDArray[Any], dict[str, Any]]:
            """Forget, and begin."""
            observation, information = self.env.reset(**given)
            self._frames = np.zeros(stacked.shape, stacked.dtype)
            return self._seen(observation), information

        def step(self, action: Any) -> tuple[NDArray[Any], Any, bool, bool, dict[str, Any]]:
            """One step."""
            observation, reward, terminated, truncated, information = self.env.step(action)
            return self._seen(observation), reward, terminated, truncated, information

        def _seen(self, observation: NDArray[Any]) -> NDArray[Any]:
            width = space.shape[-1]
            self._frames = np.concatenate([self._frames[..., width:], observation], axis=-1)
            return self._frames

    return FrameStack()
