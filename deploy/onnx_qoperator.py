"""ONNX operators that take and yield integers, spelled as DequantizeLinear, an operator of reals, and QuantizeLinear.

What onnxruntime's quantizer calls the QOperator format: those of ONNX itself, and those of onnxruntime's own domain
(docs/ContribOperators.md of onnxruntime).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.errors import ArtifactError, UnsupportedModelError
from policyport.core.onnx_tensor import read_tensor

LEFT_OUT = ("channels_last", "opset")
"""Attributes that the operator of reals does not have."""

DYNAMIC = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")


@dataclass(frozen=True)
class _Form:
    """Where the inputs of such an operator are."""

    operator: str
    """Of reals."""

    operands: tuple[int, ...]
    """Each a value, its scale and its zero point."""

    result: int
    """The result's scale and zero point."""

    bias: int | None = None
    """In int32, at the product of both operands' scales."""


FORMS: Mapping[str, _Form] = {
    "QLinearConv": _Form("Conv", (0, 3), 6, 8),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    "QGemm": _Form("Gemm", (0, 3), 7, 6),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
}

CONCAT = "QLinearConcat"
"""Its result's scale comes first, then as many operands as there are."""


def spell_out(graph: Any, path: Path) -> None:
    """Replace every operator on integers of a GraphProto, in place.

    :raises ArtifactError: a name that is no text
    :raises UnsupportedModelError: scales that come with each input, channels last, or scales that are not constant
    """
    try:
        nodes = [new for node in graph.node for new in _spelled(node, graph, path)]
    except UnicodeDecodeError as error:
        raise ArtifactError("torn model: a name is no text", where=path, got=str(error)) from error
    del graph.node[:]
    graph.node.extend(nodes)


def _spelled(node: Any, graph: Any, path: Path) -> Iterator[Any]:
    where = f"{path.name}, {node.op_type} node {node.name or node.output[0]!r}"
    if node.op_type in DYNAMIC:
        raise UnsupportedModelError(
            "activations whose scales are found at each inference",
            where=where,
            expected="scales that the file gives",
            got="dynamic quantization",
            cure="quantize the activations too, by calibration: quantize_static in onnxruntime",
        )
    form = FORMS.get(node.op_type)
    if node.op_type == CONCAT:
        form = _Form("Concat", tuple(range(2, len(node.input), 3)), 0)
    if form is None:
        yield node
        return
    needed = max(*(at + 3 for at in form.operands), form.result if node.op_type == "QGemm" else form.result + 2)
    if len(node.input) < needed:
        raise UnsupportedModelError(
            "an operator on integers that lacks inputs", where=where, expected=needed, got=len(node.input)
        )
    given = {each.name: each for each in node.attribute}
    if "channels_last" in given and given["channels_last"].i:
        raise UnsupportedModelError("an operator with channels last", where=where, expected="channels first")
    yield from _Spelling(node, form, graph, path, where).nodes()


@dataclass(frozen=True)
class _Spelling:
    """One operator, and what is made of it."""

    node: Any
    form: _Form
    graph: Any
    path: Path
    where: str

    def nodes(self) -> Iterator[Any]:
        """Those that stand for it."""
        from onnx import helper

        node, form = self.node, self.form
        values = []
        for number, at in enumerate(form.operands):
            values.append(f"{node.output[0]}/operand{number}")
            axis = self._axis() if number else 0
            yield helper.make_node("DequantizeLinear", node.input[at : at + 3], [values[-1]], node.name, axis=axis)
        if form.bias is not None and len(node.input) > form.bias and node.input[form.bias]:
            values.append(f"{node.output[0]}/bias")
            inputs = [node.input[form.bias], self._bias_scale()]
            yield helper.make_node("DequantizeLinear", inputs, [values[-1]], node.name, axis=0)
        quantized = len(node.input) > form.result and node.input[form.result]
        result = f"{node.output[0]}/real" if quantized else node.output[0]
        spelled = helper.make_node(form.operator, values, [result], node.name)
        spelled.attribute.extend(each for each in node.attribute if each.name not in LEFT_OUT)
        yield spelled
        if quantized:
            inputs = [result, *node.input[form.result : form.result + 2]]
            yield helper.make_node("QuantizeLinear", inputs, list(node.output), node.name)

    def _axis(self) -> int:
        """Of the second operand: that of the outputs."""
        turned = any(each.name == "transB" and each.i for each in self.node.attribute)
        return 0 if self.form.operator == "Conv" or turned else 1

    def _bias_scale(self) -> str:
        """The name of a constant made of both operands' scales."""
        from onnx import numpy_helper

        first, second = (self._constant(self.node.input[at + 1]).reshape(-1) for at in self.form.operands)
        if first.size != 1:
            raise UnsupportedModelError("an activation of several scales", where=self.where, expected=1, got=first.size)
        name = f"{self.node.output[0]}/bias_scale"
        product = (first * second).astype(np.float32)
        self.graph.initializer.append(numpy_helper.from_array(product, name))
        return name

    def _constant(self, name: str) -> Any:
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return read_tensor(tensor, self.path)
        raise UnsupportedModelError("a scale that is no initializer", where=self.where, expected="a constant", got=name)
