"""The closed loop, with policies that need no board: pairing, agreement, resuming, environments."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ConfigError, ObservationError, ToolError
from policyport.core.task import Environment, Task
from policyport.hil import loop
from policyport.hil.delay import Delayed, play_delayed
from policyport.hil.policy import Observations, Outputs, TaskPolicy

CARTPOLE = Task(
    kind="policy",
    name="cartpole",
    environment=Environment("CartPole-v1"),
    observation_size=4,
    observation_low=(),
    observation_high=(),
    output_size=2,
    action_rule="argmax",
)

PENDULUM = Task(
    kind="policy",
    name="pendulum",
    environment=Environment("Pendulum-v1"),
    observation_size=3,
    observation_low=(),
    observation_high=(),
    output_size=1,
    action_rule="scale",
    action_low=(-2.0,),
    action_high=(2.0,),
    action_shape=(1,),
)


class Linear(TaskPolicy):
    """Outputs ``observation @ weights``; counts how often it was asked, and can fail at a step."""

    def __init__(self, task: Task, weights: list[list[float]], fail_at: int = -1) -> None:
        super().__init__(task)
        self.weights = np.array(weights, np.float32)
        self.calls = 0
        self.fail_at = fail_at

    def outputs(self, observations: Observations) -> Outputs:
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        return observations @ self.weights


BALANCING = [[0.0, 0.0], [0.0, 0.3], [0.0, 3.0], [0.0, 1.0]]
"""Pushes towards the side that the pole falls to: some hundreds of steps."""


def nothing(done: float, note: str = "") -> None:
    """Progress that nobody watches."""


def play(path: Path, board: TaskPolicy, float32: TaskPolicy, episodes: int = 3, seed: int = 7) -> list[loop.Episode]:
    return loop.run_episodes(board, float32, episodes, seed, path / "episodes.jsonl", nothing)


def test_equal_policies_agree_and_return_the_same(tmp_path: Path) -> None:
    episodes = play(tmp_path, Linear(CARTPOLE, BALANCING), Linear(CARTPOLE, BALANCING))
    figures = loop.summarize_loop(CARTPOLE, episodes, 12.0, "given")
    assert [e.seed for e in episodes] == [7, 8, 9]
    assert figures.agreement == 1.0 and figures.action_error == 0.0 and figures.output_error == 0.0
    assert figures.board_returns == figures.float_returns
    assert figures.steps == sum(e.steps for e in episodes) > 60
    assert figures.equivalence.margin == 12.0 and figures.equivalence.equivalent


def test_opposite_policies_never_agree(tmp_path: Path) -> None:
    opposite = (-np.array(BALANCING)).tolist()
    episodes = play(tmp_path, Linear(CARTPOLE, opposite), Linear(CARTPOLE, BALANCING))
    figures = loop.summarize_loop(CARTPOLE, episodes, 1.0, "given")
    assert figures.agreement == 0.0 and figures.action_error == 1.0
    assert figures.board.mean < 15 < 60 < figures.float32.mean
    assert not figures.equivalence.equivalent and figures.equivalence.high < 0


@pytest.mark.parametrize(("offset", "agreement"), [(0.019, 1.0), (0.021, 0.0)])
def test_continuous_actions_agree_within_a_hundredth_of_the_range(
    tmp_path: Path, offset: float, agreement: float
) -> None:
    class Shifted(Linear):
        def outputs(self, observations: Observations) -> Outputs:
            return super().outputs(observations) + np.float32(offset)

    episodes = play(tmp_path, Shifted(PENDULUM, [[0.0]] * 3), Linear(PENDULUM, [[0.0]] * 3), episodes=1)
    figures = loop.summarize_loop(PENDULUM, episodes, 1.0, "given")
    assert figures.agreement == agreement
    assert figures.action_error == pytest.approx(offset / 2, rel=1e-3)
    assert figures.output_error == pytest.approx(offset, rel=1e-3)


def test_an_interrupted_run_goes_on_with_what_it_lacks(tmp_path: Path) -> None:
    whole = play(tmp_path, Linear(CARTPOLE, BALANCING), Linear(CARTPOLE, BALANCING), 4)
    torn = tmp_path / "torn"
    torn.mkdir()
    steps = whole[0].steps + whole[1].steps
    with pytest.raises(KeyboardInterrupt):
        play(torn, Linear(CARTPOLE, BALANCING, fail_at=steps + 5), Linear(CARTPOLE, BALANCING), 4)
    journal = torn / "episodes.jsonl"
    assert len(journal.read_text().splitlines()) == 2
    journal.write_text(journal.read_text() + '{"episode": 2, "se')  # power was cut while writing
    board = Linear(CARTPOLE, BALANCING)
    assert play(torn, board, Linear(CARTPOLE, BALANCING), 4) == whole
    assert board.calls == whole[2].steps + whole[3].steps
    assert journal.read_text() == (tmp_path / "episodes.jsonl").read_text()


class Said(gymnasium.Env[np.ndarray, int]):
    """Three steps; its last ``info`` says of success what it is made with."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, info: dict[str, object]) -> None:
        self.info = info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.left = 3
        return np.zeros(4, np.float32), {"is_success": False}

    def step(self, action: int) -> Any:
        self.left -= 1
        return np.zeros(4, np.float32), 1.0, self.left == 0, False, self.info if self.left == 0 else {}


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"is_success": True}, True),
        ({"is_success": np.False_}, False),
        ({"success": 1.0}, True),
        ({"is_success": False, "success": True}, False),
        ({"other": 1}, None),
    ],
)
def test_success_is_what_the_environment_says_last(info: dict[str, object], success: bool | None) -> None:
    assert loop.play(Said(info), 0, lambda _: 0) == loop.Played(3.0, 3, success)


def test_success_is_recorded_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = iter([{"success": True}, {"success": False}] * 4)
    monkeypatch.setattr(Said, "info", property(lambda _: next(infos), lambda *_: None), raising=False)
    monkeypatch.setattr(loop, "open_environment", lambda _: Said({}))
    episodes = play(tmp_path, Linear(CARTPOLE, BALANCING), Linear(CARTPOLE, BALANCING), 4)
    assert [(one.board_success, one.float_success) for one in episodes] == [(True, False)] * 4
    figures = loop.summarize_loop(CARTPOLE, episodes, 1.0, "given")
    assert (figures.board_success, figures.float_success) == (1.0, 0.0)
    assert loop.read_journal(tmp_path / "episodes.jsonl") == episodes


@pytest.mark.parametrize(
    ("said", "rate"),
    [([True, False, False, True], 0.5), ([True, None], None), ([], None), ([False], 0.0)],
)
def test_a_rate_needs_every_episode(said: list[bool | None], rate: float | None) -> None:
    assert loop.success_rate(said) == rate


@given(st.integers(0, 6), st.lists(st.integers(0, 99), min_size=1, max_size=20))
def test_late_actions_are_those_of_some_steps_ago(delay_steps: int, seen: list[int]) -> None:
    late = Delayed(lambda observation: 2 * int(observation), delay_steps)
    applied = [late(np.array(observation)) for observation in seen]
    assert applied == [2 * seen[max(0, at - delay_steps)] for at in range(len(seen))]


def test_the_return_falls_as_actions_come_later(tmp_path: Path) -> None:
    board = Linear(CARTPOLE, BALANCING)
    episodes = play(tmp_path, board, Linear(CARTPOLE, BALANCING), 4)
    journal = tmp_path / "delays.jsonl"
    late = play_delayed(board, [8, 0, 2, 8], episodes, journal, nothing)
    assert [one.delay_steps for one in late] == [2, 8]
    means = [float(np.mean([one.board_return for one in episodes])), *(one.board.mean for one in late)]
    assert means[0] > means[2] and means[1] > means[2]
    for one in late:
        assert one.board.low <= one.board.mean <= one.board.high and len(one.returns) == 4
        assert one.loss.mean == pytest.approx(means[0] - one.board.mean)
    lines = journal.read_text().splitlines()
    assert len(lines) == 8
    journal.write_text("\n".join(lines[:5]) + '\n{"delay_st')  # an interruption tore the sixth
    again = Linear(CARTPOLE, BALANCING)
    assert play_delayed(again, [2, 8], episodes, journal, nothing) == late
    assert again.calls == sum(json.loads(line)["steps"] for line in lines[5:])
    assert journal.read_text().splitlines() == lines


def test_no_delay_is_the_loop_itself(tmp_path: Path) -> None:
    board = Linear(CARTPOLE, BALANCING)
    episodes = play(tmp_path, board, Linear(CARTPOLE, BALANCING), 1)
    environment = loop.open_environment(CARTPOLE.environment)
    with contextlib.closing(environment):
        undelayed = Delayed(loop.Acting(board), 0)
        assert loop.play(environment, episodes[0].seed, undelayed).total == episodes[0].board_return


def test_every_line_of_the_journal_is_json(tmp_path: Path) -> None:
    play(tmp_path, Linear(CARTPOLE, BALANCING), Linear(CARTPOLE, BALANCING), 2)
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert [line["episode"] for line in lines] == [0, 1]


def test_an_unknown_environment_is_named() -> None:
    for described in (Environment("NoSuchThing-v0"), Environment("no_such_package:Thing-v0")):
        with pytest.raises(ConfigError, match=described.id), loop.make_environment(described):
            pass


def test_a_missing_package_of_an_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium

    def fail(*_: object, **__: object) -> None:
        raise gymnasium.error.DependencyNotInstalled("pip install swig")

    monkeypatch.setattr(gymnasium, "make", fail)
    with pytest.raises(ToolError, match="pip install swig"), loop.make_environment(Environment("LunarLander-v3")):
        pass


@pytest.mark.parametrize(
    "observation",
    [np.array([0.0, np.nan, 0.0, 0.0]), np.array([0.0, 0.0, np.inf, 0.0]), np.zeros(5), np.zeros((2, 3)), np.zeros(0)],
)
def test_bad_observations_reach_no_policy(observation: np.ndarray) -> None:
    policy = Linear(CARTPOLE, BALANCING)
    with pytest.raises(ObservationError, match="CartPole-v1"):
        policy.predict(observation)
    assert policy.calls == 0


def test_predict_keeps_the_batch_axis_of_stable_baselines() -> None:
    discrete, continuous = Linear(CARTPOLE, BALANCING), Linear(PENDULUM, [[0.0]] * 3)
    state = (np.zeros(1),)
    action, returned = discrete.predict(np.zeros(4), state, np.array([True]), deterministic=True)
    assert action.shape == () and returned is state
    assert discrete.predict(np.zeros((1, 4)))[0].shape == (1,)
    assert discrete.predict(np.zeros((6, 4)))[0].shape == (6,)
    assert continuous.predict(np.zeros(3))[0].shape == (1,)
    assert continuous.predict(np.zeros((6, 3)))[0].shape == (6, 1)


def test_evaluate_policy_of_stable_baselines_runs_unchanged() -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation", reason="stable-baselines3 is not installed")
    import gymnasium
    from stable_baselines3.common.monitor import Monitor

    environment = Monitor(gymnasium.make("CartPole-v1"))
    environment.reset(seed=3)
    mean, std = evaluation.evaluate_policy(Linear(CARTPOLE, BALANCING), environment, n_eval_episodes=3)
    assert mean > 20 and std >= 0


def test_successes_are_counted_where_the_environment_knows_them(tmp_path: Path) -> None:
    task = replace(CARTPOLE, environment=Environment("Recall-v0"), observation_size=6, output_size=4)
    knowing = Linear(task, np.eye(6, 4).tolist())
    episodes = play(tmp_path, knowing, knowing, episodes=12)
    assert [episode.board_success for episode in episodes] == [episode.board_return == 1.0 for episode in episodes]
    figures = loop.summarize_loop(task, episodes, 1.0, "given")
    assert figures.board_success == figures.float_success == figures.board.mean
    (tmp_path / "plain").mkdir()
    plain = play(tmp_path / "plain", Linear(CARTPOLE, BALANCING), Linear(CARTPOLE, BALANCING), 1)
    assert loop.summarize_loop(CARTPOLE, plain, 1.0, "given").board_success is None
