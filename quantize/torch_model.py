"""A torch module, or one that ``torch.export`` has saved, as what the quantize stage reads.

A ``.pt2`` file holds a graph of operators and its weights; it becomes ONNX by torch's own exporter. What is pickled is
code as much as data: a pickled module (``.pt``, ``.pth``) is not read, nor a ``.pt2`` with pickled weights or
constants; :func:`write_module` takes the module itself.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, ObservationError, ParityError, ToolError, UnsupportedModelError
from policyport.core.install import pip_install
from policyport.core.task import LABELS_FILE, ActionRule, Environment, Task
from policyport.quantize.nodes import Floats

SUFFIX = ".pt2"
"""Of the files that ``torch.export.save`` writes."""

CLOSE = 1e-3
"""How far an output of the exported file may be from the module's, as a share of the largest."""

ONE_INPUT = "one input [n, features] or [n, channels, height, width] and one output [n, values]"


def onnx_of_torch(path: Path) -> Any:
    """The file as an ``onnx.ModelProto``.

    :param path: what ``torch.export.save`` wrote, its batch dynamic, or 1
    :raises ArtifactError: missing, torn, or with pickled parts
    :raises UnsupportedModelError: an operator that torch cannot put into ONNX, or a batch of more than 1
    :raises ToolError: torch or its exporter is not installed
    """
    torch = _torch()
    _refuse_pickled(path)
    try:
        program = torch.export.load(path)
    except Exception as error:  # whatever a torn archive makes torch raise
        raise ArtifactError("torn model: torch does not load it", where=path, got=_short(error)) from error
    names = program.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in names]
    if len(shapes) != 1:
        raise UnsupportedModelError("not a network that is taken", where=path, expected=ONE_INPUT, got=names)
    if isinstance(shapes[0][0], int) and shapes[0][0] != 1:
        cure = "torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim('n')},))"
        raise UnsupportedModelError(
            "a batch of a fixed size", where=path, expected="1, or any", got=shapes[0], cure=cure
        )
    return _exported(program, (), path)


def write_module(
    module: Any,
    folder: Path,
    observations: NDArray[Any],
    held_out: NDArray[Any],
    *,
    rule: ActionRule = "clip",
    labels: NDArray[Any] | None = None,
) -> Path:
    """Write what ``policyport quantize`` takes: model.onnx with task.json, observations.npz and labels.npz beside it.

    :param module: a torch module in evaluation mode, of one input and one output
    :param observations: [n, *shape] float32 to calibrate on: what the network is given
    :param held_out: [m, *shape] others, for figures
    :param rule: what an output means; ``clip`` for real values, within what was seen of them
    :param labels: [m] classes of ``held_out``: the network is a classifier of one class each
    :returns: the path of model.onnx
    :raises ObservationError: observations, held_out or labels of shapes that do not fit
    :raises UnsupportedModelError: an operator that torch cannot put into ONNX, or that is not taken here
    :raises ParityError: the file does not compute what the module computes
    :raises ToolError: torch or its exporter is not installed
    """
    torch = _torch()
    from policyport.quantize.onnx_reader import read_onnx

    given = [np.ascontiguousarray(values, np.float32) for values in (observations, held_out)]
    if min(len(values) for values in given) < 1 or given[0].shape[1:] != given[1].shape[1:]:
        expected = "[n, *shape] and [m, *shape] with n and m of 1 at least"
        raise ObservationError("observations of other shapes", expected=expected, got=[v.shape for v in given])
    folder.mkdir(parents=True, exist_ok=True)
    path, seen = folder / "model.onnx", np.concatenate(given)
    with torch.no_grad():
        outputs: Floats = module.eval()(torch.from_numpy(seen)).numpy()
    if outputs.ndim != 2:
        raise UnsupportedModelError("not a network that is taken", expected=ONE_INPUT, got=outputs.shape)
    if labels is not None:
        _write_labels(np.asarray(labels), outputs[len(given[0]) :], folder / LABELS_FILE)
    model = _exported(module, (torch.from_numpy(seen[:1].repeat(2, axis=0)),), path)  # 1 would become the only batch
    path.write_bytes(model.SerializeToString())
    found = read_onnx(path).evaluate(seen.reshape(len(seen), -1))
    miss, most = float(np.abs(found - outputs).max()), float(np.abs(outputs).max())
    if miss > CLOSE * most:
        raise ParityError(
            "the exported file computes something else than the module", where=path, got=f"{miss} of {most}"
        )
    np.savez_compressed(folder / "observations.npz", observations=given[0], held_out=given[1])
    task = _task(type(module).__name__, seen, outputs, "argmax" if labels is not None else rule, labels is not None)
    task.write(folder / "task.json")
    return path


def _task(name: str, seen: Floats, outputs: Floats, rule: ActionRule, classifies: bool) -> Task:
    """A task without an environment: limits are those of what was seen."""
    flat = seen.reshape(len(seen), -1)
    ends = [tuple(map(float, pick(flat, axis=0))) for pick in (np.min, np.max)]
    bounds = [tuple(map(float, pick(outputs, axis=0))) for pick in (np.min, np.max)]
    real = rule in ("clip", "scale")
    return Task(
        kind="classifier" if classifies else "policy",
        name=name,
        environment=Environment(""),
        observation_size=flat.shape[1],
        observation_low=ends[0],
        observation_high=ends[1],
        output_size=outputs.shape[1],
        action_rule=rule,
        action_low=bounds[0] if real else (),
        action_high=bounds[1] if real else (),
        action_shape=outputs.shape[1:] if real or rule == "threshold" else (),
        action_sizes=(outputs.shape[1],) if rule == "argmax_each" else (),
        labels=tuple(map(str, range(outputs.shape[1]))) if classifies else (),
    )


def _write_labels(classes: NDArray[Any], outputs: Floats, path: Path) -> None:
    count = outputs.shape[1]
    if classes.shape != (len(outputs),) or not np.isin(classes, np.arange(count)).all():
        expected = f"[{len(outputs)}] of 0 to {count - 1}"
        raise ObservationError("labels do not fit", where=path, expected=expected, got=classes.shape)
    np.savez_compressed(path, held_out=np.eye(count, dtype=np.int8)[classes.astype(np.int64)])


def _exported(model: Any, example: tuple[Any, ...], path: Path) -> Any:
    """The ONNX of an exported program, or of a module with an example of its input."""
    import onnx

    torch = _torch()
    batch = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if example else {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        try:
            with _quiet():
                torch.onnx.export(model, example, out, dynamo=True, external_data=False, verbose=False, **batch)
        except Exception as error:  # the exporter raises what its passes raise
            cure = "build the module from operators that docs/models.md lists"
            raise UnsupportedModelError(
                "torch does not export this to ONNX", where=path, got=_short(error), cure=cure
            ) from error
        return onnx.load(out)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what the exporter says of packages that are not installed, and of its own parts that are old."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _refuse_pickled(path: Path) -> None:
    """Refuse an archive that torch would unpickle a part of."""
    try:
        with zipfile.ZipFile(path) as archive:
            tables = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith("_config.json")]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        expected = "a file of torch.export.save"
        raise ArtifactError("torn model: it does not read as .pt2", where=path, expected=expected, got=error) from error
    entries = [entry for table in tables for entry in table.get("config", {}).items()]
    pickled = [name for name, entry in entries if entry.get("use_pickle")]
    if pickled:
        cure = "move its tensors to the cpu before the export, without custom objects"
        raise ArtifactError(
            "the model has pickled parts, which are code", where=path, got=", ".join(pickled), cure=cure
        )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _torch() -> Any:
    try:
        import onnxscript  # noqa: F401 -- what torch.onnx.export needs
        import torch
    except ImportError as error:
        raise ToolError("a torch module needs torch and onnxscript", got=error, cure=pip_install("[train]")) from error
    return torch
