"""Integers that follow a given agent on the states that they come to themselves."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.artifact import Artifact
from policyport.core.errors import ConfigError, UnsupportedModelError
from policyport.core.task import Task
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.simulate import predict
from policyport.quantize.source import open_source
from policyport.quantize.trained import INTEGERS, read_trained
from policyport.train import ImportConfig, TrainConfig, import_agent, own_states, train

from .little import register_all

pytest.importorskip("torch")

SHORT: dict[str, Any] = {
    **{"calibration_steps": 256, "evaluation_episodes": 2, "qat_weights": 2},
    **{"total_steps": 240, "eval_every_steps": 80},
}


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zips of agents as they begin."""
    from stable_baselines3 import DQN, PPO, TD3

    folder = tmp_path_factory.mktemp("agents")
    PPO("MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs={"log_std_init": -1.0}).save(folder / "ppo.zip")
    TD3("MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs={"net_arch": [24, 16]}).save(folder / "td3.zip")
    DQN("MlpPolicy", "CartPole-v1", seed=0, policy_kwargs={"net_arch": [24, 16]}).save(folder / "dqn.zip")
    return folder


def config(agent: Path, environment: str = "Pendulum-v1", **more: Any) -> TrainConfig:
    return TrainConfig(agent=agent, environment=environment, **{**SHORT, **more})


def rounds(artifact: Artifact) -> list[dict[str, str]]:
    return list(csv.DictReader(artifact.file("own_states.csv").read_text().splitlines()))


@pytest.mark.parametrize(("name", "environment"), [("td3", "Pendulum-v1"), ("dqn", "CartPole-v1")])
def test_integers_come_nearer_and_the_agent_stays(agents: Path, tmp_path: Path, name: str, environment: str) -> None:
    zipped = agents / f"{name}.zip"
    followed = train(config(zipped, environment), tmp_path / "train")
    taken = import_agent(zipped, ImportConfig(environment, 256, evaluation_episodes=2), tmp_path / "import")
    for file in ("policy.onnx", "model.zip"):
        assert followed.file(file).read_bytes() == taken.file(file).read_bytes()
    assert followed.manifest.figures["mean_return"] == taken.manifest.figures["mean_return"]

    told = rounds(followed)
    assert [int(each["steps"]) for each in told] == [80, 160, 240]
    losses = [float(each["loss"]) for each in told]
    assert min(losses[1:]) < losses[0]
    assert followed.manifest.figures["followed_loss"] <= losses[-1]
    assert followed.manifest.figures["followed_steps"] == 240

    made = quantize(followed.path, QuantizeConfig(), tmp_path / "quantize")
    layers = json.loads(made.file("layers.json").read_text())["layers"]
    assert {layer["weight_bits"] for layer in layers} == {2}


def test_the_states_are_those_that_the_integers_meet(agents: Path, tmp_path: Path) -> None:
    """Played anew with what a round began with, the same states and the same loss."""
    followed = train(config(agents / "td3.zip", total_steps=80), tmp_path / "train")
    source, task = open_source(followed.path), Task.read(followed.file("task.json"))
    network = read_trained(source.graph, followed.file(INTEGERS))
    states, returns = own_states.play(network, task, 80, [0, 0])
    again, _ = own_states.play(network, task, 80, [0, 0])
    np.testing.assert_array_equal(states, again)
    assert states.shape == (80, 3) and not returns  # Pendulum's episodes have 200 steps, and four are played at once
    aim = own_states.Aim.of(task, source.graph.evaluate(source.observations))
    loss = aim.toward(source.graph.evaluate(states)).loss(predict(network, states))
    assert loss == pytest.approx(float(rounds(followed)[0]["loss"]), rel=1e-6)


def test_an_interrupted_training_ends_as_one_that_was_not(
    agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(agents / "td3.zip")
    whole = train(given, tmp_path / "whole")
    play, played = own_states.play, []

    def interrupted(*of: Any) -> Any:
        played.append(of)
        if len(played) == 2:
            raise KeyboardInterrupt
        return play(*of)

    monkeypatch.setattr(own_states, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(given, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    resumed = train(given, tmp_path / "cut")
    assert len(played) == 4  # one round, the cut one, and the two that were left
    assert resumed.file("own_states.csv").read_text() == whole.file("own_states.csv").read_text()
    assert resumed.file(INTEGERS).read_bytes() == whole.file(INTEGERS).read_bytes()
    assert not (tmp_path / "cut.partial").exists()


def test_another_training_is_not_gone_on_from(agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(agents / "td3.zip")
    keep = own_states._keep

    def cut(*of: Any) -> None:
        keep(*of)
        raise KeyboardInterrupt

    monkeypatch.setattr(own_states, "_keep", cut)
    with pytest.raises(KeyboardInterrupt):
        train(given, tmp_path / "train")
    monkeypatch.setattr(own_states, "_keep", keep)
    other = train(replace(given, seed=1), tmp_path / "train")
    assert [int(each["steps"]) for each in rounds(other)] == [80, 160, 240]
    fresh = train(replace(given, seed=1), tmp_path / "fresh")
    assert other.file(INTEGERS).read_bytes() == fresh.file(INTEGERS).read_bytes()


def test_the_last_round_may_be_short(agents: Path, tmp_path: Path) -> None:
    made = train(config(agents / "ppo.zip", total_steps=100), tmp_path / "train")
    assert [int(each["steps"]) for each in rounds(made)] == [80, 100]


def test_what_cannot_follow_is_refused(agents: Path, tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    register_all()
    images = PPO("CnnPolicy", "LittleImageDiscrete-v0", n_steps=16, batch_size=16)
    images.save(tmp_path / "images.zip")
    with pytest.raises(UnsupportedModelError, match="fully connected"):
        train(config(tmp_path / "images.zip", "LittleImageDiscrete-v0", calibration_steps=16), tmp_path / "train")
    with pytest.raises(ConfigError, match="acts in another space"):
        train(config(agents / "ppo.zip", "CartPole-v1"), tmp_path / "train")
    with pytest.raises(ConfigError, match="no such file"):
        train(config(tmp_path / "none.zip"), tmp_path / "train")
