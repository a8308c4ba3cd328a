"""Environments by name and behind wrappers: renamed ids, frame stacks like VecFrameStack, flat observations."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.environment import current_id, open_environment, wrapped
from policyport.core.errors import ConfigError
from policyport.core.task import Environment


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("Pendulum-v0", "Pendulum-v1"),
        ("BipedalWalker-v2", "BipedalWalker-v3"),
        ("HalfCheetah-v3", "HalfCheetah-v4"),
    ],
)
def test_a_replaced_version_is_found_under_its_successor(asked: str, found: str) -> None:
    assert current_id(asked) == found


@pytest.mark.parametrize("asked", ["CartPole-v9", "CartPol-v1", "Nothing", "HalfCheetahBulletEnv-v0"])
def test_what_no_version_has_is_refused_by_name(asked: str) -> None:
    with pytest.raises(ConfigError, match=asked):
        current_id(asked)


def test_the_nearest_id_is_proposed() -> None:
    with pytest.raises(ConfigError, match="did you mean CartPole-v1"):
        open_environment(Environment("CartPol-v1"))


class Counting(gymnasium.Env):  # type: ignore[misc]
    """Observations that count up from 1, of a given shape."""

    action_space = Discrete(2)

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.observation_space = Box(0, 255, shape, dtype)
        self._count = 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self._count = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, self._count >= 6, False, {}

    def _seen(self) -> Any:
        self._count += 1
        space = self.observation_space
        return (np.arange(np.prod(space.shape)).reshape(space.shape) + self._count).astype(space.dtype)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 5), image=st.booleans())
def test_a_frame_stack_is_that_of_stable_baselines(count: int, image: bool) -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

    shape, dtype = ((40, 36, 1), np.uint8) if image else ((3,), np.float32)
    ours = wrapped(Counting(shape, dtype), Environment("", frame_stack=count))
    theirs = VecFrameStack(DummyVecEnv([lambda: Counting(shape, dtype)]), count)
    assert ours.observation_space == theirs.observation_space
    got, want = ours.reset()[0], theirs.reset()
    for _ in range(4):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.asarray(want)[0])
        got, want = ours.step(0)[0], theirs.step(np.array([0]))[0]


def test_flattened_observations_are_one_vector() -> None:
    class Mixed(Counting):
        """A choice beside a vector."""

        def __init__(self) -> None:
            super().__init__((2,), np.float32)
            self.observation_space = Dict({"b": Box(-1, 1, (2,)), "a": Discrete(3)})

        def _seen(self) -> Any:
            return {"b": np.array([0.5, -0.5], np.float32), "a": np.int64(1)}

    environment = wrapped(Mixed(), Environment("", flatten=True))
    assert environment.observation_space.shape == (5,)
    assert environment.reset()[0].tolist() == [0.0, 1.0, 0.0, 0.5, -0.5]
