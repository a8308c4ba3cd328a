"""The import of zips: every algorithm, space and extractor against predict, old files, pickles that run nothing."""

from __future__ import annotations

import base64
import json
import logging
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession
from policyport.core.artifact import Artifact
from policyport.core.errors import ArtifactError, ConfigError, UnsupportedModelError
from policyport.core.task import Task
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.metrics import sqnr_db
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import predict
from policyport.quantize.source import open_source
from policyport.train import ImportConfig, import_agent

from .little import register_all, save_agent

pytest.importorskip("sb3_contrib")
register_all()

Edit = dict[str, Any]


def take(agent: Path, environment: str, **more: Any) -> Artifact:
    """Import into a folder beside the zip."""
    config = ImportConfig(environment=environment, calibration_steps=48, evaluation_episodes=2, **more)
    return import_agent(agent, config, agent.with_suffix(""))


def operators(artifact: Artifact) -> list[str]:
    """Of the exported graph."""
    return [node.op_type for node in onnx.load(str(artifact.file("policy.onnx"))).graph.node]


def edited(agent: Path, edits: Edit, name: str = "edited") -> Path:
    """A copy whose ``data`` has other entries; None removes one."""
    target = agent.with_name(f"{name}.zip")
    with zipfile.ZipFile(agent) as source, zipfile.ZipFile(target, "w") as written:
        for part in source.namelist():
            content = source.read(part)
            if part == "data":
                data = {**json.loads(content), **edits}
                content = json.dumps({key: value for key, value in data.items() if value is not None}).encode()
            written.writestr(part, content)
    return target


@pytest.mark.parametrize(
    ("algorithm", "environment", "rule"),
    [
        ("PPO", "LittleVectorDiscrete-v0", "argmax"),
        ("PPO", "LittleVectorMultiDiscrete-v0", "argmax_each"),
        ("A2C", "LittleVectorMultiBinary-v0", "threshold"),
        ("A2C", "LittleVectorBox-v0", "clip"),
        ("TRPO", "LittleVectorBox-v0", "clip"),
        ("DQN", "LittleVectorDiscrete-v0", "argmax"),
        ("QRDQN", "LittleVectorDiscrete-v0", "argmax"),
        ("DDPG", "LittleVectorBox-v0", "scale"),
        ("TD3", "LittleVectorBox-v0", "scale"),
        ("SAC", "LittleVectorBox-v0", "scale"),
        ("TQC", "LittleVectorBox-v0", "scale"),
        ("ARS", "LittleVectorBox-v0", "scale"),
        ("ARS", "LittleVectorDiscrete-v0", "argmax"),
        ("PPO", "LittleMatrixDiscrete-v0", "argmax"),
        ("PPO", "LittleChoiceDiscrete-v0", "argmax"),
        ("DQN", "LittleChoicesDiscrete-v0", "argmax"),
        ("PPO", "LittleBitsMultiDiscrete-v0", "argmax_each"),
    ],
)
def test_every_algorithm_and_space(tmp_path: Path, algorithm: str, environment: str, rule: str) -> None:
    agent = save_agent(tmp_path / "agent.zip", algorithm, environment)
    artifact = take(agent, environment)
    task = Task.read(artifact.file("task.json"))
    assert (task.action_rule, task.algorithm) == (rule, algorithm)
    assert artifact.manifest.figures["predict_check"]["observations"] == 96
    assert artifact.manifest.figures["mean_return"] == 10.0
    bare = take(agent.rename(tmp_path / "bare.zip"), environment, pickle=False)
    assert bare.manifest.files["policy.onnx"] == artifact.manifest.files["policy.onnx"]
    assert Task.read(bare.file("task.json")) == task


@pytest.mark.parametrize(
    ("algorithm", "more", "rule", "last"),
    [
        ("PPO", {"use_sde": True}, "clip", ["Gemm"]),
        ("PPO", {"use_sde": True, "policy_kwargs": {"squash_output": True}}, "scale", ["Gemm", "Tanh"]),
        ("SAC", {"use_sde": True}, "scale", ["Gemm", "Clip", "Tanh"]),
        ("SAC", {"use_sde": True, "policy_kwargs": {"clip_mean": 0.0}}, "scale", ["Gemm", "Tanh"]),
    ],
)
def test_state_dependent_exploration(
    tmp_path: Path, algorithm: str, more: dict[str, Any], rule: str, last: list[str]
) -> None:
    artifact = take(save_agent(tmp_path / "agent.zip", algorithm, "LittleVectorBox-v0", **more), "LittleVectorBox-v0")
    assert Task.read(artifact.file("task.json")).action_rule == rule
    assert operators(artifact)[-len(last) :] == last


@pytest.mark.parametrize("algorithm", ["PPO", "DQN", "SAC"])
def test_images_go_through_the_nature_network(tmp_path: Path, algorithm: str) -> None:
    environment = f"LittleImage{'Box' if algorithm == 'SAC' else 'Discrete'}-v0"
    artifact = take(save_agent(tmp_path / "agent.zip", algorithm, environment, "CnnPolicy"), environment)
    assert operators(artifact)[:4] == ["Reshape", "Transpose", "Div", "Conv"]
    with np.load(artifact.file("observations.npz")) as arrays:
        assert arrays["observations"].dtype == np.uint8 and arrays["observations"].shape == (48, 36 * 40 * 2)


def test_dictionaries_are_joined(tmp_path: Path) -> None:
    environment = "LittleMixedDiscrete-v0"
    artifact = take(save_agent(tmp_path / "agent.zip", "A2C", environment, "MultiInputPolicy"), environment)
    assert {"Slice", "Conv", "Concat"} <= set(operators(artifact))
    assert Task.read(artifact.file("task.json")).environment.flatten
    source = open_source(artifact.path)
    exact = source.graph.evaluate(source.held_out)
    session = InferenceSession(artifact.file("policy.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(exact, session.run(None, {"observation": source.held_out})[0], atol=1e-5)
    network = quantize_graph(source.graph, source.observations, QuantizeConfig(), 8)
    assert sqnr_db(exact, predict(network, source.held_out)) > 20


@pytest.mark.parametrize(("environment", "policy"), [("Vector", "MlpPolicy"), ("Image", "CnnPolicy")])
def test_a_frame_stack_is_seen_by_the_shape(
    tmp_path: Path, environment: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    name = f"Little{environment}Discrete-v0"
    agent = save_agent(tmp_path / "agent.zip", "PPO", VecFrameStack(make_vec_env(name), 3), policy)
    task = Task.read(take(agent, name).file("task.json"))
    assert task.environment.frame_stack == 3
    assert "a stack of 3 frames" in caplog.text


@pytest.mark.slow
def test_atari_preprocessing_is_seen_by_the_shape(tmp_path: Path) -> None:
    ale_py = pytest.importorskip("ale_py", reason="ale-py is not installed: pip install policyport[atari]")
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install policyport[atari]")
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    environments = VecFrameStack(make_atari_env("PongNoFrameskip-v4", 1), 4)
    artifact = take(save_agent(tmp_path / "agent.zip", "DQN", environments, "CnnPolicy"), "PongNoFrameskip-v4")
    task = Task.read(artifact.file("task.json"))
    assert task.environment.atari and task.environment.frame_stack == 4
    assert task.observation_size == 84 * 84 * 4
    assert -21 <= artifact.manifest.figures["mean_return"] <= 21


@pytest.fixture
def normalized(tmp_path: Path) -> tuple[Path, Path]:
    """An agent that learned behind VecNormalize, and its statistics."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    environments = VecNormalize(make_vec_env("LittleVectorBox-v0", seed=0), clip_obs=1.5)
    agent = save_agent(tmp_path / "agent.zip", "PPO", environments, steps=64)
    environments.save(str(tmp_path / "statistics.pkl"))
    return agent, tmp_path / "statistics.pkl"


def test_statistics_are_part_of_the_network(normalized: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    agent, statistics = normalized
    artifact = take(agent, "LittleVectorBox-v0", vecnormalize=statistics)
    assert operators(artifact)[:3] == ["Sub", "Div", "Clip"]
    assert artifact.manifest.figures["steps"] == 64
    assert "unpickled as inert data" in caplog.text and "statistics.pkl" in caplog.text
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    loaded = VecNormalize.load(str(statistics), make_vec_env("LittleVectorBox-v0"))
    with np.load(artifact.file("observations.npz")) as arrays:
        observations = arrays["observations"]
    theirs, _ = PPO.load(agent, device="cpu").predict(loaded.normalize_obs(observations), deterministic=True)
    from policyport.train.rollouts import onnx_outputs

    ours = Task.read(artifact.file("task.json")).action(onnx_outputs(artifact.file("policy.onnx"))(observations))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_statistics_without_a_pickle(normalized: tuple[Path, Path]) -> None:
    agent, statistics = normalized
    pickled = take(agent, "LittleVectorBox-v0", vecnormalize=statistics)
    with pytest.raises(ConfigError, match="pickle"):
        take(agent, "LittleVectorBox-v0", vecnormalize=statistics, pickle=False)
    from policyport.train.inert import read_pickle

    saved = read_pickle(statistics.read_bytes(), statistics).attributes
    moments = saved["obs_rms"].attributes
    arrays = statistics.with_suffix(".npz")
    np.savez(arrays, mean=moments["mean"], var=moments["var"], epsilon=saved["epsilon"], clip_obs=saved["clip_obs"])
    bare = take(agent.rename(agent.with_name("bare.zip")), "LittleVectorBox-v0", vecnormalize=arrays, pickle=False)
    assert bare.manifest.files["policy.onnx"] == pickled.manifest.files["policy.onnx"]


def test_statistics_that_lie_unused_beside_an_agent_are_mentioned(
    normalized: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    agent, statistics = normalized
    statistics.rename(statistics.with_name("vecnormalize.pkl"))
    take(agent, "LittleVectorBox-v0")
    assert "statistics lie beside the agent and are not used" in caplog.text


def test_statistics_of_another_observation_are_refused(normalized: tuple[Path, Path], tmp_path: Path) -> None:
    agent = save_agent(tmp_path / "other.zip", "PPO", "LittleMatrixBox-v0")
    with pytest.raises(UnsupportedModelError, match="statistics of another observation"):
        take(agent, "LittleMatrixBox-v0", vecnormalize=normalized[1])


class Bomb:
    """A pickle that would run a function of ours."""

    went_off = False

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _go_off, ()


def _go_off() -> None:
    Bomb.went_off = True


def test_no_code_of_a_pickle_runs(tmp_path: Path) -> None:
    import cloudpickle

    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0")
    pickled = cloudpickle.dumps({"net_arch": [64, 64], "ortho_init": Bomb()})
    cloudpickle.loads(pickled)
    assert Bomb.went_off, "the pickle is not armed"
    Bomb.went_off = False
    kwargs = {":type:": "<class 'dict'>", ":serialized:": base64.b64encode(pickled).decode(), "net_arch": "[64, 64]"}
    take(edited(agent, {"policy_kwargs": kwargs}), "LittleVectorDiscrete-v0")
    assert not Bomb.went_off


def test_spaces_of_the_old_gym_read_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    import cloudpickle

    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorBox-v0")
    gym: Any = types.ModuleType("gym.spaces.box")

    class Box:
        """As gym had it in 2020."""

        __module__ = "gym.spaces.box"

        def __init__(self) -> None:
            self.dtype, self.shape = np.dtype("float32"), (2,)
            self.low, self.high = np.array([-2, 0], np.float32), np.array([2, 5], np.float32)
            self.np_random = np.random.RandomState(0)

    Box.__qualname__ = "Box"
    gym.Box = Box
    for name in ("gym", "gym.spaces", "gym.spaces.box"):
        monkeypatch.setitem(sys.modules, name, gym)
    pickled = base64.b64encode(cloudpickle.dumps(Box())).decode()
    monkeypatch.undo()
    texts = {"dtype": "float32", "shape": "[2]", "low": "[-2.  0.]", "high": "[2. 5.]"}
    space = {":type:": "<class 'gym.spaces.box.Box'>", ":serialized:": pickled, **texts}
    old = edited(agent, {"action_space": space})
    before = set(sys.modules)
    for pickle in (True, False):
        task = Task.read(take(old, "LittleVectorBox-v0", pickle=pickle).file("task.json"))
        assert (task.action_low, task.action_high) == ((-2.0, 0.0), (2.0, 5.0))
    assert not [name for name in set(sys.modules) - before if name.split(".")[0] == "gym"]


def test_layers_that_actor_and_critic_share(tmp_path: Path) -> None:
    """As before SB3 1.8: the shared layers are the actor's first ones."""
    import io

    import torch

    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0", policy_kwargs={"net_arch": [16, 8]})
    shared = tmp_path / "shared.zip"
    with zipfile.ZipFile(agent) as source, zipfile.ZipFile(shared, "w") as written:
        for part in source.namelist():
            content = source.read(part)
            if part == "policy.pth":
                weights = torch.load(io.BytesIO(content), weights_only=True)
                renamed = {
                    name.replace("policy_net.0.", "shared_net.0.").replace("policy_net.2.", "policy_net.0."): value
                    for name, value in weights.items()
                }
                stream = io.BytesIO()
                torch.save(renamed, stream)
                content = stream.getvalue()
            written.writestr(part, content)
    ours, theirs = take(shared, "LittleVectorDiscrete-v0"), take(agent, "LittleVectorDiscrete-v0")
    assert ours.manifest.files["policy.onnx"] == theirs.manifest.files["policy.onnx"]


def test_an_activation_function_is_taken_from_the_text(tmp_path: Path) -> None:
    from torch import nn

    kwargs = {"activation_fn": nn.ELU, "net_arch": {"pi": [12], "vf": [5, 5]}}
    agent = save_agent(tmp_path / "agent.zip", "A2C", "LittleVectorDiscrete-v0", policy_kwargs=kwargs)
    for pickle in (True, False):
        assert operators(take(agent, "LittleVectorDiscrete-v0", pickle=pickle)) == ["Gemm", "Elu", "Gemm"]


def test_a_renamed_environment_is_named_and_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    agent = save_agent(tmp_path / "agent.zip", "PPO", "Pendulum-v1")
    task = Task.read(take(agent, "Pendulum-v0").file("task.json"))
    assert task.environment.id == "Pendulum-v1" and "Pendulum-v0 is Pendulum-v1 by now" in caplog.text


def test_every_unpickled_part_is_named_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0")
    take(agent, "LittleVectorDiscrete-v0")
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ["unpickled as inert data, none of its code was run: agent.zip: observation_space, action_space"]
    caplog.clear()
    take(agent, "LittleVectorDiscrete-v0", pickle=False)
    assert not caplog.records


@pytest.mark.parametrize(
    ("algorithm", "policy", "environment", "name"),
    [
        ("RecurrentPPO", "MlpLstmPolicy", "LittleVectorDiscrete-v0", "RecurrentPPO"),
        ("MaskablePPO", "MlpPolicy", "LittleVectorDiscrete-v0", "MaskablePPO"),
        ("CrossQ", "MlpPolicy", "LittleVectorBox-v0", "CrossQ"),
    ],
)
def test_what_is_unsupported_is_refused_by_name(
    tmp_path: Path, algorithm: str, policy: str, environment: str, name: str
) -> None:
    agent = save_agent(tmp_path / "agent.zip", algorithm, environment, policy)
    with pytest.raises(UnsupportedModelError, match=name):
        take(agent, environment)
    assert not agent.with_suffix("").exists()


def test_an_extractor_of_its_own_is_refused_by_name(tmp_path: Path) -> None:
    from stable_baselines3.common.torch_layers import FlattenExtractor

    class Doubling(FlattenExtractor):
        """Does what nobody can know from its weights."""

    kwargs = {"features_extractor_class": Doubling}
    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0", policy_kwargs=kwargs)
    with pytest.raises(UnsupportedModelError, match="Doubling"):
        take(agent, "LittleVectorDiscrete-v0")


def test_a_policy_of_its_own_is_refused_by_name(tmp_path: Path) -> None:
    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0")
    own = {"__module__": "robots", "__init__": "<function CleverPolicy.__init__ at 0x7f>"}
    with pytest.raises(UnsupportedModelError, match=r"robots\.CleverPolicy"):
        take(edited(agent, {"policy_class": own}), "LittleVectorDiscrete-v0")


def test_an_unknown_policy_argument_is_refused_by_name(tmp_path: Path) -> None:
    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0")
    with pytest.raises(UnsupportedModelError, match="dueling=True"):
        take(edited(agent, {"policy_kwargs": {"dueling": True}}), "LittleVectorDiscrete-v0")


def test_another_environment_is_refused(tmp_path: Path) -> None:
    agent = save_agent(tmp_path / "agent.zip", "PPO", "LittleVectorDiscrete-v0")
    with pytest.raises(ConfigError, match="acts in another space"):
        take(agent, "LittleVectorBox-v0")
    with pytest.raises(ConfigError, match="trained on other observations"):
        take(agent, "LittleImageDiscrete-v0")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no zip at all"])
def test_a_torn_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    agent = tmp_path / "agent.zip"
    agent.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"agent\.zip"):
        take(agent, "LittleVectorDiscrete-v0")
