"""The margin of the equivalence test: from float32's noise alone, before the board plays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ArtifactError
from policyport.core.task import Environment, Task
from policyport.hil.config import HilConfig
from policyport.hil.margin import FRESH_SEEDS, from_returns, state_margin
from policyport.hil.policy import Observations, Outputs, TaskPolicy
from policyport.hil.statistics import equivalence

TASK = Task("policy", "t", Environment("CartPole-v1", {"max_episode_steps": 30}), 4, (), (), 2, "argmax")

PENDULUM = np.array([-5.6, -133.0, -131.4, -0.9, -118.2, -240.3, -127.9, -355.0, -122.1, -233.7])
"""Returns of one good Pendulum policy: the start decides most of it."""


class Constant(TaskPolicy):
    """Always pushes one way, and counts how often it was asked."""

    asked = 0

    def outputs(self, observations: Observations) -> Outputs:
        self.asked += 1
        return np.tile(np.float32([0.0, 1.0]), (len(observations), 1))


def recorded(folder: Path, returns: list[float]) -> Path:
    path = folder / "returns.json"
    path.write_text(json.dumps({"returns": returns}))
    return path


def test_a_given_margin_wins_and_nobody_plays(tmp_path: Path) -> None:
    policy = Constant(TASK)
    margin = state_margin(HilConfig(margin=3.0), policy, recorded(tmp_path, [1.0, 99.0]))
    assert margin.value == 3.0 and "margin option" in margin.basis and policy.asked == 0


def test_the_standard_error_of_training_s_returns(tmp_path: Path) -> None:
    policy = Constant(TASK)
    margin = state_margin(HilConfig(episodes=4), policy, recorded(tmp_path, [100.0, 200.0, 300.0]))
    assert margin.value == pytest.approx(100.0 / 2) and policy.asked == 0
    assert "deviates by 100 over the 3 seeds of training's own evaluation" in margin.basis


def test_without_recorded_returns_float32_plays_seeds_of_its_own() -> None:
    policy = Constant(TASK)
    margin = state_margin(HilConfig(episodes=5, seed=11, min_margin=0.0), policy, None)
    assert policy.asked > 25 and "before the board's" in margin.basis
    again = state_margin(HilConfig(episodes=5, seed=11 + FRESH_SEEDS, min_margin=0.0), Constant(TASK), None)
    assert margin.value > 0 and again != margin


def test_a_policy_without_noise_gets_the_floor(tmp_path: Path) -> None:
    margin = state_margin(HilConfig(min_margin=1.0), Constant(TASK), recorded(tmp_path, [500.0] * 20))
    assert margin.value == 5.0 and "min_margin" in margin.basis and "mean 500" in margin.basis


@pytest.mark.parametrize("content", ["{}", "[]", '{"returns": []}', '{"returns": [NaN]}', '{"returns": 3}', "{"])
def test_a_file_without_returns_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "returns.json").write_text(content)
    with pytest.raises(ArtifactError, match="no returns"):
        state_margin(HilConfig(), Constant(TASK), tmp_path / "returns.json")


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40), st.integers(1, 100))
def test_more_episodes_never_widen_it(values: list[float], episodes: int) -> None:
    returns = np.array(values)
    fewer, more = (from_returns(HilConfig(episodes=n), returns, "x").value for n in (episodes, 4 * episodes))
    assert more <= fewer
    assert fewer >= abs(returns.mean()) / 100 * (1 - 1e-12)


def test_it_tells_a_policy_that_lost_an_eighth_from_one_that_lost_nothing() -> None:
    margin = from_returns(HilConfig(episodes=len(PENDULUM), min_margin=0.0), PENDULUM, "x").value
    noise = np.random.default_rng(0).normal(0, 2, len(PENDULUM))
    assert margin < 0.25 * abs(PENDULUM.mean())
    assert equivalence(PENDULUM + noise, PENDULUM, margin).equivalent
    assert not equivalence(PENDULUM + noise - 40.0, PENDULUM, margin).equivalent
