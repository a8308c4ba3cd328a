"""Quantization-aware training in the loop: what is deployed are the integers by which the policy acted and learned."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from policyport.core.errors import UnsupportedModelError
from policyport.core.task import Task
from policyport.deploy.board import load_board
from policyport.deploy.config import DeployConfig
from policyport.deploy.host import HostLibrary
from policyport.deploy.program import dequantize_output, quantize_input, read_program
from policyport.deploy.stage import deploy
from policyport.firmware_bridge.client import Bridge
from policyport.hil.rig import EmulatedRig
from policyport.quantize import QuantizeConfig, quantize
from policyport.train import TrainConfig, learner, train
from policyport.train.learner import Learner

from .little import register_all

torch = pytest.importorskip("torch")

SHORT = {"calibration_steps": 64, "evaluation_episodes": 2, "eval_episodes": 1, "eval_every_steps": 128}
ON_POLICY: dict[str, Any] = {"hyperparameters": {"n_steps": 64}}
OFF_POLICY: dict[str, Any] = {"hyperparameters": {"learning_starts": 16, "buffer_size": 1000}}


def short(algorithm: str, environment: str, **more: Any) -> TrainConfig:
    kind = ON_POLICY if algorithm in ("PPO", "A2C") else OFF_POLICY
    qat = {"qat_weights": 3, "qat_delay": 0.25, "target_return": 1e9, "total_steps": 256}
    return TrainConfig(algorithm=algorithm, environment=environment, **{**SHORT, **qat, **kind, **more})  # type: ignore[arg-type]


def met(environment: str, count: int = 48) -> np.ndarray[Any, Any]:
    """Observations [count, size] of an environment under random actions."""
    made = gymnasium.make(environment)
    made.action_space.seed(5)
    seen = made.reset(seed=5)[0]
    rows: list[Any] = []
    while len(rows) < count:
        rows.append(seen)
        seen, _, terminated, truncated, _ = made.step(made.action_space.sample())
        if terminated or truncated:
            seen, _ = made.reset()
    made.close()
    return np.array(rows, np.float32)


TWO_BITS = {"qat_weights": 2, "qat_activations": 2, "qat_input": 3, "qat_output": 5}
"""As few levels as there are, and a few more where observations enter and actions leave."""


@dataclass
class Seen:
    """What the policy computed at the end of its training, before anything of it was exported."""

    observations: np.ndarray[Any, Any]
    integers: dict[str, np.ndarray[Any, Any]]
    actions: np.ndarray[Any, Any]
    moved: list[float]
    """How far the step sizes are from where they began."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    """Filled by a training."""
    found: list[Seen] = []
    export = learner.trained_agent

    def look(trained: Learner, config: TrainConfig) -> Any:
        training = trained.quantized
        assert training is not None
        observations = given = met(config.environment)
        if trained.vecnormalize is not None:
            given = np.asarray(trained.vecnormalize.normalize_obs(observations), np.float32)
        fake = training.actors[0].fake
        actions, _ = trained.model.policy.predict(given, deterministic=True)
        moved = training.actors[0].exponents.detach().abs().tolist()
        found.append(Seen(observations, fake.integers(torch.from_numpy(given)), actions, moved))
        return export(trained, config)

    monkeypatch.setattr(learner, "trained_agent", look)
    yield found


def on_board(folder: Path, q: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with EmulatedRig(load_board("mps2-an386"), folder / "firmware.bin") as rig, Bridge.open(rig.url) as bridge:
        return np.array([bridge.infer(row).output for row in q])


@pytest.mark.parametrize(
    ("algorithm", "environment", "more"),
    [
        ("PPO", "CartPole-v1", {}),
        ("PPO", "Pendulum-v1", {"qat_weights": 2, "qat_input": 8}),
        ("PPO", "Pendulum-v1", {"normalize_observations": True}),
        ("A2C", "CartPole-v1", {"qat_activations": 16, "activation": "relu"}),
        ("DQN", "CartPole-v1", {"activation": "relu"}),
        ("SAC", "Pendulum-v1", {"qat_weights": 4}),
        ("TD3", "Pendulum-v1", {"activation": "relu"}),
        ("DDPG", "Pendulum-v1", {"qat_weights": 8, "normalize_observations": True}),
        ("PPO", "CartPole-v1", {"qat_activations": 4, "qat_input": 4, "qat_output": 8}),
        ("TD3", "Pendulum-v1", {"activation": "relu", "normalize_observations": True, **TWO_BITS}),
        ("SAC", "Pendulum-v1", TWO_BITS),
    ],
)
def test_the_deployed_integers_are_those_that_training_saw(
    tmp_path: Path, seen: list[Seen], algorithm: str, environment: str, more: dict[str, Any]
) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not on PATH")
    config = short(algorithm, environment, **more)
    trained = train(config, tmp_path / "train")
    (last,) = seen
    assert max(last.moved) > 1e-6  # step sizes are learned
    quantized = quantize(trained.path, QuantizeConfig(), tmp_path / "quantize")
    layers = json.loads(quantized.file("layers.json").read_text())["layers"]
    assert {layer["weight_bits"] for layer in layers} == {config.qat_weights}
    assert layers[0]["input_bits"] == config.qat_input and layers[-1]["output_bits"] == config.qat_output
    assert {layer["output_bits"] for layer in layers[:-1]} == {config.qat_activations}

    deployed = deploy(quantized.path, DeployConfig(toolchain="gcc"), tmp_path / "deploy").path
    program, task = read_program(deployed), Task.read(deployed / "task.json")
    q = quantize_input(program, last.observations)
    np.testing.assert_array_equal(q, last.integers["observation"])
    with HostLibrary(deployed / "src") as host:
        host_layers = [host.trace(row) for row in q]
    compared = 0
    for index, layer in enumerate(program.layers):
        wanted = last.integers.get(layer.output.name)
        if wanted is not None and wanted.shape[1] == layer.output.size:  # deploy takes out dead channels
            np.testing.assert_array_equal(np.array([row[index] for row in host_layers]), wanted, err_msg=layer.name)
            compared += 1
    assert compared >= 1 and program.layers[-1].output.name in last.integers
    outputs = on_board(deployed, q)
    np.testing.assert_array_equal(outputs, last.integers[program.layers[-1].output.name])

    actions = task.action(dequantize_output(program, outputs))
    if algorithm == "SAC":  # applies its last tanh in float
        np.testing.assert_allclose(actions, last.actions, atol=4 / 127)
    else:
        np.testing.assert_allclose(actions, last.actions, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "environment", "more"),
    [("PPO", "Pendulum-v1", {"normalize_observations": True}), ("DQN", "CartPole-v1", {}), ("TD3", "Pendulum-v1", {})],
)
def test_an_interrupted_training_goes_on_by_the_same_integers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seen: list[Seen],
    algorithm: str,
    environment: str,
    more: dict[str, Any],
) -> None:
    config = short(algorithm, environment, total_steps=512, **more)
    evaluate, checkpoint, resume = learner._evaluate, learner._checkpoint, learner._resume
    left: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []

    def state_of(at: Learner) -> dict[str, Any]:
        assert at.quantized is not None
        observations = torch.from_numpy(at.quantized.features)
        actors = [actor.fake.integers(observations) for actor in at.quantized.actors]
        optimizer = at.quantized.optimizer.state_dict()
        return copy.deepcopy({"actors": actors, "groups": optimizer["param_groups"], "state": optimizer["state"]})

    def keep(at: Learner, *given: Any) -> None:
        checkpoint(at, *given)
        if at.quantized is not None:
            left.append(state_of(at))

    def interrupted(at: Learner, config: TrainConfig) -> float:
        if len(left) == 2:
            raise KeyboardInterrupt
        return evaluate(at, config)

    def resumed(*given: Any) -> Learner | None:
        at = resume(*given)
        if at is not None:
            found.append(state_of(at))
        return at

    monkeypatch.setattr(learner, "_checkpoint", keep)
    monkeypatch.setattr(learner, "_resume", resumed)
    monkeypatch.setattr(learner, "_evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "train")
    monkeypatch.setattr(learner, "_evaluate", evaluate)
    artifact = train(config, tmp_path / "train")

    assert len(found) == 1 and found[0]["groups"] == left[1]["groups"]
    for ours, theirs in zip(found[0]["actors"], left[1]["actors"], strict=True):
        for name, q in ours.items():
            np.testing.assert_array_equal(q, theirs[name], err_msg=name)
    assert found[0]["state"].keys() == left[1]["state"].keys()
    for key, moments in found[0]["state"].items():
        for name, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(left[1]["state"][key][name]))
    steps = [int(line.split(",")[0]) for line in artifact.file("curve.csv").read_text().splitlines()[1:]]
    assert steps[0] == 128 and steps == sorted(set(steps)) and steps[-1] >= 512
    assert len(seen) == 1 and "integers.npz" in artifact.manifest.files


def test_integers_begin_when_the_delay_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between evaluations too; and after the whole training they are those of post-training quantization."""
    began: list[int] = []
    begin = learner._quantize

    def note(at: Learner, config: TrainConfig) -> None:
        began.append(at.model.num_timesteps)
        begin(at, config)

    monkeypatch.setattr(learner, "_quantize", note)
    more = {"total_steps": 256, "eval_every_steps": 128, "hyperparameters": {"n_steps": 32, "batch_size": 32}}
    for delay in (0.0, 0.375, 1.0):
        train(short("PPO", "CartPole-v1", qat_delay=delay, **more), tmp_path / str(delay))
    assert began == [0, 96, 256]


def test_a_target_reached_in_float_must_be_reached_by_integers(tmp_path: Path) -> None:
    config = short("PPO", "CartPole-v1", total_steps=1280, target_return=1.0, qat_delay=0.9)
    curve = train(config, tmp_path / "train").file("curve.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in curve] == [128, 256, 384, 512]


def test_float_returns_are_of_the_values_that_the_integers_stand_for(tmp_path: Path, seen: list[Seen]) -> None:
    """The float network that is exported has the integers' weights, so that it can be compared with them."""
    from policyport.quantize.metrics import sqnr_db
    from policyport.quantize.simulate import predict
    from policyport.quantize.source import open_source
    from policyport.quantize.trained import read_trained

    config = short("TD3", "Pendulum-v1", activation="relu", qat_activations=16)
    source = open_source(train(config, tmp_path / "train").path)
    assert source.integers is not None
    network, observations = read_trained(source.graph, source.integers), seen[0].observations
    for layer, live in zip(network.layers[1:], source.graph.weighted[1:], strict=True):
        grid = layer.weights * layer.weight_scale.astype(np.float64)[:, None]
        np.testing.assert_allclose(live.weights, grid, rtol=1e-5, atol=1e-7)
    real, integer = source.graph.evaluate(observations), predict(network, observations)
    inside = (integer > integer.min()) & (integer < integer.max())  # a range that training left saturates beyond
    assert inside.sum() >= 20 and sqnr_db(real[inside], integer[inside]) > 25


@pytest.mark.parametrize("observation", ["Image", "Mixed"])
def test_observations_that_are_no_vectors_are_refused(tmp_path: Path, observation: str) -> None:
    register_all()
    more = {"total_steps": 16, "qat_delay": 0.0, "hyperparameters": {"n_steps": 16, "batch_size": 16}}
    with pytest.raises(UnsupportedModelError, match="vectors"):
        train(short("PPO", f"Little{observation}Discrete-v0", **more), tmp_path / "train")
