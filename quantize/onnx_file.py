"""Opens a float32 ONNX file: its nodes, its constants, its one input and one output, and how to refuse a node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.core.onnx_tensor import read_tensor
from policyport.core.task import StateVector

PASSED_OVER = ("Identity", "Dropout", "Cast")
"""Operators that change nothing of a float network's values when it does not train."""

QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "QGemm",
)
"""Operators that only a quantized network has."""

FILES = ".onnx, .tflite or .pt2 (torch.export)"
"""Files that hold a float32 network."""

FLOAT, UINT8 = 1, 2
"""Element types of ONNX that an input may have."""


@dataclass(frozen=True)
class OnnxFile:
    """A float32 ONNX as a list of nodes, those of :data:`PASSED_OVER` taken out."""

    path: Path
    name: str
    input_name: str
    input_shape: tuple[int, ...]
    """As in the file, without n."""

    output_name: str
    """The tensor that the output is, nodes of :data:`PASSED_OVER` behind it taken out."""

    result_name: str
    """The output's own name."""

    nodes: tuple[Any, ...]
    """onnx.NodeProto in an order in which each finds its inputs ready."""

    constants: dict[str, NDArray[Any]]
    """Initializers; a reader adds what it computes from them."""

    opset: int
    reader_counts: Mapping[str, int]
    """How often each tensor is read, the output once more."""

    state: tuple[StateVector, ...] = ()
    """Of a recurrent network: its further inputs, and the tensors that they are the step after."""

    def attribute(self, node: Any, name: str, default: Any = None) -> Any:
        """An attribute's value, or ``default``; text as ``str``."""
        import onnx

        for given in node.attribute:
            if given.name == name:
                value = onnx.helper.get_attribute_value(given)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def constant(self, node: Any, index: int) -> NDArray[Any] | None:
        """A node's constant input, or None where it has none at that index.

        :raises UnsupportedModelError: it is not constant
        """
        if index >= len(node.input) or not node.input[index]:
            return None
        if node.input[index] not in self.constants:
            raise self.refuse(
                node, "an operand is not constant", expected="an initializer", got=f"tensor {node.input[index]}"
            )
        return self.constants[node.input[index]]

    def fold(self, node: Any) -> bool:
        """Compute a node that has constants only; False where it has others.

        :raises UnsupportedModelError: it cannot be computed
        """
        if not all(name in self.constants for name in node.input if name):
            return False
        import onnx
        from onnx.reference import ReferenceEvaluator

        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                [node],
                "constant",
                [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name],
                [onnx.ValueInfoProto(name=name) for name in node.output if name],
            ),
            # Weights stored as integers: the evaluator has DequantizeLinear from opset 19 on, and it has not changed.
            opset_imports=[onnx.helper.make_opsetid("", max(self.opset, 19 * (node.op_type == "DequantizeLinear")))],
        )
        given = {name: self.constants[name] for name in node.input if name}
        try:
            results: Any = ReferenceEvaluator(model).run(None, given)
        except (RuntimeError, TypeError, ValueError) as error:
            raise self.refuse(node, "a constant that cannot be computed", got=error) from error
        self.constants.update(zip([name for name in node.output if name], results, strict=True))
        return True

    def refuse(self, node: Any, what: str, **details: Any) -> UnsupportedModelError:
        """An error that names the file and the node."""
        details.setdefault("cure", "export the network from operators that are supported; see docs/models.md")
        return UnsupportedModelError(what, where=f"{self.path}, {label(node)}", **details)


def label(node: Any) -> str:
    """A node for an error message: its operator and name."""
    return f"{node.op_type} node {node.name or node.output[0]!r}"


def open_onnx(path: Path, state: Sequence[StateVector] = (), model: Any | None = None) -> OnnxFile:
    """Open and check a file.

    :param state: of a recurrent network, as its task has it
    :param model: what :func:`converted` made of it, where it is in another format; None converts it
    :raises ArtifactError: missing, torn, or no ONNX
    :raises UnsupportedModelError: already quantized; several inputs or outputs; an input of another kind
    """
    opened: Any = _load(path) if model is None else model
    graph = opened.graph
    _refuse_quantized(graph, path)
    constants = {tensor.name: read_tensor(tensor, path) for tensor in graph.initializer}
    nodes, names = _without_passed_over(graph)
    carried = {vector.output for vector in state}
    results = [value.name for value in graph.output if value.name not in carried]
    if len(results) != 1 or len(graph.output) != 1 + len(state):
        raise UnsupportedModelError(
            "the network must have one output, and those that the task calls its state",
            where=path,
            expected=", ".join(["the actions", *sorted(carried)]),
            got=", ".join(value.name for value in graph.output),
            cure="export the deterministic actor alone, without value function or log-probability; "
            "name what a recurrent one remembers in task.json under `state`",
        )
    outputs = [_source(name, names) for name in (*results, *(vector.output for vector in state))]
    counts = Counter([name for node in nodes for name in node.input if name] + outputs)
    name, shape = _observation(graph, constants, path, state)
    opset = next((entry.version for entry in opened.opset_import if entry.domain in ("", "ai.onnx")), 1)
    return OnnxFile(
        path,
        graph.name or path.stem,
        name,
        shape,
        outputs[0],
        results[0],
        tuple(nodes),
        constants,
        opset,
        counts,
        tuple(replace(vector, output=tensor) for vector, tensor in zip(state, outputs[1:], strict=True)),
    )


def _load(path: Path) -> Any:
    import onnx.inliner
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ArtifactError("no such model", where=path, expected=f"a float32 {FILES} file, or a train artifact")
    made = converted(path)
    if made is not None:
        return made
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ArtifactError(
            "torn model: it does not read as ONNX",
            where=path,
            got=" ".join(str(error).split())[:200] or type(error).__name__,
            cure="export the model again",
        ) from error


def converted(path: Path) -> Any | None:
    """The ``onnx.ModelProto`` of a file in another format; None where its name is not that of one.

    :raises ArtifactError: torn
    :raises UnsupportedModelError: something in it that is not read; it is named
    :raises ToolError: a .pt2 file, and torch or its exporter is not installed
    """
    if path.suffix == ".tflite":
        from policyport.quantize.tflite_float import onnx_of_tflite

        return onnx_of_tflite(path)
    if path.suffix == ".pt2":
        from policyport.quantize.torch_model import onnx_of_torch

        return onnx_of_torch(path)
    if path.suffix in (".pt", ".pth"):
        raise UnsupportedModelError(
            "a pickled torch model, which is code as much as data",
            where=path,
            expected=FILES,
            cure="torch.export.save(torch.export.export(module, (example,)), 'model.pt2'), "
            "or policyport.quantize.torch_model.write_module(module, folder, observations, held_out)",
        )
    return None


def _refuse_quantized(graph: Any, path: Path) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in QUANTIZED and node.input[0] not in constants:
            raise UnsupportedModelError(
                "the model is quantized already",
                where=f"{path}, {label(node)}",
                expected="a float32 model",
                cure=f"give it to the next stage: policyport deploy {path}",
            )


def _without_passed_over(graph: Any) -> tuple[list[Any], dict[str, str]]:
    """The nodes that compute something, reading past the others; and for the others' outputs what they pass on."""
    import onnx

    names: dict[str, str] = {}
    kept = []
    for given in graph.node:
        if given.op_type in PASSED_OVER and not _casts_to_whole(given):
            names[given.output[0]] = _source(given.input[0], names)
            continue
        node = onnx.NodeProto()
        node.CopyFrom(given)
        del node.input[:]
        node.input.extend(_source(name, names) for name in given.input)
        kept.append(node)
    return kept, names


def _source(name: str, passed_on: Mapping[str, str]) -> str:
    """The tensor that a name stands for: its own, or the one that is passed on under it."""
    return passed_on.get(name, name)


def _casts_to_whole(node: Any) -> bool:
    """Whether it is a Cast that rounds: those occur where shapes are computed, or change the network."""
    return node.op_type == "Cast" and any(a.name == "to" and a.i not in (FLOAT, 10, 11) for a in node.attribute)


def _observation(
    graph: Any, known: Mapping[str, NDArray[Any]], path: Path, state: Sequence[StateVector]
) -> tuple[str, tuple[int, ...]]:
    """Name and shape, without n, of the one input that is no state."""
    sizes = {vector.input: vector.size for vector in state}
    given = [value for value in graph.input if value.name not in known]
    inputs = [value for value in given if value.name not in sizes]
    if len(inputs) != 1 or len(given) != 1 + len(sizes):
        names = ", ".join(value.name for value in given)
        raise UnsupportedModelError(
            "the network must have one input, and those that the task calls its state",
            where=path,
            expected=", ".join(["the observation", *sizes]),
            got=names or 0,
            cure=None if len(given) < 2 else "name what a recurrent network remembers in task.json under `state`",
        )
    for value in given:
        _check_state(value, sizes, path)
    tensor = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if state and len(dims) == 3:
        dims = dims[:1] + dims[2:]  # one step of a sequence
    if tensor.elem_type not in (FLOAT, UINT8) or len(dims) not in (2, 4) or min(dims[1:]) < 1:
        raise UnsupportedModelError(
            "the input must be float32 [n, features] or an image of a fixed size",
            where=f"{path}, input {inputs[0].name}",
            expected="[n, features] or [n, channels, height, width]",
            got=f"element type {tensor.elem_type}, shape {dims}",
            cure="export the network with a fixed input shape, only the batch left open",
        )
    return inputs[0].name, tuple(int(dim) for dim in dims[1:])


def _check_state(value: Any, sizes: Mapping[str, int], path: Path) -> None:
    """Refuse a state of another size than the task says."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if value.name in sizes and dims[-1] != sizes[value.name]:
        raise UnsupportedModelError(
            "a state of another size than the task says",
            where=f"{path}, input {value.name}",
            expected=sizes[value.name],
            got=dims,
        )


def per_channel(value: NDArray[Any], shape: tuple[int, ...], channels_last: bool) -> NDArray[np.float64] | None:
    """A constant operand as one value for each channel, [channels] float64; None where it differs inside one.

    :param shape: of the tensor it is combined with, (features,) or (channels, height, width)
    :param channels_last: whether the file has that tensor as [n, height, width, channels]
    """
    whole = np.asarray(value, np.float64)
    rank = len(shape) + 1
    if whole.ndim > rank:
        return None
    whole = whole.reshape(*[1] * (rank - whole.ndim), *whole.shape)
    if rank == 4 and channels_last:
        whole = whole.transpose(0, 3, 1, 2)
    if whole.size != whole.shape[1] or whole.shape[1] not in (1, shape[0]):
        return None
    return np.broadcast_to(whole.reshape(-1), (shape[0],)).astype(np.float64)
