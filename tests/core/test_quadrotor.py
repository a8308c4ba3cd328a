"""The quadrotor obeys Newton where that can be worked out by hand, and Recall asks for what it has shown."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from policyport.core import quadrotor, recall
from policyport.core.environment import open_environment
from policyport.core.task import Environment


def level(environment: gymnasium.Env, speed: float) -> quadrotor.Quadrotor:
    """At rest, upright, its motors at one speed."""
    vehicle = environment.unwrapped
    assert isinstance(vehicle, quadrotor.Quadrotor)
    vehicle._place, vehicle._velocity, vehicle._rates = np.zeros((3, 3))
    vehicle._turn, vehicle._speeds = np.eye(3), np.full(4, speed)
    return vehicle


def test_it_hovers_falls_and_turns() -> None:
    environment = open_environment(Environment("Quadrotor-v0"))
    environment.reset(seed=0)
    hover = float(np.sqrt(quadrotor.MASS_KG * quadrotor.GRAVITY / 4 / quadrotor.THRUST_N))
    level(environment, hover)
    for _ in range(50):
        observation, reward, _, _, information = environment.step(np.full(4, 2 * hover - 1))
    np.testing.assert_allclose(observation[:3], 0, atol=1e-6)
    assert reward == pytest.approx(1.0, abs=1e-5) and information["is_success"]
    level(environment, 0.0)
    for _ in range(10):
        observation, *_ = environment.step(-np.ones(4))
    assert observation[14] == pytest.approx(-quadrotor.GRAVITY * 0.1, rel=1e-5)
    level(environment, hover)
    faster = np.array([0.0, 0.0, 0.1, 0.1])  # on the left: it rolls to the right, about +x
    observation, *_ = environment.step(2 * hover - 1 + faster)
    assert observation[15] > 0 and observation[16] == pytest.approx(0, abs=1e-9)


def test_an_episode_that_flies_away_ends() -> None:
    environment = gymnasium.make("Quadrotor-v0")
    environment.reset(seed=1)
    steps, over = 0, False
    while not over:
        _, reward, over, truncated, _ = environment.step(np.ones(4))
        steps += 1
        assert not truncated
    assert steps < 100 and reward == 0.0


def test_rotations_keep_lengths() -> None:
    turn = quadrotor.rotation(np.array([0.3, -1.2, 2.0]))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(quadrotor.rotation(np.array([0, 0, np.pi / 2])) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_recall_rewards_the_cue_alone() -> None:
    environment = gymnasium.make("Recall-v0")
    lengths = set()
    for seed in range(20):
        observation, _ = environment.reset(seed=seed)
        cue, steps, over = int(observation[: recall.CUES].argmax()), 0, False
        wrong = seed % 2
        while not over:
            asked = observation[recall.CUES + 1] == 1.0
            observation, reward, over, truncated, information = environment.step((cue + wrong) % recall.CUES)
            steps += 1
            assert over == asked and not truncated
        assert reward == float(not wrong) == float(information["is_success"])
        lengths.add(steps)
    assert min(lengths) >= recall.SHORTEST_DELAY and max(lengths) <= recall.LONGEST_DELAY + 2 and len(lengths) > 5
