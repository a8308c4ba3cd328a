"""Float graphs, ONNX files and tasks that the tests of this stage are made of."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from policyport.core.task import Environment, Task
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import NONE, RELU, Function, Linear


def _load(name: str) -> ModuleType:
    """A module beside this file, importable by its name in the tests too."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


images = _load("images")

GraphMaker = Callable[..., FloatGraph]


@pytest.fixture(scope="session")
def make_graph() -> GraphMaker:
    """``make_graph(sizes, functions, seed=0, gain=1.0)``: a random network with the identity at its head."""

    def make(sizes: tuple[int, ...], functions: tuple[str, ...], seed: int = 0, gain: float = 1.0) -> FloatGraph:
        rng = np.random.default_rng(seed)
        layers, source = [], "observation"
        for i, function in enumerate(functions):
            shape = (sizes[i + 1], sizes[i])
            weights = (rng.normal(0, gain / np.sqrt(sizes[i]), shape)).astype(np.float32)
            bias = rng.normal(0, 0.3 * gain, sizes[i + 1]).astype(np.float32)
            name = "output" if i + 1 == len(functions) else f"hidden{i}"
            linear = f"linear{i}" if function else name
            kind = {"": NONE, "Relu": RELU}.get(function) or Function(function)
            layers.append(
                Linear(name=name, inputs=(source,), linear_name=linear, weights=weights, bias=bias, function=kind)
            )
            source = name
        shape = (sizes[0],)
        return FloatGraph("net", "observation", shape, "output", HostPrefix.identity(shape), tuple(layers))

    return make


@pytest.fixture(scope="session")
def save_graph() -> Callable[[FloatGraph, Path], Path]:
    """``save_graph(graph, path)``: a float32 ONNX of a graph without prefix, Gemm with transB."""

    def save(graph: FloatGraph, path: Path) -> Path:
        nodes, constants, here = [], [], graph.input_name
        for i, layer in enumerate(graph.weighted):
            function, linear = layer.function.name, layer.linear_name
            constants += [numpy_helper.from_array(layer.weights, f"w{i}"), numpy_helper.from_array(layer.bias, f"b{i}")]
            nodes.append(helper.make_node("Gemm", [here, f"w{i}", f"b{i}"], [linear], transB=1))
            if function:
                nodes.append(helper.make_node(function, [linear], [layer.name]))
            here = layer.name
        return write_model(nodes, constants, path, graph.input_size, graph.output_size)

    return save


@pytest.fixture(scope="session")
def save_nodes() -> Callable[..., Path]:
    """``save_nodes(nodes, constants, path, inputs, outputs)``: any float32 ONNX from `observation` to `output`."""

    def save(
        nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], path: Path, inputs: int, outputs: int
    ) -> Path:
        arrays = {name: np.asarray(value) for name, value in constants.items()}
        tensors = [
            numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(np.float32), name)
            for name, array in arrays.items()
        ]
        return write_model(nodes, tensors, path, inputs, outputs)

    return save


def write_model(nodes: list, constants: list, path: Path, inputs: int, outputs: int) -> Path:
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("observation", kind, ["N", inputs])],
        [helper.make_tensor_value_info("output", kind, ["N", outputs])],
        constants,
    )
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=10
        ),
        path,
    )
    return path


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """``make_task(inputs, outputs, rule="argmax")``: a task of those sizes; Box actions in [-2, 2]."""

    def make(inputs: int, outputs: int, rule: str = "argmax") -> Task:
        box = {} if rule == "argmax" else _box(outputs)
        environment = Environment("CartPole-v1")
        bounds = (-1.0,) * inputs, (1.0,) * inputs
        return Task("policy", "test", environment, inputs, *bounds, outputs, rule, **box)  # type: ignore[arg-type]

    return make


def _box(outputs: int) -> dict:
    return {"action_low": (-2.0,) * outputs, "action_high": (2.0,) * outputs, "action_shape": (outputs,)}


@pytest.fixture
def model_folder(tmp_path: Path, make_graph, save_graph, make_task) -> Path:
    """A folder with policy.onnx (4-16-16-2, tanh), task.json and observations.npz."""
    graph = make_graph((4, 16, 16, 2), ("Tanh", "Tanh", ""), seed=3, gain=2.0)
    save_graph(graph, tmp_path / "policy.onnx")
    make_task(4, 2).write(tmp_path / "task.json")
    rng = np.random.default_rng(0)
    spread = np.array([2.0, 0.5, 0.1, 1.0], np.float32)
    draws = [(rng.normal(size=(600, 4)) * spread).astype(np.float32) for _ in range(2)]
    np.savez(tmp_path / "observations.npz", observations=draws[0], held_out=draws[1])
    return tmp_path


@pytest.fixture(params=images.CASES)
def image_model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A float32 ONNX of an image network, in turn each of those in images.py."""
    return images.write(request.param, tmp_path / f"{request.param}.onnx")


@pytest.fixture
def image_observations() -> Callable[..., np.ndarray]:
    """``image_observations(path, n=48, seed=0)``: observations [n, *shape] in [-2, 2] for such a file."""

    def draw(path: Path, n: int = 48, seed: int = 0) -> np.ndarray:
        shape = images.FILE_SHAPES.get(path.stem, images.SHAPE)
        return np.random.default_rng(seed).uniform(-2, 2, (n, *shape)).astype(np.float32)

    return draw
