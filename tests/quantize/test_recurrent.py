"""Recurrent networks: what is read equals onnxruntime, and a state leaves as the integers that it enters as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from policyport.core.errors import ArtifactError, ConfigError, UnsupportedModelError
from policyport.core.task import Environment, StateVector, Task
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.sequences import with_states
from policyport.quantize.simulate import predict, simulate
from policyport.quantize.source import open_source
from policyport.quantize.stage import for_task

OBSERVATION, STATE, OUTPUTS = 5, 6, 3
GATES = {"GRU": 3, "LSTM": 4}


def write_cell(path: Path, cell: str, *, dense: bool, **attributes: Any) -> tuple[StateVector, ...]:
    """A cell of random weights behind a layer, or behind normalization alone, with a layer of outputs."""
    rng = np.random.default_rng(7)
    size = 4 if dense else OBSERVATION
    rows = GATES[cell] * STATE
    arrays = {
        "mean": rng.normal(size=OBSERVATION),
        "deviation": rng.uniform(0.5, 2.0, OBSERVATION),
        "dense_w": rng.normal(size=(OBSERVATION, size)),
        "w": rng.normal(size=(1, rows, size)),
        "r": rng.normal(size=(1, rows, STATE)),
        "b": rng.normal(size=(1, 2 * rows)),
        "head": rng.normal(size=(STATE, OUTPUTS)),
    }
    constants = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()]
    constants.append(onnx.numpy_helper.from_array(np.array([0]), "axis"))
    states = ["hidden"] if cell == "GRU" else ["hidden", "memory"]
    node = onnx.helper.make_node
    nodes = [
        node("Sub", ["observation", "mean"], ["centred"]),
        node("Div", ["centred", "deviation"], ["normal"]),
        *([node("MatMul", ["normal", "dense_w"], ["linear"]), node("Tanh", ["linear"], ["x"])] if dense else []),
        node("Unsqueeze", ["x" if dense else "normal", "axis"], ["sequence"]),
        *(node("Unsqueeze", [name, "axis"], [f"{name}_3"]) for name in states),
        node(
            cell,
            ["sequence", "w", "r", "b", "", *(f"{name}_3" for name in states)],
            ["all", *(f"{name}_after_3" for name in states)],
            hidden_size=STATE,
            **attributes,
        ),
        *(node("Squeeze", [f"{name}_after_3", "axis"], [f"{name}_after"]) for name in states),
        node("MatMul", ["hidden_after", "head"], ["output"]),
    ]

    def value(name: str, width: int) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", width])

    graph = onnx.helper.make_graph(
        nodes,
        cell,
        [value("observation", OBSERVATION), *(value(name, STATE) for name in states)],
        [value("output", OUTPUTS), *(value(f"{name}_after", STATE) for name in states)],
        constants,
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), path)
    return tuple(StateVector(name, f"{name}_after", STATE) for name in states)


def episodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, OBSERVATION)).astype(np.float32), np.arange(count) % 9 == 0


CASES = [
    ("GRU", True, {"linear_before_reset": 1}),
    ("GRU", False, {"linear_before_reset": 1}),
    ("GRU", False, {}),
    ("LSTM", True, {}),
    ("LSTM", False, {}),
]


@pytest.mark.parametrize(("cell", "dense", "attributes"), CASES)
def test_steps_are_those_of_onnxruntime(tmp_path: Path, cell: str, dense: bool, attributes: dict[str, int]) -> None:
    state = write_cell(tmp_path / "cell.onnx", cell, dense=dense, **attributes)
    graph = read_onnx(tmp_path / "cell.onnx", state)
    observations, starts = episodes(30)
    inputs = with_states(graph, observations, starts)
    session = onnxruntime.InferenceSession(str(tmp_path / "cell.onnx"), providers=["CPUExecutionProvider"])
    before = {vector.input: np.zeros((1, STATE), np.float32) for vector in state}
    for row, start, output in zip(inputs, starts, graph.evaluate(inputs), strict=True):
        if start:
            before = {name: 0 * value for name, value in before.items()}
        np.testing.assert_allclose(row[OBSERVATION:], np.concatenate([*before.values()], axis=1)[0], atol=1e-5)
        exact, *after = session.run(None, {"observation": row[None, :OBSERVATION], **before})
        np.testing.assert_allclose(output, np.concatenate([exact, *after], axis=1)[0], atol=1e-5)
        before = dict(zip(before, after, strict=True))


@pytest.mark.parametrize(("cell", "dense", "attributes"), CASES)
def test_a_state_keeps_its_integers(tmp_path: Path, cell: str, dense: bool, attributes: dict[str, int]) -> None:
    graph = read_onnx(tmp_path / "cell.onnx", write_cell(tmp_path / "cell.onnx", cell, dense=dense, **attributes))
    inputs = with_states(graph, *episodes(200))
    network = quantize_graph(graph, inputs, QuantizeConfig(method="nearest"), 16)
    assert network.input.parameters == network.output.parameters and network.input.bits == 16
    found = simulate(network, inputs)
    q_after, q_before = found.tensors[network.output_name], found.tensors[network.input_name]
    size = graph.state_size
    np.testing.assert_array_equal(network.prefix.gain[-size:], np.ones(size))
    assert np.abs(q_after[:-1, -size:].astype(int) - q_before[1:, -size:])[np.arange(1, 200) % 9 != 0].mean() < 200
    exact = graph.evaluate(inputs)
    noise = np.square(predict(network, inputs) - exact).mean() / np.square(exact).mean()
    assert noise < 1e-3


def source_folder(folder: Path, starts: bool = True) -> Path:
    state = write_cell(folder / "cell.onnx", "GRU", dense=True, linear_before_reset=1)
    bounds = (-5.0,) * OBSERVATION, (5.0,) * OBSERVATION
    task = Task("policy", "cell", Environment("x"), OBSERVATION, *bounds, OUTPUTS, "argmax", state=state)
    task.write(folder / "task.json")
    observations, first = episodes(50)
    given = {"observations_starts": first} if starts else {}
    np.savez(folder / "observations.npz", observations=observations, **given)
    return folder / "cell.onnx"


def test_a_source_has_the_states_behind_its_observations(tmp_path: Path) -> None:
    source = open_source(source_folder(tmp_path))
    assert source.observations.shape == (40, OBSERVATION + STATE) and source.held_out.shape == (10, OBSERVATION + STATE)
    assert not source.observations[::9, OBSERVATION:].any() and source.observations[1, OBSERVATION:].all()
    assert Task.read(tmp_path / "task.json") == source.task
    assert for_task(QuantizeConfig(), source).activations == "int16"
    with pytest.raises(ConfigError, match="int8 activations"):
        for_task(QuantizeConfig(activations="int8"), source)


def test_a_recurrent_network_needs_to_know_where_episodes_start(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="observations_starts"):
        open_source(source_folder(tmp_path, starts=False))


def test_states_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = write_cell(tmp_path / "cell.onnx", "GRU", dense=True, linear_before_reset=1)
    with pytest.raises(UnsupportedModelError, match="one output, and those that the task calls its state"):
        read_onnx(tmp_path / "cell.onnx")
    with pytest.raises(UnsupportedModelError, match="another size than the task says"):
        read_onnx(tmp_path / "cell.onnx", (replace(state[0], size=9),))
    write_cell(tmp_path / "back.onnx", "GRU", dense=True, linear_before_reset=1, direction="reverse")
    with pytest.raises(UnsupportedModelError, match="another direction"):
        read_onnx(tmp_path / "back.onnx", state)
