"""The train stage: every algorithm's export against its own predict, resume, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.errors import ConfigError, UnsupportedModelError
from policyport.core.task import Task
from policyport.train import TrainConfig, learner, train

SHORT = {"calibration_steps": 64, "evaluation_episodes": 2, "eval_episodes": 1, "eval_every_steps": 128}

ON_POLICY: dict[str, Any] = {"hyperparameters": {"n_steps": 64}}
OFF_POLICY: dict[str, Any] = {"hyperparameters": {"learning_starts": 16, "buffer_size": 1000}}


def short(algorithm: str, environment: str, **more: Any) -> TrainConfig:
    kind = ON_POLICY if algorithm in ("PPO", "A2C") else OFF_POLICY
    return TrainConfig(algorithm=algorithm, environment=environment, total_steps=128, **SHORT, **{**kind, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("algorithm", "environment", "rule"),
    [
        ("PPO", "CartPole-v1", "argmax"),
        ("A2C", "CartPole-v1", "argmax"),
        ("DQN", "CartPole-v1", "argmax"),
        ("PPO", "Pendulum-v1", "clip"),
        ("SAC", "Pendulum-v1", "scale"),
        ("TD3", "Pendulum-v1", "scale"),
        ("DDPG", "Pendulum-v1", "scale"),
    ],
)
def test_export_chooses_what_predict_chooses(tmp_path: Path, algorithm: str, environment: str, rule: str) -> None:
    artifact = train(short(algorithm, environment), tmp_path / "train")
    task = Task.read(artifact.file("task.json"))
    assert task.action_rule == rule
    assert artifact.manifest.figures["predict_check"]["observations"] == 128
    with np.load(artifact.file("observations.npz")) as arrays:
        assert arrays["observations"].shape == arrays["held_out"].shape == (64, task.observation_size)
        assert not np.array_equal(arrays["observations"], arrays["held_out"])


def test_normalised_observations_are_part_of_the_export(tmp_path: Path) -> None:
    import onnx

    artifact = train(short("PPO", "Pendulum-v1", normalize_observations=True), tmp_path / "train")
    operators = [node.op_type for node in onnx.load(str(artifact.file("policy.onnx"))).graph.node]
    assert operators[:3] == ["Sub", "Div", "Clip"]
    assert artifact.manifest.figures["predict_check"]["largest_difference"] < 1e-4


def test_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    first = train(short("PPO", "CartPole-v1", seed=3), tmp_path / "a")
    second = train(short("PPO", "CartPole-v1", seed=3), tmp_path / "b")
    other = train(short("PPO", "CartPole-v1", seed=4), tmp_path / "c")
    hashes = [artifact.manifest.files["policy.onnx"] for artifact in (first, second, other)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("algorithm", "environment", "more"),
    [
        ("PPO", "CartPole-v1", {}),
        ("DQN", "CartPole-v1", {}),
        ("PPO", "Pendulum-v1", {"normalize_observations": True}),
        ("SAC", "Pendulum-v1", {}),
        ("TD3", "Pendulum-v1", {}),
        ("PPO", "CartPole-v1", {"qat_weights": 4, "qat_delay": 0.3}),
    ],
)
def test_interrupted_training_ends_with_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, environment: str, more: dict[str, Any]
) -> None:
    settings = {**short(algorithm, environment).__dict__, "total_steps": 384, "target_return": 1e9, **more}
    config = TrainConfig(**settings)
    whole = train(config, tmp_path / "whole")
    evaluate = learner._evaluate
    calls = 0

    def interrupt(*given: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return evaluate(*given)

    monkeypatch.setattr(learner, "_evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "train")
    state = json.loads((tmp_path / "train.partial" / "state.json").read_text())
    assert len(state["curve"]) == 1
    assert not (tmp_path / "train").exists()

    artifact = train(config, tmp_path / "train")
    for name in ("policy.onnx", "curve.csv", "observations.npz"):
        assert artifact.manifest.files[name] == whole.manifest.files[name], name
    assert not (tmp_path / "train.partial").exists()


def test_checkpoint_of_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    partial = tmp_path / "train.partial"
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"key": "another", "curve": [[128, 1.0]]}))
    artifact = train(short("PPO", "CartPole-v1"), tmp_path / "train")
    assert artifact.manifest.figures["steps"] == 128


def test_trained_agent_is_exported_without_training(tmp_path: Path) -> None:
    trained = train(short("SAC", "Pendulum-v1"), tmp_path / "train")
    imported = train(short("SAC", "Pendulum-v1", agent=trained.file("model.zip")), tmp_path / "import")
    assert imported.manifest.files["policy.onnx"] == trained.manifest.files["policy.onnx"]


def test_unknown_environment_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean CartPole-v1"):
        train(short("PPO", "CartPole-v9x"), tmp_path / "train")
    assert list(tmp_path.iterdir()) == []


def test_unknown_hyperparameter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="n_stepz"):
        train(short("PPO", "CartPole-v1", hyperparameters={"n_stepz": 3}), tmp_path / "train")


def test_missing_agent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.zip"):
        train(short("PPO", "CartPole-v1", agent=tmp_path / "nowhere.zip"), tmp_path / "train")


def test_discrete_observations_are_flattened(tmp_path: Path) -> None:
    artifact = train(short("PPO", "FrozenLake-v1"), tmp_path / "train")
    task = Task.read(artifact.file("task.json"))
    assert task.environment.flatten and task.observation_size == 16


def test_an_episode_without_an_end_is_refused(tmp_path: Path) -> None:
    from policyport.core.task import Environment
    from policyport.train import rollouts

    with pytest.raises(ConfigError, match="does not end"):
        rollouts.seeded_returns(lambda: lambda _: 1, Environment("CliffWalking-v1"), 0, 1)


def test_tuples_of_observations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="Tuple"):
        train(short("PPO", "Blackjack-v1"), tmp_path / "train")


def test_layer_outside_the_chain_is_named(tmp_path: Path) -> None:
    from stable_baselines3 import PPO
    from torch import nn

    policy = {"activation_fn": nn.GELU}
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs=policy, n_steps=64, batch_size=64, device="cpu")
    model.save(tmp_path / "gelu.zip")
    with pytest.raises(UnsupportedModelError, match="GELU"):
        train(short("PPO", "CartPole-v1", agent=tmp_path / "gelu.zip"), tmp_path / "train")
