"""A recurrent policy to a board: a GRU with weights worked out by hand remembers a cue, and answers by integers."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import onnx
import pytest
from policyport.core.recall import CUES
from policyport.core.task import Environment, StateVector, Task
from policyport.deploy.program import read_program
from policyport.hil.policy import ReferencePolicy
from policyport.pipeline.cli import main


def write_latch(path: Path) -> None:
    """A GRU that takes the cue over while it is shown, and keeps it: ``z = sigmoid(8 - 16 shown)``."""
    w, bias = np.zeros((3, CUES, CUES + 2)), np.zeros((2, 3, CUES))
    w[0, :, CUES], bias[0, 0] = -16.0, 8.0
    w[2, :, :CUES] = 4.0 * np.eye(CUES)
    bias[0, 2] = -2.0
    head = 2.0 * np.eye(CUES)
    arrays = {
        "w": w.reshape(1, -1, CUES + 2),
        "r": np.zeros((1, 3 * CUES, CUES)),
        "b": bias.reshape(1, -1),
        "head": head,
    }
    constants = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()]
    constants.append(onnx.numpy_helper.from_array(np.array([0]), "axis"))
    nodes = [
        onnx.helper.make_node("Unsqueeze", ["observation", "axis"], ["sequence"]),
        onnx.helper.make_node(
            "GRU", ["sequence", "w", "r", "b", "", "memory"], ["", "after"], hidden_size=CUES, linear_before_reset=1
        ),
        onnx.helper.make_node("Squeeze", ["after", "axis"], ["shown"]),
        onnx.helper.make_node("MatMul", ["shown", "head"], ["answer"]),
    ]
    shapes = {"observation": [1, CUES + 2], "memory": [1, 1, CUES], "answer": [1, CUES], "after": [1, 1, CUES]}
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    graph = onnx.helper.make_graph(
        nodes,
        "latch",
        [values["observation"], values["memory"]],
        [values["answer"], values["after"]],
        constants,
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), path)


def record(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[count, 6] observations, and where episodes start."""
    environment = gymnasium.make("Recall-v0")
    rows: list[np.ndarray] = []
    starts: list[bool] = []
    over = True
    while len(rows) < count:
        if over:
            observation, _ = environment.reset(seed=seed + len(rows))
        rows.append(observation)
        starts.append(over)
        observation, _, terminated, truncated, _ = environment.step(0)
        over = terminated or truncated
    return np.array(rows), np.array(starts)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latch")
    write_latch(folder / "latch.onnx")
    Task(
        kind="policy",
        name="latch",
        environment=Environment("Recall-v0"),
        observation_size=CUES + 2,
        observation_low=(0.0,) * (CUES + 2),
        observation_high=(1.0,) * (CUES + 2),
        output_size=CUES,
        action_rule="argmax",
        state=(StateVector("memory", "after", CUES),),
    ).write(folder / "task.json")
    observations, starts = record(400, 0)
    held_out, held_out_starts = record(100, 10_000)
    np.savez(
        folder / "observations.npz",
        observations=observations,
        observations_starts=starts,
        held_out=held_out,
        held_out_starts=held_out_starts,
    )
    return folder / "latch.onnx"


def test_the_board_remembers_what_the_float_network_does(model: Path) -> None:
    place = model.parent / "run"
    assert main(["quantize", str(model), "--out", str(place / "quantize"), "-q"]) == 0
    assert main(["deploy", str(place / "quantize"), "--out", str(place / "deploy"), "-q"]) == 0
    assert main(["flash", str(place / "deploy"), "--out", str(place / "flash"), "-q"]) == 0
    options = ["--episodes", "8", "--parity-observations", "16", "--latency-observations", "4"]
    assert main(["hil", str(place / "deploy"), "--out", str(place / "hil"), "-q", *options]) == 0
    result = json.loads((place / "hil/result.json").read_text())
    assert result["parity"]["equal"]
    assert result["loop"]["board_returns"] == result["loop"]["float_returns"] == [1.0] * 8
    assert result["loop"]["agreement"] > 0.99


def test_what_is_remembered_is_forgotten_where_an_episode_starts(model: Path) -> None:
    place = model.parent / "run"
    policy = ReferencePolicy(read_program(place / "deploy"), Task.read(place / "deploy/task.json"))
    seen = np.zeros((2, CUES + 2), np.float32)
    seen[[0, 1], [1, 3]] = seen[:, CUES] = 1.0
    first, state = policy.predict(seen)
    assert first.tolist() == [1, 3]
    question = np.zeros((2, CUES + 2), np.float32)
    question[:, CUES + 1] = 1.0
    kept, _ = policy.predict(question, state)
    assert kept.tolist() == [1, 3]
    forgotten, after = policy.predict(question, state, np.array([True, False]))
    assert forgotten[1] == 3
    np.testing.assert_array_equal(after[0][0], policy.predict(question[:1], None)[1][0][0])
