"""Reads a float32 ONNX into a :class:`FloatGraph`, or says which node it cannot take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.quantize.graph import FloatGraph, FloatLayer, HostPrefix

FUNCTIONS = ("Relu", "Tanh", "Sigmoid")
ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
PASSED_OVER = ("Identity", "Flatten")
SUPPORTED = ", ".join(sorted((*ELEMENTWISE, "Clip", "Gemm", "MatMul", *FUNCTIONS, *PASSED_OVER)))

Reals = NDArray[np.float64]


def read_onnx(path: Path) -> FloatGraph:
    """A float32 ONNX file as a chain of layers.

    Taken: at the head Sub, Add, Mul, Div and Clip by constants; then Gemm, or MatMul and Add, each
    with at most one of Relu, Tanh and Sigmoid behind it; Identity and Flatten anywhere.

    :raises ArtifactError: the file is missing, torn or no ONNX
    :raises UnsupportedModelError: another operator or topology; the node is named
    """
    graph = _load(path).graph
    values = _constants(graph)
    name, size = _single_input(graph, values, path)
    chain = _Chain(path, values, _Head(size))
    end = name
    for node in _in_chain_order(graph, name, values, path):
        chain.take(node, end)
        end = node.output[0]
    return FloatGraph(graph.name or path.stem, name, end, chain.head.prefix(), chain.finish())


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ArtifactError("no such model", where=path, expected="a float32 .onnx file or a train artifact")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ArtifactError(
            "torn model: it does not read as ONNX",
            where=path,
            got=" ".join(str(error).split())[:200] or type(error).__name__,
            cure="export the model again",
        ) from error
    return model


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    """Every tensor known beforehand: initializers, Constant nodes, and Transpose or Identity of one."""
    from onnx import numpy_helper

    known: dict[str, NDArray[Any]] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Transpose" and node.input[0] in known:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            known[node.output[0]] = known[node.input[0]].transpose(order)
        elif node.op_type == "Identity" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def _single_input(graph: Any, known: dict[str, NDArray[Any]], path: Path) -> tuple[str, int]:
    """Name and feature count of the one input [n, features]."""
    inputs = [value for value in graph.input if value.name not in known]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise UnsupportedModelError("the network must have one input", where=path, expected=1, got=names or 0)
    tensor = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if tensor.elem_type != 1 or len(dims) != 2 or dims[1] < 1:
        raise UnsupportedModelError(
            "the input must be float32 [n, features]",
            where=f"{path}, input {inputs[0].name}",
            got=f"element type {tensor.elem_type}, shape {dims}",
            cure="export the network on flat float32 observations",
        )
    return inputs[0].name, int(dims[1])


def _in_chain_order(graph: Any, start: str, known: dict[str, NDArray[Any]], path: Path) -> list[Any]:
    """The nodes from the input to the one output, each fed by the one before.

    :raises UnsupportedModelError: a branch, a join, several outputs, or nodes beside the chain
    """
    nodes = [node for node in graph.node if not all(name in known for name in node.output)]
    readers = Counter(name for node in nodes for name in set(node.input) if name and name not in known)
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output)
        raise UnsupportedModelError(
            "the network must have one output",
            where=path,
            expected=1,
            got=names,
            cure="export the deterministic actor alone, without value function or log-probability",
        )
    target, here, order = graph.output[0].name, start, []
    while here != target:
        following = [node for node in nodes if here in node.input]
        if len(following) != 1 or readers[here] != 1 or len(following[0].output) != 1:
            raise _not_a_chain(path, here, following)
        order.append(following[0])
        here = following[0].output[0]
        if len(order) > len(nodes):
            raise _not_a_chain(path, here, following)
    if len(order) != len(nodes):
        spare = next(node for node in nodes if node not in order)
        raise _not_a_chain(path, spare.output[0], [spare])
    return order


def _not_a_chain(path: Path, tensor: str, nodes: list[Any]) -> UnsupportedModelError:
    return UnsupportedModelError(
        "the network is not a chain of layers",
        where=f"{path}, tensor {tensor}",
        expected="each tensor read by exactly one node, from the input to the output",
        got=" and ".join(_label(node) for node in nodes) or "no node that reads it",
        cure="export one sequential network; branches and joins are not supported",
    )


def _label(node: Any) -> str:
    return f"{node.op_type} node {node.name or node.output[0]!r}"


class _Head:
    """Composes the element-wise nodes before the first layer.

    ``clip((x - offset) * gain, low, high) * scale + shift``: the clip parts what the host does from
    what the first layer's weights take over.
    """

    def __init__(self, size: int) -> None:
        self.offset: Reals = np.zeros(size)
        self.gain: Reals = np.ones(size)
        self.low, self.high = -np.inf, np.inf
        self.scale: Reals = np.ones(size)
        self.shift: Reals = np.zeros(size)
        self.size = size

    def affine(self, scale: Reals, shift: Reals) -> None:
        """Append ``y * scale + shift``, each [inputs], no scale zero."""
        if np.isfinite([self.low, self.high]).any():
            self.scale, self.shift = self.scale * scale, self.shift * scale + shift
        else:
            self.gain = self.gain * scale
            self.offset = self.offset - shift / self.gain

    def clip(self, low: float, high: float) -> bool:
        """Append a clip; False where an affine part already lies behind an earlier one."""
        if np.any(self.scale != 1) or np.any(self.shift != 0):
            return False
        self.low, self.high = max(self.low, low), min(self.high, high)
        return True

    def prefix(self) -> HostPrefix:
        """What the host does."""
        return HostPrefix(self.offset.astype(np.float32), self.gain.astype(np.float32), self.low, self.high)


@dataclass
class _Layer:
    """A layer under construction, in float64."""

    name: str
    linear_name: str
    weights: Reals
    bias: Reals
    function: str = ""


@dataclass
class _Chain:
    """Takes nodes one by one."""

    path: Path
    known: dict[str, NDArray[Any]]
    head: _Head
    layers: list[_Layer] = field(default_factory=list)

    def take(self, node: Any, source: str) -> None:
        """Append one node fed by tensor ``source``."""
        kind = node.op_type
        if kind in PASSED_OVER:
            self._rename(node)
        elif kind in ("Gemm", "MatMul"):
            self._linear(node, source)
        elif kind in ELEMENTWISE:
            self._elementwise(node, source)
        elif kind == "Clip" and not self.layers:
            self._clip(node)
        elif kind in FUNCTIONS:
            self._function(node)
        else:
            raise self._refuse(node, "operator that the integer semantics do not cover", expected=SUPPORTED, got=kind)

    def finish(self) -> tuple[FloatLayer, ...]:
        """The layers in float32; what the head left behind its clip goes into the first."""
        if not self.layers:
            raise UnsupportedModelError("the network has no layer", where=self.path, expected="a Gemm or MatMul")
        first = self.layers[0]
        first.bias = first.bias + first.weights @ self.head.shift
        first.weights = first.weights * self.head.scale
        for layer in self.layers:
            if not (np.isfinite(layer.weights).all() and np.isfinite(layer.bias).all()):
                raise UnsupportedModelError(
                    "a weight is not a finite number",
                    where=f"{self.path}, layer {layer.name}",
                    cure="train again: the network diverged",
                )
        return tuple(
            FloatLayer(x.name, x.linear_name, x.weights.astype(np.float32), x.bias.astype(np.float32), x.function)
            for x in self.layers
        )

    def _rename(self, node: Any) -> None:
        if node.op_type == "Flatten" and any(a.name == "axis" and a.i != 1 for a in node.attribute):
            raise self._refuse(node, "Flatten along another axis", expected="axis 1")
        if self.layers:
            self._end(node.output[0])

    def _end(self, name: str) -> None:
        """The tensor that leaves the last layer now."""
        layer = self.layers[-1]
        layer.name = name
        if not layer.function:
            layer.linear_name = name

    def _linear(self, node: Any, source: str) -> None:
        attributes = {a.name: a for a in node.attribute}
        if node.input[0] != source or node.input[1] not in self.known:
            raise self._refuse(node, "the weights must be constant and the second operand")
        weights = np.asarray(self.known[node.input[1]], np.float64)
        if "transA" in attributes and attributes["transA"].i:
            raise self._refuse(node, "transposed input", expected="transA=0")
        if weights.ndim != 2:
            raise self._refuse(node, "weights that are not a matrix", got=f"shape {weights.shape}")
        if not ("transB" in attributes and attributes["transB"].i):
            weights = weights.T
        bias = np.zeros(len(weights))
        if node.op_type == "Gemm":
            weights = weights * (attributes["alpha"].f if "alpha" in attributes else 1.0)
            if len(node.input) > 2 and node.input[2]:
                beta = attributes["beta"].f if "beta" in attributes else 1.0
                bias = beta * self._vector(node, node.input[2], len(weights))
        expected = len(self.layers[-1].weights) if self.layers else self.head.size
        if weights.shape[1] != expected:
            raise self._refuse(node, "weights of another size", expected=f"{expected} inputs", got=weights.shape[1])
        self.layers.append(_Layer(node.output[0], node.output[0], weights, bias))

    def _elementwise(self, node: Any, source: str) -> None:
        """An element-wise node by a constant: into the head, or into the linear layer before it."""
        other = node.input[1] if node.input[0] == source else node.input[0]
        reversed_ = node.input[0] != source
        layer = self.layers[-1] if self.layers else None
        if layer is not None and layer.function:
            raise self._refuse(
                node,
                "element-wise operator behind an activation function",
                expected="it before the first layer, or right behind a linear one",
                cure="leave the stretching to action bounds to the host: task.json says how",
            )
        constant = self._vector(node, other, self.head.size if layer is None else len(layer.weights))
        scale, shift = self._affine(node, constant, reversed_)
        if layer is None:
            if not np.all(scale != 0):
                raise self._refuse(node, "a feature is multiplied by zero", cure="leave that feature out")
            self.head.affine(scale, shift)
        else:
            layer.weights = layer.weights * scale[:, None]
            layer.bias = layer.bias * scale + shift
            self._end(node.output[0])

    def _affine(self, node: Any, constant: Reals, reversed_: bool) -> tuple[Reals, Reals]:
        """The node as ``y * scale + shift``."""
        one, zero = np.ones_like(constant), np.zeros_like(constant)
        if node.op_type == "Add":
            return one, constant
        if node.op_type == "Sub":
            return (-one, constant) if reversed_ else (one, -constant)
        if node.op_type == "Mul":
            return constant, zero
        if reversed_ or np.any(constant == 0):
            raise self._refuse(node, "division of a constant, or by zero")
        return one / constant, zero

    def _clip(self, node: Any) -> None:
        bounds = [-np.inf, np.inf]
        for i, name in enumerate(node.input[1:]):
            if name:
                bounds[i] = float(self._vector(node, name, 1)[0])
        if not self.head.clip(*bounds):
            raise self._refuse(node, "a second Clip behind scaled features", expected="one Clip at the head")

    def _function(self, node: Any) -> None:
        if not self.layers or self.layers[-1].function:
            raise self._refuse(
                node,
                "activation function that does not follow a linear layer",
                expected="one function right behind each Gemm or MatMul at most",
            )
        layer = self.layers[-1]
        layer.name, layer.function = node.output[0], node.op_type

    def _vector(self, node: Any, name: str, size: int) -> Reals:
        """A constant operand as [size] float64."""
        if name not in self.known:
            raise self._refuse(node, "an operand is not constant", expected="an initializer", got=f"tensor {name}")
        value = np.asarray(self.known[name], np.float64)
        if value.size not in (1, size) or value.ndim > 2 or (value.ndim == 2 and value.shape[0] != 1):
            raise self._refuse(node, "a constant of another shape", expected=f"({size},)", got=value.shape)
        return np.broadcast_to(value.reshape(-1), (size,)).astype(np.float64)

    def _refuse(
        self,
        node: Any,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        cure: str = "export a chain of linear layers with Relu, Tanh or Sigmoid, normalisation at the head",
    ) -> UnsupportedModelError:
        where = f"{self.path}, {_label(node)}"
        return UnsupportedModelError(what, where=where, expected=expected, got=got, cure=cure)
