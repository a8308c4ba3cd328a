"""Lowers a QDQ ONNX file to the integer program.

Taken, from the input to the output: Sub, Add, Mul, Div, Clip by constants (the host's part); then
QuantizeLinear; then layers, each DequantizeLinear, an operator, QuantizeLinear; a DequantizeLinear at
the end. ReLU and Clip become the clamp of the layer before; tanh and sigmoid become its table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core import semantics
from policyport.core.errors import UnsupportedModelError
from policyport.core.semantics import Integers, Reals
from policyport.deploy.program import FullyConnected, HostInput, Layer, Lookup, Program, Tensor
from policyport.deploy.qdq_chain import SUPPORTED, Chain, QuantizedConstant, attribute, read_chain

TABLED = ("Tanh", "Sigmoid")
AFFINE = ("Gemm", "MatMul")


def lower(path: Path) -> Program:
    """The integer program of a QDQ ONNX file.

    :raises ArtifactError: missing, torn, or no ONNX
    :raises UnsupportedModelError: an operator, a topology, a shape or a value range that the integer
        semantics do not cover; the node and the supported set are named
    """
    chain = read_chain(path)
    cursor = _Cursor(chain)
    host = _HostPart(chain.input_size)
    while cursor.peek() != "QuantizeLinear":
        host.take(cursor)
    first = tensor = _tensor(cursor, chain.input_size)
    layers: list[Layer] = []
    while cursor.peek() == "DequantizeLinear":
        _check_same(cursor, tensor)
        if not cursor.peek():
            break
        layers.append(_layer(cursor, tensor))
        tensor = layers[-1].output
    if cursor.peek():
        raise chain.unsupported("an operator on integers that no DequantizeLinear precedes", cursor.take())
    if not layers:
        raise UnsupportedModelError("a network without layers", where=path, expected=SUPPORTED)
    return Program(chain.name, host.finish(), first, tensor, tuple(layers))


class _Cursor:
    """Where in the chain the lowering stands."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._at = 0

    def peek(self, ahead: int = 0) -> str:
        """Operator of a node to come, empty behind the last."""
        at = self._at + ahead
        return str(self.chain.nodes[at].op_type) if at < len(self.chain.nodes) else ""

    def node(self, ahead: int = 0) -> Any:
        """A node to come; there must be one."""
        return self.chain.nodes[self._at + ahead]

    def take(self) -> Any:
        """The next node; the cursor steps over it."""
        if not self.peek():
            raise self.chain.unsupported(
                "the network ends too early",
                self.chain.nodes[-1],
                expected="QuantizeLinear behind the input and behind every layer",
                cure="quantize the model first: policyport quantize MODEL.onnx",
            )
        self._at += 1
        return self.chain.nodes[self._at - 1]


class _HostPart:
    """What the host does in floating point, gathered into ``clip((x - offset) * gain, low, high)``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._offset, self._gain = np.zeros(size), np.ones(size)
        self._low, self._high = -math.inf, math.inf

    def take(self, cursor: _Cursor) -> None:
        """Add the next node.

        :raises UnsupportedModelError: an operator that is no Sub, Add, Mul, Div or Clip by constants
        """
        node = cursor.take()
        unsupported = cursor.chain.unsupported
        if node.op_type == "Clip":
            low, high = _clip_bounds(cursor.chain, node)
            self._low, self._high = max(self._low, low), min(self._high, high)
            return
        values = cursor.chain.constant_inputs(node)
        if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(values) != 1 or self._reversed(cursor, node):
            raise unsupported("an operator before the first QuantizeLinear that the host does not do", node)
        value = np.asarray(values[0], np.float64).reshape(-1)
        if value.size not in (1, self._size) or self._low != -math.inf or self._high != math.inf:
            raise unsupported("arithmetic before the first QuantizeLinear of a shape or order not supported", node)
        if node.op_type == "Sub":
            self._offset = self._offset + value / self._gain
        elif node.op_type == "Add":
            self._offset = self._offset - value / self._gain
        else:
            self._gain = self._gain * value if node.op_type == "Mul" else self._gain / value

    @staticmethod
    def _reversed(cursor: _Cursor, node: Any) -> bool:
        return node.op_type in ("Sub", "Div") and node.input[0] in cursor.chain.constants

    def finish(self) -> HostInput:
        return HostInput(self._offset.astype(np.float32), self._gain.astype(np.float32), self._low, self._high)


def _tensor(cursor: _Cursor, size: int) -> Tensor:
    """The activation that the QuantizeLinear under the cursor makes; unsigned ones shifted to signed."""
    node, chain = cursor.take(), cursor.chain
    if node.op_type != "QuantizeLinear":
        raise chain.unsupported(
            "a layer whose output is not quantized",
            node,
            expected="QuantizeLinear and DequantizeLinear behind every Gemm, MatMul, Tanh and Sigmoid",
            cure="quantize the activations too",
        )
    scale, zero_point, bits = _parameters(chain, node)
    low, high = semantics.activation_range(bits)
    return Tensor(node.input[0], size, bits, scale, zero_point, low, high)


def _parameters(chain: Chain, node: Any) -> tuple[float, int, int]:
    """Scale, zero point and width of a QuantizeLinear or DequantizeLinear of an activation."""
    scale = np.asarray(chain.constants.get(node.input[1]), np.float32)
    if len(node.input) > 2:
        given = np.asarray(chain.constants.get(node.input[2]))
        type_name = given.dtype.name
    else:
        given = np.zeros(1, np.int64)
        type_name = {3: "int8", 5: "int16", 4: "uint16"}.get(attribute(node, "output_dtype", 2), "uint8")
    if scale.size != 1 or given.size != 1 or not scale.reshape(-1)[0] > 0 or type_name not in _SHIFTS:
        raise chain.unsupported(
            "an activation quantized in a way not supported",
            node,
            expected="one positive scale; int8, uint8, or int16",
            got=f"{scale.size} scales, {type_name}",
        )
    bits = 16 if type_name.endswith("16") else 8
    zero_point = int(given.reshape(-1)[0]) - _SHIFTS[type_name]
    if bits == 16 and zero_point != 0:
        raise chain.unsupported("a 16-bit activation with a zero point", node, expected=0, got=zero_point)
    return float(scale.reshape(-1)[0]), zero_point, bits


_SHIFTS = {"int8": 0, "uint8": 128, "int16": 0, "uint16": 32768}
"""What is subtracted from an activation of each type to make it signed."""


def _check_same(cursor: _Cursor, tensor: Tensor) -> None:
    """Step over a DequantizeLinear, which must undo the QuantizeLinear before it."""
    node = cursor.take()
    got = _parameters(cursor.chain, node)
    expected = (tensor.scale, tensor.zero_point, tensor.bits)
    if got != expected:
        raise cursor.chain.unsupported(
            "a DequantizeLinear of other scale or zero point than the QuantizeLinear before it",
            node,
            expected=expected,
            got=got,
        )


def _layer(cursor: _Cursor, source: Tensor) -> Layer:
    """The layer whose operator stands under the cursor, its QuantizeLinear included."""
    operator = cursor.peek()
    if operator in AFFINE:
        return _fully_connected(cursor, source)
    if operator in (*TABLED, "Relu"):
        return _lookup(cursor, source)
    raise cursor.chain.unsupported("an operator that is not supported", cursor.node())


def _lookup(cursor: _Cursor, source: Tensor) -> Lookup:
    node = cursor.take()
    target = _tensor(cursor, source.size)
    if target.bits != source.bits:
        raise cursor.chain.unsupported(
            f"{node.op_type} between activations of different width", node, expected=source.bits, got=target.bits
        )
    return Lookup(target.name, source, target, _table(node.op_type, source, target), node.op_type)


def _table(function: str, source: Tensor, target: Tensor) -> Integers:
    return semantics.pointwise_table(
        function, source.scale, source.zero_point, target.scale, target.zero_point, target.bits
    )


@dataclass(frozen=True)
class _Affine:
    """Weights and bias as the file gives them."""

    weights: Integers
    """[outputs, inputs]"""

    bits: int
    scale: Reals
    """[outputs]"""

    bias: Integers
    """[outputs], at ``source.scale * scale``"""


def _fully_connected(cursor: _Cursor, source: Tensor) -> FullyConnected:
    node = cursor.node()
    affine = _affine(cursor, source)
    clamp = _take_clamp(cursor)
    before = _clamped(_tensor(cursor, len(affine.weights)), clamp)
    if clamp is None and _quantizes_alike(cursor, before, ("Relu", "Clip")):
        cursor.take()
        clamp = _take_clamp(cursor)
        before = _clamped(_tensor(cursor, before.size), clamp)
    target, table, function = before, None, ""
    if clamp is None and cursor.peek() == "DequantizeLinear" and cursor.peek(1) in TABLED:
        _check_same(cursor, before)
        fused = _lookup(cursor, before)
        target, table, function = fused.output, fused.table, fused.function
    bias = affine.bias - source.zero_point * affine.weights.sum(axis=1)
    bound = int(semantics.accumulator_bound(affine.weights, bias, source.low, source.high).max())
    ratio = float(source.scale) * affine.scale / float(before.scale)
    where = f"{cursor.chain.path.name}, {node.op_type} node {node.name or node.output[0]!r}"
    requantize = semantics.requantization(ratio, bound, where)
    return FullyConnected(
        target.name,
        source,
        target,
        affine.weights,
        affine.bits,
        affine.scale,
        bias,
        requantize,
        before,
        table,
        function,
    )


def _quantizes_alike(cursor: _Cursor, tensor: Tensor, operators: tuple[str, ...]) -> bool:
    """Whether DequantizeLinear, one of ``operators``, QuantizeLinear follow, all with the tensor's scale."""
    if cursor.peek() != "DequantizeLinear" or cursor.peek(1) not in operators or cursor.peek(2) != "QuantizeLinear":
        return False
    same = (tensor.scale, tensor.zero_point, tensor.bits)
    return all(_parameters(cursor.chain, cursor.node(i)) == same for i in (0, 2))


def _take_clamp(cursor: _Cursor) -> tuple[float, float] | None:
    """Real bounds of a ReLU or Clip under the cursor, stepping over it; None where there is neither."""
    if cursor.peek() == "Relu":
        cursor.take()
        return 0.0, math.inf
    if cursor.peek() == "Clip":
        return _clip_bounds(cursor.chain, cursor.take())
    return None


def _clip_bounds(chain: Chain, node: Any) -> tuple[float, float]:
    bounds = [-math.inf, math.inf]
    for i, name in enumerate(node.input[1:3]):
        if name and name not in chain.constants:
            raise chain.unsupported("a Clip whose bounds are not constants", node)
        if name:
            bounds[i] = float(np.asarray(chain.constants[name]).reshape(-1)[0])
    return bounds[0], bounds[1]


def _clamped(tensor: Tensor, clamp: tuple[float, float] | None) -> Tensor:
    """The tensor, its range cut to what a clamp in real values leaves."""
    if clamp is None:
        return tensor
    low, high = (
        bound
        if math.isinf(real)
        else int(semantics.quantize(np.array([real], np.float32), tensor.scale, tensor.zero_point, tensor.bits)[0])
        for real, bound in zip(clamp, (tensor.low, tensor.high), strict=True)
    )
    return replace(tensor, low=low, high=high)


def _affine(cursor: _Cursor, source: Tensor) -> _Affine:
    """A Gemm, or a MatMul with or without an Add behind it."""
    node, chain = cursor.take(), cursor.chain
    weights = chain.constants.get(node.input[1])
    if not isinstance(weights, QuantizedConstant) or weights.bits > 8 or weights.values.ndim != 2:
        raise chain.unsupported(
            "weights that are not quantized",
            node,
            expected="a 2-dimensional initializer of at most 8 bits behind a DequantizeLinear",
            cure="quantize the model first: policyport quantize MODEL.onnx",
        )
    if node.op_type == "MatMul" or not attribute(node, "transB", 0):
        weights = weights.transposed()
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        raise chain.unsupported("a Gemm with transA, alpha or beta", node)
    outputs, inputs = weights.values.shape
    if inputs != source.size or (weights.scale.size > 1 and weights.axis != 0):
        raise chain.unsupported(
            "weights of a shape not supported",
            node,
            expected=f"{source.size} inputs, one scale or one per output",
            got=f"{inputs} inputs, {weights.scale.size} scales along axis {weights.axis}",
        )
    bias: Any = None
    if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
        bias = chain.constants.get(node.input[2])
        if bias is None:
            raise chain.unsupported("a bias that is not constant", node)
    elif node.op_type == "MatMul" and cursor.peek() == "Add":
        bias = _added(cursor)
    scale = np.broadcast_to(weights.scale, outputs).astype(np.float64)
    return _Affine(weights.values, weights.bits, scale, _bias(bias, outputs, source.scale, scale))


def _added(cursor: _Cursor) -> Any:
    node = cursor.take()
    values = cursor.chain.constant_inputs(node)
    if len(values) != 1:
        raise cursor.chain.unsupported("an Add of something other than a constant bias", node)
    return values[0]


def _bias(bias: QuantizedConstant | NDArray[Any] | None, outputs: int, scale_in: float, scale: Reals) -> Integers:
    """A bias as int32 at ``scale_in * scale``: taken as it is where it has that scale, else quantized."""
    if bias is None:
        return np.zeros(outputs, np.int64)
    if isinstance(bias, QuantizedConstant):
        values = np.broadcast_to(bias.values.reshape(-1), outputs)
        if np.allclose(bias.scale, scale_in * scale, rtol=1e-5, atol=0.0):
            return values.astype(np.int64)
        real = values * bias.scale
    else:
        real = np.broadcast_to(np.asarray(bias, np.float64).reshape(-1), outputs)
    return semantics.quantize_bias(real, scale_in, scale)
