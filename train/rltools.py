"""A checkpoint of RLtools (HDF5): dense layers and a GRU, and an example that its network is held against.

RLtools (Eschmann, Albani, Loianno) trains policies for small vehicles; RAPTOR, a policy for any quadrotor, is
published in this form in the package foundation-policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, ConfigError, ParityError, ToolError, UnsupportedModelError
from policyport.core.install import pip_install
from policyport.core.task import Environment, StateVector, Task

if TYPE_CHECKING:
    from policyport.core.artifact import ArtifactWriter
    from policyport.train.config import ExportConfig

Floats = NDArray[np.float32]

FUNCTIONS = {"IDENTITY": "", "RELU": "Relu", "TANH": "Tanh", "SIGMOID": "Sigmoid"}
"""RLtools' name of an activation function to ONNX's operator."""

TOLERANCE = 1e-4
"""Largest difference from the outputs of the checkpoint's own example."""

MEMORY = "memory"


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with its function."""

    weight: Floats
    """[outputs, inputs]"""

    bias: Floats
    function: str
    """ONNX operator; empty for none."""


@dataclass(frozen=True)
class Gru:
    """A gated recurrent unit, its rows in ONNX's order: update, reset, candidate."""

    weight: Floats
    """[3 states, inputs]"""

    recurrent: Floats
    """[3 states, states]"""

    bias: Floats
    """[6 states]: of the input, then of the state."""

    @property
    def size(self) -> int:
        """Values that it remembers."""
        return int(self.recurrent.shape[1])


@dataclass(frozen=True)
class Checkpoint:
    """A network and its example."""

    layers: tuple[Dense | Gru, ...]
    example: Floats
    """[steps, n, inputs]: n sequences."""

    outputs: Floats
    """[steps, n, outputs]"""

    squashes: bool
    """Whether the output is a tanh of the mean of what the policy samples from."""

    @property
    def state(self) -> tuple[StateVector, ...]:
        """What the network remembers."""
        sizes = [layer.size for layer in self.layers if isinstance(layer, Gru)]
        return tuple(StateVector(f"{MEMORY}{i}", f"{MEMORY}{i}_after", size) for i, size in enumerate(sizes))


def export_checkpoint(path: Path, config: ExportConfig, writer: ArtifactWriter) -> None:
    """Write ``policy.onnx``, ``task.json``, ``observations.npz``, ``returns.json`` and ``curve.csv``.

    :raises ConfigError: no environment, or one of other sizes
    :raises ArtifactError: no checkpoint
    :raises UnsupportedModelError: another kind of layer; it is named
    :raises ParityError: the export does not yield the outputs of the checkpoint's example
    :raises ToolError: h5py is not installed
    """
    from policyport.train.export import returns_of
    from policyport.train.rollouts import record_observations, recurrent_policy

    checkpoint = read_checkpoint(path)
    task = _task(checkpoint, config.environment, path)
    model = writer.path / "policy.onnx"
    write_network(checkpoint, model, task.name)
    task.write(writer.path / "task.json")
    difference = check_example(model, checkpoint, task)
    begin = recurrent_policy(model, task)
    arrays: dict[str, Any] = {}
    for name, seed, share in (("observations", 1_000_000, config.exploration), ("held_out", 2_000_000, 0.0)):
        first = config.evaluation_seed + seed
        found = record_observations(begin, task.environment, first, config.calibration_steps, share)
        arrays[name], arrays[f"{name}_starts"] = found
    np.savez_compressed(writer.path / "observations.npz", **arrays)
    returns = returns_of(config, task, begin)
    (writer.path / "returns.json").write_text(json.dumps(returns, indent=2) + "\n")
    (writer.path / "curve.csv").write_text("steps,mean_return\n")
    writer.figures.update(
        algorithm=task.algorithm,
        steps=0,
        mean_return=returns["mean"],
        return_deviation=returns["seed_to_seed_std"],
        example_difference=difference,
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file.

    :raises ArtifactError: it does not read as a checkpoint
    :raises UnsupportedModelError: another kind of layer or function, or a state that does not begin at zero
    :raises ToolError: h5py is not installed
    """
    try:
        import h5py
    except ImportError as error:
        raise ToolError("h5py, which reads such files, is not installed", cure=pip_install("[rltools]")) from error
    try:
        with h5py.File(path) as file:
            *layers, squashes = _layers(file["actor"], path)
            example, outputs = (np.asarray(file["example"][name][()], np.float32) for name in ("input", "output"))
    except (OSError, KeyError) as error:
        raise ArtifactError(
            "this does not read as a checkpoint of RLtools", where=path, expected="actor and example", got=error
        ) from error
    return Checkpoint(tuple(layers), example, outputs, squashes)


def write_network(checkpoint: Checkpoint, path: Path, name: str) -> None:
    """One step of the network as ONNX: ``observation`` and memories to ``output`` and memories, [1, size] each."""
    from policyport.train.onnx_writer import OnnxGraph

    graph, current, states = OnnxGraph(), "observation", iter(checkpoint.state)
    axis = graph.constant("first", [0])
    for i, layer in enumerate(checkpoint.layers):
        stem = f"layer{i + 1}"
        if isinstance(layer, Dense):
            given = graph.constant(f"{stem}.weight", layer.weight), graph.constant(f"{stem}.bias", layer.bias)
            current = graph.node("Gemm", stem, current, *given, transB=1)
            current = graph.node(layer.function, f"{stem}.function", current) if layer.function else current
            continue
        vector = next(states)
        sequence, before = (
            graph.node("Unsqueeze", f"{stem}.{what}", tensor, axis)
            for what, tensor in (("sequence", current), ("before", vector.input))
        )
        arrays = {"w": layer.weight[None], "r": layer.recurrent[None], "b": layer.bias[None]}
        given3 = [graph.constant(f"{stem}.{what}", value) for what, value in arrays.items()]
        graph.node("GRU", f"{stem}.all", sequence, *given3, "", before, hidden_size=layer.size, linear_before_reset=1)
        graph.nodes[-1].output.append(f"{stem}.after")
        current = graph.node("Squeeze", vector.output, f"{stem}.after", axis)
    if checkpoint.squashes:
        graph.node("Tanh", "squashed", current)
    graph.save(path, name, checkpoint.example.shape[2], checkpoint.outputs.shape[2], checkpoint.state)


def check_example(model: Path, checkpoint: Checkpoint, task: Task) -> float:
    """Largest difference from the outputs of the example.

    :raises ParityError: it is larger than :data:`TOLERANCE`
    """
    from policyport.train.rollouts import onnx_steps

    run, largest = onnx_steps(model, task), 0.0
    for sequence in range(checkpoint.example.shape[1]):
        state = np.zeros(task.state_size, np.float32)
        for step, (seen, wanted) in enumerate(
            zip(checkpoint.example[:, sequence], checkpoint.outputs[:, sequence], strict=True)
        ):
            output, state = run(seen, state)
            largest = max(largest, float(np.abs(output - wanted).max()))
            if largest > TOLERANCE:
                raise ParityError(
                    "the exported network does not yield the outputs of the checkpoint's example",
                    where=f"{model.name}, sequence {sequence}, step {step}",
                    expected=wanted,
                    got=output,
                )
    return largest


def _layers(group: Any, path: Path) -> Iterator[Any]:
    """The layers of an actor in order; at last whether its output is squashed."""
    squashes = False
    for part in _flat(group):
        kind = part.attrs["type"]
        if kind == "dense":
            yield _dense(part, path)
        elif kind == "gru":
            yield _gru(part, path)
        elif kind == "sample_and_squash":
            squashes = True
        else:
            raise UnsupportedModelError(
                "this layer of RLtools is not supported",
                where=path,
                expected="dense, gru, mlp, sequential, sample_and_squash",
                got=kind,
            )
    yield squashes


def _flat(group: Any) -> Iterator[Any]:
    if group.attrs["type"] == "sequential":
        for i in range(len(group["layers"])):
            yield from _flat(group["layers"][str(i)])
    elif group.attrs["type"] == "mlp":
        hidden = (f"hidden_layer_{i}" for i in range(int(group.attrs["num_layers"]) - 2))
        yield from (group[name] for name in ("input_layer", *hidden, "output_layer"))
    else:
        yield group


def _dense(group: Any, path: Path) -> Dense:
    function = group.attrs["activation_function"]
    if function not in FUNCTIONS:
        raise UnsupportedModelError(
            "this activation function is not supported", where=path, expected=", ".join(FUNCTIONS), got=function
        )
    return Dense(_array(group, "weights"), _array(group, "biases").reshape(-1), FUNCTIONS[function])


def _gru(group: Any, path: Path) -> Gru:
    """RLtools has the rows as reset, update, candidate."""
    if _array(group, "initial_hidden_state").any():
        raise UnsupportedModelError("a state that does not begin at zero", where=path, expected="zeros")

    def reordered(name: str) -> Floats:
        reset, update, candidate = np.split(_array(group, name), 3)
        return np.concatenate([update, reset, candidate])

    bias = np.concatenate([reordered("biases_input"), reordered("biases_hidden")])
    return Gru(reordered("weights_input"), reordered("weights_hidden"), bias)


def _array(group: Any, name: str) -> Floats:
    return np.asarray(group[name]["parameters"][()], np.float32)


def _task(checkpoint: Checkpoint, environment: str, path: Path) -> Task:
    from policyport.core.environment import current_id, open_environment

    if not environment:
        raise ConfigError("no environment given", where=path, expected="--environment with the id to fly it in")
    described = Environment(current_id(environment))
    made = open_environment(described)
    made.close()
    sizes = (checkpoint.example.shape[2], checkpoint.outputs.shape[2])
    got = tuple(int(np.prod(space.shape)) for space in (made.observation_space, made.action_space))
    if sizes != got:
        raise ConfigError(
            "an environment of other sizes than the checkpoint's", where=environment, expected=sizes, got=got
        )
    limit = 1e6  # instead of infinity
    low, high = (np.clip(x, -limit, limit).ravel() for x in (made.observation_space.low, made.observation_space.high))
    return Task(
        kind="policy",
        name=f"RLtools-{described.id}",
        environment=described,
        observation_size=sizes[0],
        observation_low=tuple(map(float, low)),
        observation_high=tuple(map(float, high)),
        output_size=sizes[1],
        action_rule="scale" if checkpoint.squashes else "clip",
        action_low=tuple(map(float, made.action_space.low.ravel())),
        action_high=tuple(map(float, made.action_space.high.ravel())),
        action_shape=tuple(made.action_space.shape),
        algorithm="RLtools",
        state=checkpoint.state,
    )
