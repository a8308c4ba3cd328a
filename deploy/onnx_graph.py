"""Reads a QDQ ONNX file: its nodes in order, and every value that is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.core.onnx_tensor import read_tensor
from policyport.core.semantics import Integers, Reals
from policyport.deploy.onnx_qoperator import spell_out

SUPPORTED = (
    "QuantizeLinear and DequantizeLinear; Conv, ConvTranspose, Gemm, MatMul, BatchNormalization; Add, Sub, Mul, Div; "
    "MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, ReduceMean; Relu, Clip, Tanh, Sigmoid, HardSigmoid, "
    "HardSwish, LeakyRelu, PRelu, Elu, Softplus, Softmax, ArgMax; Concat, Pad, Resize, Upsample; Cast, Dropout, "
    "Flatten, Identity, Reshape, Slice, Squeeze, Transpose, Unsqueeze; "
    "their forms on integers, QLinearConv, QGemm and the like; "
    "and Sub, Add, Mul, Div, Clip by constants before the first QuantizeLinear"
)


@dataclass(frozen=True)
class QuantizedConstant:
    """Integers behind a DequantizeLinear: ``real = scale * values``."""

    values: Integers
    bits: int
    scale: Reals
    """One value, or one per index along ``axis``."""

    axis: int

    def transposed(self, order: tuple[int, ...]) -> QuantizedConstant:
        """The array with its axes in another order."""
        return replace(self, values=self.values.transpose(order), axis=order.index(self.axis))

    def real(self) -> Reals:
        """The values it stands for."""
        found: Reals = self.values.astype(np.float64) * _along(self.scale, self.axis, self.values.ndim)
        return found


@dataclass(frozen=True)
class QuantizedIntegers:
    """What a QuantizeLinear makes of a constant, and the width it is limited to."""

    values: NDArray[Any]
    bits: int


Constant = QuantizedConstant | QuantizedIntegers | NDArray[Any]


@dataclass(frozen=True)
class Graph:
    """A network from one input to one output."""

    name: str
    path: Path
    input_name: str
    input_shape: tuple[int, ...]
    """Without the batch axis."""

    output_name: str
    nodes: tuple[Any, ...]
    """onnx.NodeProto whose outputs are not known beforehand, each after those that it reads."""

    constants: Mapping[str, Constant]

    def where(self, node: Any) -> str:
        """The file and the node, for an error."""
        return f"{self.path.name}, {label(node)}"

    def unsupported(self, what: str, node: Any, **details: object) -> UnsupportedModelError:
        """An error that names the file and the node."""
        details.setdefault("expected", SUPPORTED)
        return UnsupportedModelError(what, where=self.where(node), **details)  # type: ignore[arg-type]

    def array(self, node: Any, index: int) -> NDArray[Any] | None:
        """A constant input of a node as plain numbers; None where it is left out.

        :raises UnsupportedModelError: the input is not constant
        """
        if index >= len(node.input) or not node.input[index]:
            return None
        value = self.constants.get(node.input[index])
        if isinstance(value, QuantizedConstant):
            return value.real()
        if isinstance(value, np.ndarray):
            return value
        raise self.unsupported(f"an input {index} that is not constant", node, expected="a constant", got="computed")


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


def read_graph(path: Path) -> Graph:
    """Read and check the file.

    :raises ArtifactError: missing, torn, or no ONNX
    :raises UnsupportedModelError: several inputs or outputs, or constants that are not symmetric
    """
    graph = _load(path).graph
    spell_out(graph, path)
    constants = _constants(graph, path)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModelError(
            "the network must have one input and one output",
            where=path,
            got=f"inputs {[v.name for v in inputs]}, outputs {[v.name for v in graph.output]}",
            cure="export the deterministic actor alone",
        )
    shape = tuple(dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim)[1:]
    if not shape or min(shape) < 1:
        raise UnsupportedModelError(
            "an input of unknown size", where=path, expected="a batch axis, then fixed sizes", got=shape
        )
    nodes = _needed(graph, constants)
    return Graph(graph.name or path.stem, path, inputs[0].name, shape, graph.output[0].name, nodes, constants)


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


def _needed(graph: Any, constants: Mapping[str, Constant]) -> tuple[Any, ...]:
    """The nodes that the output depends on, without the constant ones; the file has them in order."""
    wanted = {graph.output[0].name}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output) and not all(name in constants for name in node.output):
            kept.append(node)
            wanted |= set(node.input)
    return tuple(reversed(kept))


def _constants(graph: Any, path: Path) -> dict[str, Constant]:
    """Every value known beforehand: initializers, Constant nodes, and what is made of them alone."""
    known: dict[str, Constant] = {tensor.name: read_tensor(tensor, path) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = read_tensor(node.attribute[0].t, path)
        elif node.op_type in _FOLDED and node.input[0] in known:
            known[node.output[0]] = _FOLDED[node.op_type](node, known, path)
    return known


def _quantized(node: Any, known: Mapping[str, Constant], path: Path) -> Constant:
    """A weight that the file holds as float, before its QuantizeLinear: rounded half to even, clamped."""
    real, scale = np.asarray(known[node.input[0]], np.float32), np.asarray(known[node.input[1]], np.float32)
    zero_point = np.asarray(known[node.input[2]]) if len(node.input) > 2 else np.zeros((), np.uint8)
    axis = int(attribute(node, "axis", 1)) % max(real.ndim, 1)
    zero_points = _along(zero_point.astype(np.float32), axis, real.ndim)
    steps = np.rint(real / _along(scale, axis, real.ndim)) + zero_points
    bits, signed = _width(zero_point)
    limits = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return QuantizedIntegers(np.clip(steps, *limits).astype(np.int64), bits)


def _clipped(node: Any, known: Mapping[str, Constant], path: Path) -> Constant:
    """Integers limited to fewer bits, as Brevitas writes narrow weights."""
    value = known[node.input[0]]
    low, high = (np.asarray(known[name]).item() for name in node.input[1:3])
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        value = QuantizedIntegers(value.astype(np.int64), _width(value)[0])
    if not isinstance(value, QuantizedIntegers):
        return np.clip(np.asarray(value), low, high)
    bits = max(int(-low - 1).bit_length(), int(high).bit_length()) + 1
    return QuantizedIntegers(np.clip(value.values, low, high), min(bits, value.bits))


def _dequantized(node: Any, known: Mapping[str, Constant], path: Path) -> Constant:
    """A constant behind a DequantizeLinear; unsigned ones are shifted to signed."""
    given = known[node.input[0]]
    if isinstance(given, QuantizedConstant):
        raise UnsupportedModelError("a constant that is dequantized twice", where=f"{path.name}, {label(node)}")
    values = given.values if isinstance(given, QuantizedIntegers) else given
    typed = np.asarray(known[node.input[2]]) if len(node.input) > 2 else values
    bits, signed = _width(typed)
    zero_point = typed.astype(np.int64).reshape(-1) if len(node.input) > 2 else np.zeros(1, np.int64)
    scale = np.asarray(known[node.input[1]], np.float32).astype(np.float64).reshape(-1)
    axis = int(attribute(node, "axis", 1)) % max(values.ndim, 1)
    channels = values.shape[axis] if values.ndim else 1
    if scale.size not in (1, channels) or zero_point.size not in (1, channels):
        raise UnsupportedModelError(
            "constants quantized by blocks",
            where=f"{path.name}, {label(node)}",
            expected="one scale, or one per channel",
            got=f"{scale.size} scales, {zero_point.size} zero points for {values.shape}",
        )
    integers = values.astype(np.int64) - _along(zero_point, axis, values.ndim)
    if integers.size and not -(2 ** (bits - 1)) <= integers.min() <= integers.max() < 2 ** (bits - 1):
        raise UnsupportedModelError(
            f"constants whose zero point takes them out of {bits} bits",
            where=f"{path.name}, {label(node)}",
            expected=f"symmetric weights and biases: zero point {0 if signed else 2 ** (bits - 1)}",
            got=np.unique(zero_point)[:4].tolist(),
            cure="quantize the weights symmetrically; onnxruntime's quantizer does with weight_type=QInt8",
        )
    limited = given.bits if isinstance(given, QuantizedIntegers) else bits
    limited = min(bits, limited)
    # ONNX has no type of three bits: where the file says fewer than eight, the integers say how many.
    return QuantizedConstant(integers, limited if limited >= 8 else fewest_bits(integers), scale, axis)


def _along(values: NDArray[Any], axis: int, dimensions: int) -> NDArray[Any]:
    """One value, or one per index along an axis, as it broadcasts."""
    return values.reshape([-1 if values.size > 1 and each == axis else 1 for each in range(dimensions)])


def fewest_bits(integers: Integers) -> int:
    """The width that is enough for integers of at most eight bits: 2, 3, 4 or 8."""
    low, high = integers.min(initial=0), integers.max(initial=0)
    return next((n for n in (2, 3, 4) if low >= -(2 ** (n - 1)) and high < 2 ** (n - 1)), 8)


def _width(values: NDArray[Any]) -> tuple[int, bool]:
    """Bits of an integer type, and whether it is signed."""
    name = values.dtype.name
    return int("".join(c for c in name if c.isdigit())), not name.startswith("uint")


def _moved(node: Any, known: Mapping[str, Constant], path: Path) -> Constant:
    value = known[node.input[0]]
    dimensions = np.ndim(value) if isinstance(value, np.ndarray) else value.values.ndim
    order = tuple(attribute(node, "perm", list(range(dimensions))[::-1]))
    if isinstance(value, QuantizedIntegers):
        return replace(value, values=value.values.transpose(order))
    return value.transposed(order) if isinstance(value, QuantizedConstant) else value.transpose(order)


_Fold = Callable[[Any, Mapping[str, Constant], Path], Constant]

_FOLDED: dict[str, _Fold] = {
    "QuantizeLinear": _quantized,
    "DequantizeLinear": _dequantized,
    "Clip": _clipped,
    "Transpose": _moved,
    "Identity": lambda node, known, path: known[node.input[0]],
    "Cast": lambda node, known, path: known[node.input[0]],
}
"""Operators that are computed here where their input is known."""
