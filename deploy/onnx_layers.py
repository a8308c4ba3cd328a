"""Every activation that an ONNX file quantizes, by onnxruntime, beside the integer semantics on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.errors import ToolError
from policyport.core.semantics import Integers, activation_range
from policyport.deploy import reference
from policyport.deploy.exports import observations_for
from policyport.deploy.layers import Tensor
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
    :raises ToolError: onnxruntime does not run the file
    """
    program, views = lower_with_views(path)
    given = _run(path, program, q, list(views))
    theirs = {
        view.tensor.name: _in_device_order(values, view) for view, values in zip(views.values(), given, strict=True)
    }
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
    """The output of a file as onnxruntime computes it by default, nodes fused, as integers of the program's output.

    :param program: what the file was lowered to
    :param q: [n, inputs]
    :returns: [n, outputs]
    :raises ToolError: onnxruntime does not run the file
    """
    (values,) = _run(path, program, q, [], fused=True)
    shaped = np.moveaxis(values, 1, -1) if program.output_order == "CHW" else values
    return _as_integers(shaped, program.output)


def _run(path: Path, program: Program, q: Integers, names: list[str], *, fused: bool = False) -> list[Any]:
    """Values of a file by their names; without any, its outputs."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    given = {value.name: value for value in model.graph.output}
    names = names or list(given)
    del model.graph.output[:]
    model.graph.output.extend(given.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except _refusals() as error:
        raise ToolError("onnxruntime does not load the file", where=path, got=" ".join(str(error).split())) from error
    source = session.get_inputs()[0]
    inputs = observations_for(program, q).reshape(len(q), *source.shape[1:])
    parts = np.split(inputs, len(inputs)) if source.shape[0] == 1 else [inputs]
    rows = [session.run(names, {source.name: part}) for part in parts]
    return [np.concatenate(values) for values in zip(*rows, strict=True)]


def _refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises of files; its exceptions have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(getattr(state, name) for name in ("Fail", "InvalidGraph", "InvalidProtobuf", "NotImplemented"))


def _as_integers(values: Any, tensor: Tensor) -> Integers:
    """What onnxruntime gave as signed integers, [n, elements]; float values are put on the tensor's grid."""
    flat = np.asarray(values).reshape(len(values), -1)
    if flat.dtype.kind == "f":
        flat = np.clip(np.rint(flat / tensor.scale) + tensor.zero_point, *activation_range(tensor.bits))
    signed: Integers = flat.astype(np.int64) - UNSIGNED.get(flat.dtype.name, 0)
    return signed


def _in_device_order(values: Any, view: View) -> Integers:
    """What onnxruntime gave in the file's order, as integers in the device's, [n, elements]."""
    given = _as_integers(values, view.tensor)
    ordered = np.empty_like(given)
    ordered[:, view.index.reshape(-1)] = given
    return ordered
