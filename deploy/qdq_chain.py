"""Reads a QDQ ONNX file as a chain of nodes from its one input to its one output, and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.core.semantics import Integers, Reals

PASSED_OVER = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that leave a vector's values and their order alone."""

SUPPORTED = (
    "QuantizeLinear and DequantizeLinear; Gemm, MatMul, Add; Relu, Clip, Tanh, Sigmoid; "
    f"{', '.join(PASSED_OVER)}; and Sub, Add, Mul, Div, Clip by constants before the first QuantizeLinear"
)


@dataclass(frozen=True)
class QuantizedConstant:
    """Integers behind a DequantizeLinear: ``real = scale * values``."""

    values: Integers
    bits: int
    scale: Reals
    """One value, or one per index along ``axis``."""

    axis: int

    def transposed(self) -> QuantizedConstant:
        """The matrix with its two axes exchanged."""
        return QuantizedConstant(self.values.T, self.bits, self.scale, 1 - self.axis)


Constant = QuantizedConstant | NDArray[Any]


@dataclass(frozen=True)
class Chain:
    """The nodes between the input and the output, in order, each fed by the one before."""

    name: str
    path: Path
    input_name: str
    input_size: int
    nodes: tuple[Any, ...]
    """onnx.NodeProto, without those of :data:`PASSED_OVER`."""

    constants: Mapping[str, Constant]

    def constant_inputs(self, node: Any) -> list[Constant]:
        """The node's inputs that are known beforehand, in order."""
        return [self.constants[name] for name in node.input if name in self.constants]

    def unsupported(self, what: str, node: Any, **details: object) -> UnsupportedModelError:
        """An error that names the file and the node."""
        details.setdefault("expected", SUPPORTED)
        where = f"{self.path.name}, {label(node)}"
        return UnsupportedModelError(what, where=where, **details)  # type: ignore[arg-type]


def label(node: Any) -> str:
    """A node for an error message: its operator and name."""
    return f"{node.op_type} node {node.name or node.output[0]!r}"


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute's value, or ``default``."""
    import onnx

    for given in node.attribute:
        if given.name == name:
            return onnx.helper.get_attribute_value(given)
    return default


def read_chain(path: Path) -> Chain:
    """Read and check the file.

    :raises ArtifactError: missing, torn, or no ONNX
    :raises UnsupportedModelError: several inputs or outputs, a branch, a join
    """
    graph = _load(path).graph
    constants = _constants(graph, path)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModelError(
            "the network must have one input and one output",
            where=path,
            got=f"inputs {[v.name for v in inputs]}, outputs {[v.name for v in graph.output]}",
            cure="export the deterministic actor alone",
        )
    dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    nodes = _in_order(graph, inputs[0].name, constants, path)
    kept = tuple(node for node in nodes if node.op_type not in PASSED_OVER)
    size = int(np.prod(dims[1:])) if len(dims) > 1 else 0
    return Chain(graph.name or path.stem, path, inputs[0].name, size, kept, constants)


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ArtifactError("no such model", where=path, expected="a QDQ .onnx file or a quantize artifact")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ArtifactError(
            "torn model: it does not read as ONNX", where=path, got=" ".join(str(error).split())[:200]
        ) from error
    return model


def _constants(graph: Any, path: Path) -> dict[str, Constant]:
    """Every value known beforehand: initializers, Constant nodes, and what DequantizeLinear, Transpose,
    Identity and Reshape make of them."""
    from onnx import numpy_helper

    known: dict[str, Constant] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        source = known.get(node.input[0]) if node.input else None
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif source is None:
            continue
        elif node.op_type == "DequantizeLinear" and isinstance(source, np.ndarray):
            known[node.output[0]] = _dequantized(node, source, known, path)
        elif node.op_type == "Transpose" and attribute(node, "perm", [1, 0]) == [1, 0]:
            known[node.output[0]] = source.transposed() if isinstance(source, QuantizedConstant) else source.T
        elif node.op_type == "Identity":
            known[node.output[0]] = source
    return known


def _dequantized(node: Any, values: NDArray[Any], known: Mapping[str, Constant], path: Path) -> QuantizedConstant:
    """A constant behind a DequantizeLinear; unsigned ones are shifted to signed."""
    type_name = values.dtype.name
    bits = int("".join(c for c in type_name if c.isdigit()))
    shift = 2 ** (bits - 1) if type_name.startswith("uint") else 0
    integers = values.astype(np.int64) - shift
    zero_point = np.asarray(known[node.input[2]]).astype(np.int64) - shift if len(node.input) > 2 else -shift
    if np.any(np.asarray(zero_point) != 0):
        raise UnsupportedModelError(
            "constants with a zero point",
            where=f"{path.name}, {label(node)}",
            expected=f"symmetric weights and biases: zero point {shift}",
            got=np.unique(np.asarray(zero_point) + shift)[:4].tolist(),
            cure="quantize the weights symmetrically",
        )
    scale = np.asarray(known[node.input[1]], np.float32).astype(np.float64).reshape(-1)
    axis = int(attribute(node, "axis", 1)) % max(values.ndim, 1)
    if scale.size not in (1, values.shape[axis] if values.ndim else 1):
        raise UnsupportedModelError(
            "constants quantized by blocks",
            where=f"{path.name}, {label(node)}",
            expected="one scale, or one per channel",
            got=f"{scale.size} scales for {values.shape}",
        )
    return QuantizedConstant(integers, bits, scale, axis)


def _in_order(graph: Any, start: str, known: Mapping[str, Constant], path: Path) -> list[Any]:
    nodes = [node for node in graph.node if not all(name in known for name in node.output)]
    here, order = start, list[Any]()
    while here != graph.output[0].name:
        readers = [node for node in nodes if here in node.input]
        if len(readers) != 1 or len([name for name in readers[0].output if name]) != 1 or len(order) > len(nodes):
            raise UnsupportedModelError(
                "the network is not a chain of layers",
                where=f"{path.name}, tensor {here!r}",
                expected="each tensor read by exactly one node, from the input to the output",
                got=" and ".join(label(node) for node in readers) or "no node that reads it",
                cure="export one sequential network; branches and joins are not supported",
            )
        order.append(readers[0])
        here = readers[0].output[0]
    return order
