"""Every activation that an ONNX file quantizes, by onnxruntime, beside the integer semantics on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.semantics import Integers, activation_range
from policyport.deploy import reference
from policyport.deploy.exports import observations_for
from policyport.deploy.lower import lower_with_views
from policyport.deploy.lower_builder import View
from policyport.deploy.program import Program

UNSIGNED = {"uint8": 2**7, "uint16": 2**15}
"""What is subtracted to make integers of each type signed."""


@dataclass(frozen=True)
class ActivationPair:
    """One activation, computed twice from the same integers."""

    layer: str
    wanted: Integers
    """[n, elements], by the integer semantics, in the device's order."""

    got: Integers
    """[n, elements], by onnxruntime."""


def compare_activations(path: Path, q: Integers) -> list[ActivationPair]:
    """Each quantized activation of a file, given what onnxruntime computed before it: so no difference adds up.

    What the file leaves in float between two of them is computed from the integers before, on both sides. onnxruntime
    computes what the nodes say, without fusing any.

    :param path: an ONNX file that :func:`policyport.deploy.lower.lower` takes
    :param q: [n, inputs] quantized inputs
    """
    program, views = lower_with_views(path)
    given = _run(path, program, q, list(views))
    theirs = {view.tensor.name: _as_integers(values, view) for view, values in zip(views.values(), given, strict=True)}
    known = {program.input.name: theirs.get(program.input.name, q)}
    pairs = []
    for layer in program.layers:
        name = layer.output.name
        wanted = reference.run_layer(layer, [known[operand.name] for operand in layer.inputs])
        known[name] = theirs.get(name, wanted)
        if name in theirs:
            pairs.append(ActivationPair(name, wanted, theirs[name]))
    return pairs


def run_whole(path: Path, program: Program, q: Integers) -> Integers:
    """The output of a file as onnxruntime computes it by default, as integers of the program's output.

    :param q: [n, inputs]
    :returns: [n, outputs]
    """
    _, views = lower_with_views(path)
    name, view = list(views.items())[-1]
    return _as_integers(_run(path, program, q, [name], fused=True)[0], view)


def _run(path: Path, program: Program, q: Integers, names: list[str], *, fused: bool = False) -> list[Any]:
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    given = {value.name: value for value in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(given.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    inputs = observations_for(program, q).reshape(len(q), *source.shape[1:])
    parts = [inputs] if isinstance(source.shape[0], str | None) else np.split(inputs, len(inputs))
    rows = [session.run(names, {source.name: part}) for part in parts]
    return [np.concatenate(values) for values in zip(*rows, strict=True)]


def _as_integers(values: Any, view: View) -> Integers:
    """What onnxruntime gave, in the file's order, as signed integers in the device's order, [n, elements].

    What the file has in float is put on the grid that stands for it.
    """
    tensor = view.tensor
    flat = np.asarray(values).reshape(len(values), -1)
    if flat.dtype.kind == "f":
        flat = np.clip(np.rint(flat / tensor.scale) + tensor.zero_point, *activation_range(tensor.bits))
    ordered = np.empty((len(flat), tensor.size), np.int64)
    ordered[:, view.index.reshape(-1)] = flat.astype(np.int64) - UNSIGNED.get(flat.dtype.name, 0)
    return ordered
