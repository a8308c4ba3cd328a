"""A task of memory: one of four cues is shown once, distractors follow, then the cue is asked for.

A policy without memory answers one time in four. Importing this module registers ``Recall-v0`` with Gymnasium.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

CUES = 4
SHORTEST_DELAY, LONGEST_DELAY = 4, 24
"""Steps between the cue and the question."""


class Recall(gymnasium.Env):  # type: ignore[misc]
    """Say which cue was shown.

    An observation is float32 [6]: four values, 1 for the cue and 0 for the others at the first step, uniform noise in
    [0, 1] after it; whether the cue is shown; whether it is asked for. The answer to the question is rewarded with 1
    where it is right, and ends the episode; ``info["is_success"]`` says so too.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium's own declaration

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (CUES + 2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(CUES)
        self._cue = self._left = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new cue and a new delay, drawn by the seed."""
        super().reset(seed=seed)
        self._cue = int(self.np_random.integers(CUES))
        self._left = int(self.np_random.integers(SHORTEST_DELAY, LONGEST_DELAY, endpoint=True)) + 1
        observation = np.zeros(CUES + 2, np.float32)
        observation[[self._cue, CUES]] = 1.0
        return observation, {"is_success": False}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; the action counts where the cue is asked for."""
        asked = self._left == 0
        right = asked and int(action) == self._cue
        self._left -= 1
        observation = np.zeros(CUES + 2, np.float32)
        observation[:CUES] = self.np_random.random(CUES)
        observation[CUES + 1] = float(self._left == 0)
        return observation, float(right), asked, False, {"is_success": right}


gymnasium.register("Recall-v0", "policyport.core.recall:Recall", max_episode_steps=LONGEST_DELAY + 4)
