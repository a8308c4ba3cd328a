"""A navigation task: a small vehicle among pillars, told which of 25 headings to fly.

It stands for the drone of QuaRL (Krishnan et al., arXiv 1910.01055), whose simulator, Air Learning, is no package: the
same 25 discrete actions, the same kind of reward (progress to the goal), success rate as its measure; a plane instead
of space, and distances along rays instead of a camera. Importing this module registers ``Navigation-v0`` with
Gymnasium.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

HEADINGS = 25
"""Actions: heading ``i`` is ``2 pi i / 25`` from the x axis."""

RAYS = 27
"""Distances that the vehicle sees, evenly around it, the first along the x axis."""

HALF_SIDE_M = 5.0
"""The room is a square from minus this to this."""

PILLARS = 6
PILLAR_RADIUS_M = (0.4, 0.8)
SIGHT_M = 3.0
VEHICLE_RADIUS_M = 0.15
GOAL_RADIUS_M = 0.4
LEAST_WAY_M = 4.0
"""Between start and goal."""

STEP_M = 0.3
"""Way of one step at full speed."""

INERTIA = 0.5
"""Share of its velocity that the vehicle keeps; the rest is the heading's."""

STEP_COST, BONUS = 0.02, 5.0
LONGEST_EPISODE_STEPS = 100

_Floats = NDArray[np.float64]


class Navigation(gymnasium.Env):  # type: ignore[misc]
    """Reach the goal without touching a pillar or a wall.

    An observation is float32 [31]: 27 distances as shares of the sight; the goal's x and y from the vehicle as shares
    of the room; its velocity's x and y as shares of full speed. A step is rewarded by the metres by which the goal came
    closer, less 0.02; the goal by 5 more, a collision by 5 less. ``info["is_success"]`` says whether the goal is
    reached, as Stable-Baselines3 expects it.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium's own declaration

    def __init__(self) -> None:
        size = RAYS + 4
        low, high = np.full(size, -1.0, np.float32), np.ones(size, np.float32)
        low[:RAYS] = 0.0
        self.observation_space = gymnasium.spaces.Box(low, high)
        self.action_space = gymnasium.spaces.Discrete(HEADINGS)
        self._directions = _unit(2 * np.pi * np.arange(RAYS) / RAYS)
        self._centres: _Floats = np.zeros((0, 2))
        self._radii: _Floats = np.zeros(0)
        self._place: _Floats = np.zeros(2)
        self._goal: _Floats = np.zeros(2)
        self._velocity: _Floats = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new room, start and goal, all drawn by the seed."""
        super().reset(seed=seed)
        self._radii = self.np_random.uniform(*PILLAR_RADIUS_M, PILLARS)
        self._centres = self.np_random.uniform(-HALF_SIDE_M, HALF_SIDE_M, (PILLARS, 2))
        self._velocity = np.zeros(2)
        self._place, self._goal = self._free_place(), self._free_place()
        while float(np.hypot(*(self._goal - self._place))) < LEAST_WAY_M:
            self._place, self._goal = self._free_place(), self._free_place()
        return self._seen(), {"is_success": False}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Fly one step with a heading."""
        heading = _unit(np.array(2 * np.pi * int(action) / HEADINGS))
        before = float(np.hypot(*(self._goal - self._place)))
        self._velocity = INERTIA * self._velocity + (1.0 - INERTIA) * heading
        self._place = self._place + STEP_M * self._velocity
        after = float(np.hypot(*(self._goal - self._place)))
        collided = clearance_m(self._place, self._centres, self._radii) < VEHICLE_RADIUS_M
        reached = not collided and after < GOAL_RADIUS_M
        reward = before - after - STEP_COST + BONUS * (reached - collided)
        return self._seen(), float(reward), bool(collided or reached), False, {"is_success": bool(reached)}

    def _free_place(self) -> _Floats:
        """A place with room for the vehicle to turn."""
        inner = HALF_SIDE_M - 2 * GOAL_RADIUS_M
        while True:
            place = self.np_random.uniform(-inner, inner, 2)
            if clearance_m(place, self._centres, self._radii) > 2 * GOAL_RADIUS_M:
                return place

    def _seen(self) -> NDArray[np.float32]:
        distances = sight_m(self._place, self._directions, self._centres, self._radii) / SIGHT_M
        goal = np.clip((self._goal - self._place) / (2 * HALF_SIDE_M), -1.0, 1.0)
        return np.concatenate([distances, goal, np.clip(self._velocity, -1.0, 1.0)]).astype(np.float32)


def clearance_m(place: _Floats, centres: _Floats, radii: _Floats) -> float:
    """Distance from a place [2] to the nearest wall or pillar, in metres; negative inside of one.

    :param centres: [pillars, 2]
    :param radii: [pillars]
    """
    to_wall = HALF_SIDE_M - float(np.abs(place).max())
    to_pillars = np.hypot(*(centres - place).T) - radii
    return min(to_wall, float(to_pillars.min(initial=np.inf)))


def sight_m(place: _Floats, directions: _Floats, centres: _Floats, radii: _Floats) -> _Floats:
    """Distance [rays] to the first wall or pillar along each direction, in metres, :data:`SIGHT_M` at most.

    A ray ``p + t d`` meets a circle where ``t = b - sqrt(b^2 - c)``, ``b = d . (centre - p)`` and
    ``c = |centre - p|^2 - radius^2``.

    :param place: [2]
    :param directions: [rays, 2], of length 1
    """
    offset = centres - place
    along = directions @ offset.T
    inside = along**2 - ((offset**2).sum(axis=1) - radii**2)
    meets = (inside >= 0) & (along >= 0)
    to_pillars = np.where(meets, along - np.sqrt(np.maximum(inside, 0.0)), np.inf).min(axis=1, initial=np.inf)
    edges = np.where(directions < 0, -HALF_SIDE_M, HALF_SIDE_M) - place
    steep = np.abs(directions) > 1e-9
    to_walls = np.where(steep, edges / np.where(steep, directions, 1.0), np.inf).min(axis=1)
    return np.clip(np.minimum(to_pillars, to_walls), 0.0, SIGHT_M)


def _unit(angle: _Floats) -> _Floats:
    """[...] radians to [..., 2] unit vectors."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


gymnasium.register(
    "Navigation-v0",
    "policyport.core.navigation:Navigation",
    max_episode_steps=LONGEST_EPISODE_STEPS,
)
