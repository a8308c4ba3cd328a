"""Little environments of every kind of observation and action, and agents of Stable-Baselines3 for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

VECTOR = Box(-2.0, 2.0, (3,), np.float32)
IMAGE = Box(0, 255, (36, 40, 2), np.uint8)
OBSERVATIONS: dict[str, Any] = {
    "Vector": VECTOR,
    "Matrix": Box(-1.0, 1.0, (2, 3), np.float32),
    "Image": IMAGE,
    "Choice": Discrete(4),
    "Choices": MultiDiscrete([2, 3]),
    "Bits": MultiBinary(3),
    "Mixed": Dict({"b": VECTOR, "a": Discrete(3), "image": IMAGE}),
}
ACTIONS: dict[str, Any] = {
    "Discrete": Discrete(3),
    "Box": Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)),
    "MultiDiscrete": MultiDiscrete([3, 2, 4]),
    "MultiBinary": MultiBinary(4),
}


class Little(gymnasium.Env):  # type: ignore[misc]
    """Random observations; ten steps an episode."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(self, observation: str, action: str, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin; the space draws by the seed."""
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; the action must be one."""
        assert self.action_space.contains(action), action
        self._steps += 1
        return self.observation_space.sample(), 1.0, self._steps >= 10, False, {}


def register_all() -> None:
    """Let Gymnasium know ``Little<Observation><Action>-v0``."""
    for observation in OBSERVATIONS:
        for action in ACTIONS:
            name = f"Little{observation}{action}-v0"
            if name not in gymnasium.registry:
                kwargs = {"observation": observation, "action": action}
                gymnasium.register(name, entry_point=Little, kwargs=kwargs, disable_env_checker=True)


def algorithm(name: str) -> Any:
    """The class of an algorithm."""
    import sb3_contrib
    import stable_baselines3

    return getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)


SHORT: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 32, "batch_size": 32},
    "TRPO": {"n_steps": 32, "batch_size": 32},
    "A2C": {},
    "ARS": {},
    "RecurrentPPO": {"n_steps": 32, "batch_size": 32},
    "MaskablePPO": {"n_steps": 32, "batch_size": 32},
}
OFF_POLICY: dict[str, Any] = {"buffer_size": 64, "learning_starts": 16}


def save_agent(path: Path, name: str, environment: Any, policy: str = "MlpPolicy", steps: int = 0, **more: Any) -> Path:
    """A zip as Stable-Baselines3 writes it, of an agent with random weights, or of one that learned a little."""
    given = {**SHORT.get(name, OFF_POLICY), **more}
    model = algorithm(name)(policy, environment, device="cpu", seed=1, **given)
    if steps:
        model.learn(steps)
    model.save(path)
    return path
