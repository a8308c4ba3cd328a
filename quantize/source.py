"""What the quantize stage starts from: a train artifact, or a float ONNX with its two companions."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import input_key, open_artifact
from policyport.core.errors import ArtifactError
from policyport.core.task import Task
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import Floats
from policyport.quantize.onnx_file import FILES, converted
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.sequences import with_states
from policyport.quantize.trained import INTEGERS


@dataclass(frozen=True)
class Source:
    """A float network, its task and its observations, checked against each other."""

    model: Path
    """The float32 ONNX file."""

    key: str
    """The artifact's key, or the hash of the file and its companions."""

    graph: FloatGraph
    task: Task
    task_path: Path
    observations_path: Path
    observations: Floats
    """[n, inputs]: for calibration; of a recurrent network with the state behind each."""

    held_out: Floats
    """[m, inputs]: from other episodes, for figures."""

    converted: Any | None = None
    """The ``onnx.ModelProto`` that a file in another format was made into."""

    integers: Path | None = None
    """What quantization-aware training left beside the network, to be read by :mod:`policyport.quantize.trained`."""


def open_source(model: Path) -> Source:
    """Open a train artifact's folder, or a ``.onnx``, ``.tflite`` or ``.pt2`` with its companions beside it.

    The companions are task.json and observations.npz.

    :raises ArtifactError: a file is missing, torn or does not fit the others
    :raises UnsupportedModelError: the network is not one that can be quantized
    :raises ObservationError: an observation holds NaN or infinity
    """
    if model.is_dir():
        artifact = open_artifact(model, "train")
        names = ("policy.onnx", "task.json", "observations.npz")
        onnx_path, task_path, observations_path = (artifact.file(name) for name in names)
        source = _read(onnx_path, artifact.key, task_path, observations_path)
        trained = INTEGERS in artifact.manifest.files
        return replace(source, integers=artifact.file(INTEGERS)) if trained else source
    if not model.is_file():
        raise ArtifactError(
            "no such model", where=model, expected=f"a train artifact's folder, or a float32 {FILES} file"
        )
    beside = model.parent
    task_path, observations_path = beside / "task.json", beside / "observations.npz"
    if not task_path.is_file():
        raise ArtifactError(
            "no task beside the model",
            where=task_path,
            expected="task.json: environment, sizes, how an output becomes an action",
            cure="write it with policyport.core.task.Task(...).write(path), or all that a torch module needs with "
            "policyport.quantize.torch_model.write_module; or quantize a train artifact",
        )
    return _read(model, input_key(model), task_path, observations_path)


def _read(onnx_path: Path, key: str, task_path: Path, observations_path: Path) -> Source:
    task = Task.read(task_path)
    made = converted(onnx_path)
    graph = read_onnx(onnx_path, task.state, made)
    sizes = (graph.input_size - task.state_size, graph.output_size - task.state_size)
    if sizes != (task.observation_size, task.output_size):
        raise ArtifactError(
            "model and task differ",
            where=onnx_path,
            expected=f"{task.observation_size} inputs and {task.output_size} outputs, as {task_path} says",
            got=f"{sizes[0]} inputs and {sizes[1]} outputs",
        )
    graph = replace(graph, limits=_limits(graph, task))
    observations, held_out = _observations(observations_path, task, graph)
    return Source(onnx_path, key, graph, task, task_path, observations_path, observations, held_out, made)


def _limits(graph: FloatGraph, task: Task) -> tuple[Floats, Floats] | None:
    """The limits of an observation's values as its task has them, where it has them for all."""
    low, high = (np.asarray(ends, np.float32) for ends in (task.observation_low, task.observation_high))
    finite = bool(np.isfinite(low).all() and np.isfinite(high).all())
    return (low, high) if len(low) == len(high) == graph.input_size and finite else None


def _observations(path: Path, task: Task, graph: FloatGraph) -> tuple[Floats, Floats]:
    """Calibration and held-out observations, states behind them; where no others are held out, the last fifth is."""
    if not path.is_file():
        raise ArtifactError(
            "no calibration data: ranges of activations cannot be known without observations",
            where=path,
            expected=f"observations.npz with `observations` float32 [n, {task.observation_size}] "
            "and, from other episodes, `held_out`",
            cure="record them: numpy.savez('observations.npz', observations=..., held_out=...)",
        )
    arrays = _arrays(path)
    observations = _inputs(arrays, "observations", path, task, graph)
    if "held_out" in arrays:
        return observations, _inputs(arrays, "held_out", path, task, graph)
    if len(observations) < 2:
        raise ArtifactError("too few observations", where=path, expected="2 at least", got=len(observations))
    cut = max(1, len(observations) * 4 // 5)
    return observations[:cut], observations[cut:]


def _inputs(arrays: dict[str, NDArray[Any]], name: str, path: Path, task: Task, graph: FloatGraph) -> Floats:
    """[n, inputs]: observations, with the float network's states where it has any and the file has none."""
    given = arrays[name]
    if not task.state or given.shape[-1] == task.input_size:
        return task.check_input(given)
    observations, starts = task.check_observation(given), arrays.get(f"{name}_starts")
    if starts is None or starts.shape != observations.shape[:1]:
        raise ArtifactError(
            f"no `{name}_starts` in the file: a recurrent network remembers, so where episodes start must be known",
            where=path,
            expected=f"`{name}_starts` bool [{len(observations)}], true at the first observation of each episode",
            got="none" if starts is None else starts.shape,
        )
    return with_states(graph, observations, starts.astype(np.bool_))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream, np.load(stream) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            "torn observations: the file does not read as .npz", where=path, got=error, cure="record them again"
        ) from error
    if "observations" not in arrays:
        raise ArtifactError(
            "no `observations` in the file", where=path, expected="observations, held_out", got=", ".join(arrays)
        )
    return arrays
