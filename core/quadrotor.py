"""A quadrotor that is to hover at a place: a rigid body with four motors, each following its command with a lag.

Its observation and action are those of RAPTOR, the policy of the package foundation-policy, whose own simulator has
to be compiled. The figures of the vehicle are of the size of a Crazyflie, 27 g; it is no model of a certain one.
Importing this module registers ``Quadrotor-v0`` with Gymnasium.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

STEP_S, SUBSTEPS = 0.01, 4
MASS_KG, GRAVITY = 0.027, 9.81
INERTIA = np.array([1.66e-5, 1.66e-5, 2.93e-5])
"""Of the principal axes, in kg m^2."""

ARM_M = 0.028
"""Of a motor from the middle, along x and along y."""

ROTORS = ARM_M * np.array([[1, -1, 0], [-1, -1, 0], [-1, 1, 0], [1, 1, 0]], np.float64)
"""[motors, 3]: front right, back right, back left, front left; x forwards, y to the left, z up."""

SPIN = np.array([-1.0, 1.0, -1.0, 1.0])
"""Sign of each motor's torque about z."""

THRUST_N, TORQUE_M, LAG_S = 0.15, 0.006, 0.07
"""Thrust of a motor at full speed, growing with the square of the speed; torque by thrust; time constant of a motor."""

LARGEST_M, NEAR_M = 1.0, 0.1
"""Further from the place along any axis an episode ends; nearer than this at its end it is a success."""

LONGEST_EPISODE_STEPS = 500

_Floats = NDArray[np.float64]


class Quadrotor(gymnasium.Env):  # type: ignore[misc]
    """Fly to the origin and stay there.

    An observation is float32 [22]: position in m, rotation matrix (row by row, body to world), velocity in m/s,
    angular velocity of the body in rad/s, the last action. An action is float32 [4], the motors' speeds from -1 (still)
    to 1. A step is rewarded by 1 less the distance in m, or 0; ``info["is_success"]`` says whether the vehicle is near.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium's own declaration

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (22,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self._place: _Floats = np.zeros(3)
        self._turn: _Floats = np.eye(3)
        self._velocity: _Floats = np.zeros(3)
        self._rates: _Floats = np.zeros(3)
        self._speeds: _Floats = np.zeros(4)
        self._action: _Floats = np.zeros(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A place up to half a metre off along each axis, tilted by up to 60 degrees, moving; drawn by the seed."""
        super().reset(seed=seed)
        draw = self.np_random.uniform
        axis = self.np_random.normal(size=3)
        self._place, self._velocity, self._rates = draw(-0.5, 0.5, 3), draw(-0.5, 0.5, 3), draw(-0.5, 0.5, 3)
        self._turn = rotation(axis / np.linalg.norm(axis) * draw(0.0, np.pi / 3))
        self._speeds = np.full(4, np.sqrt(MASS_KG * GRAVITY / 4 / THRUST_N))
        self._action = 2.0 * self._speeds - 1.0
        return self._seen(), {"is_success": False}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """A hundredth of a second with four commands."""
        self._action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        for _ in range(SUBSTEPS):
            self._move(STEP_S / SUBSTEPS)
        distance = float(np.linalg.norm(self._place))
        lost = bool(np.abs(self._place).max() > LARGEST_M)
        return self._seen(), 0.0 if lost else max(0.0, 1.0 - distance), lost, False, {"is_success": distance < NEAR_M}

    def _move(self, dt: float) -> None:
        """One step of the semi-implicit Euler method."""
        self._speeds = self._speeds + ((self._action + 1.0) / 2.0 - self._speeds) * (dt / LAG_S)
        thrust = THRUST_N * self._speeds**2
        torque = np.cross(ROTORS, thrust[:, None] * np.array([0.0, 0.0, 1.0])).sum(axis=0)
        torque[2] += TORQUE_M * float(SPIN @ thrust)
        self._rates = self._rates + dt * (torque - np.cross(self._rates, INERTIA * self._rates)) / INERTIA
        self._turn = self._turn @ rotation(dt * self._rates)
        lift = self._turn[:, 2] * float(thrust.sum()) / MASS_KG
        self._velocity = self._velocity + dt * (lift - np.array([0.0, 0.0, GRAVITY]))
        self._place = self._place + dt * self._velocity

    def _seen(self) -> NDArray[np.float32]:
        parts = self._place, self._turn.ravel(), self._velocity, self._rates, self._action
        return np.concatenate(parts).astype(np.float32)


def rotation(vector: _Floats) -> _Floats:
    """The rotation about a vector [3] by its length in rad, as a matrix [3, 3] (Rodrigues' formula)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


gymnasium.register("Quadrotor-v0", "policyport.core.quadrotor:Quadrotor", max_episode_steps=LONGEST_EPISODE_STEPS)
