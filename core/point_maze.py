"""Gymnasium-Robotics' PointMaze by headings: a ball in a maze, pushed along one of 25 directions.

It stands for the navigation task of QuaRL (Krishnan et al., arXiv 1910.01055) with physics of MuJoCo's; the package
gymnasium-robotics must be installed. Importing this module registers ``PointMazeHeadings-v0`` with Gymnasium.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ToolError
from policyport.core.install import pip_install

HEADINGS = 25
REPEAT = 5
"""Steps of the maze for which a push lasts."""

STEP_COST, BONUS = 0.02, 5.0
LONGEST_EPISODE_STEPS = 80


class PointMazeHeadings(gymnasium.Env):  # type: ignore[misc]
    """Roll the ball to the goal.

    An observation is float32 [8]: place, velocity, goal, and the way from the place to the goal, x and y of each. A
    step is rewarded by the metres by which the goal came closer, less 0.02, and 5 where it is reached, which ends the
    episode; ``info["is_success"]`` says so.

    :param maze: id of a PointMaze
    :raises ToolError: gymnasium-robotics is not installed
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium's own declaration

    def __init__(self, maze: str = "PointMaze_UMaze-v3") -> None:
        if importlib.util.find_spec("gymnasium_robotics") is None:
            raise ToolError("gymnasium-robotics is not installed", where=maze, cure=pip_install("[mazes]"))
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        longest = REPEAT * LONGEST_EPISODE_STEPS + 1
        self._maze = gymnasium.make(maze, continuing_task=False, max_episode_steps=longest)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (8,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(HEADINGS)
        self._distance_m = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new start and goal, drawn by the seed."""
        super().reset(seed=seed)
        seen, _ = self._maze.reset(seed=seed)
        self._distance_m = _distance_m(seen)
        return _flat(seen), {"is_success": False}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push along a heading."""
        angle = 2 * np.pi * int(action) / HEADINGS
        push = np.array([np.cos(angle), np.sin(angle)], np.float32)
        seen, _, reached, _, information = self._maze.step(push)
        for _ in range(REPEAT - 1):
            if reached:
                break
            seen, _, reached, _, information = self._maze.step(push)
        before, self._distance_m = self._distance_m, _distance_m(seen)
        success = bool(information["success"])
        reward = before - self._distance_m - STEP_COST + BONUS * success
        return _flat(seen), float(reward), success, False, {"is_success": success}

    def close(self) -> None:
        """Close the maze."""
        self._maze.close()


def _distance_m(seen: dict[str, NDArray[np.float64]]) -> float:
    return float(np.linalg.norm(seen["desired_goal"] - seen["achieved_goal"]))


def _flat(seen: dict[str, NDArray[np.float64]]) -> NDArray[np.float32]:
    goal, place = seen["desired_goal"], seen["achieved_goal"]
    return np.concatenate([seen["observation"], goal, goal - place]).astype(np.float32)


gymnasium.register(
    "PointMazeHeadings-v0",
    "policyport.core.point_maze:PointMazeHeadings",
    max_episode_steps=LONGEST_EPISODE_STEPS,
)
