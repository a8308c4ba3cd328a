"""The margin of the equivalence test: a share of what float32 has learned, before the board plays."""

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
from policyport.hil.margin import FRESH_SEEDS, RANDOM_EPISODES, of_span, random_returns, state_margin
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


def test_a_share_of_the_span_from_random_actions_to_training_s_returns(tmp_path: Path) -> None:
    policy, config = Constant(TASK), HilConfig(episodes=4, margin_share=10.0)
    margin = state_margin(config, policy, recorded(tmp_path, [100.0, 200.0, 300.0]))
    by_chance = random_returns(TASK.environment, config.seed + FRESH_SEEDS, RANDOM_EPISODES)
    assert margin.value == pytest.approx(0.1 * (200.0 - by_chance.mean())) and policy.asked == 0
    assert "in the 3 of training's own evaluation" in margin.basis and "10 % of the span" in margin.basis


def test_without_recorded_returns_float32_plays_seeds_of_its_own() -> None:
    policy = Constant(TASK)
    margin = state_margin(HilConfig(episodes=5, seed=11), policy, None)
    assert policy.asked > 25 and "before the board's" in margin.basis and margin.value > 0
    assert state_margin(HilConfig(episodes=5, seed=11 + FRESH_SEEDS), Constant(TASK), None) != margin


def test_random_actions_repeat_under_their_seed_and_differ_between_seeds() -> None:
    first, again, other = (random_returns(TASK.environment, seed, 8).tolist() for seed in (3, 3, 4))
    assert first == again and first[1:] == other[:-1] and first != other


def test_a_policy_that_learned_nothing_has_no_margin_to_be_equivalent_within() -> None:
    margin = of_span(5.0, np.full(4, 9.0), np.full(4, 9.0), "x")
    assert margin.value == 0.0 and "nothing is equivalent" in margin.basis
    assert not equivalence(np.full(4, 9.0), np.full(4, 9.0), margin.value).equivalent


@pytest.mark.parametrize("content", ["{}", "[]", '{"returns": []}', '{"returns": [NaN]}', '{"returns": 3}', "{"])
def test_a_file_without_returns_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "returns.json").write_text(content)
    with pytest.raises(ArtifactError, match="no returns"):
        state_margin(HilConfig(), Constant(TASK), tmp_path / "returns.json")


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20),
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20),
    st.integers(2, 5),
)
def test_more_episodes_of_the_same_leave_it_as_it_is(worse: list[float], better: list[float], times: int) -> None:
    few = of_span(5.0, np.array(worse), np.array(better), "x").value
    many = of_span(5.0, np.array(worse * times), np.array(better * times), "x").value
    assert many == pytest.approx(few, abs=1e-9)
    assert few == pytest.approx(0.05 * abs(np.mean(better) - np.mean(worse)), abs=1e-9)


def test_it_tells_a_policy_that_lost_an_eighth_from_one_that_lost_nothing() -> None:
    margin = of_span(2.0, np.full(10, -1200.0), PENDULUM, "x").value
    noise = np.random.default_rng(0).normal(0, 2, len(PENDULUM))
    assert margin < 0.25 * abs(PENDULUM.mean())
    assert equivalence(PENDULUM + noise, PENDULUM, margin).equivalent
    assert not equivalence(PENDULUM + noise - 40.0, PENDULUM, margin).equivalent
