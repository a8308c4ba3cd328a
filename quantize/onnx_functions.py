"""Functions of one value as ONNX nodes give them."""

from __future__ import annotations

from math import inf, isclose
from typing import Any

from policyport.core.semantics import POINTWISE
from policyport.quantize.nodes import RELU, Function, clip
from policyport.quantize.onnx_file import OnnxFile

PARAMETERS = {
    "Elu": {"alpha": (1.0, 1.0)},
    "LeakyRelu": {"alpha": (0.01, 0.01)},
    "HardSigmoid": {"alpha": (0.2, 1 / 6), "beta": (0.5, 0.5)},
    "Swish": {"alpha": (1.0, 1.0)},
}
"""For each function its parameters: ONNX's default, and the value that the integer semantics have."""

FUNCTIONS = (*(name for name in POINTWISE if name != "Silu"), "Swish", "Clip", "Min", "Max")
"""ONNX operators that are functions of one value."""


def read_function(file: OnnxFile, node: Any) -> Function:
    """The function that a node computes.

    :raises UnsupportedModelError: a parameter or a bound that is not supported
    """
    kind = node.op_type
    if kind == "Relu":
        return RELU
    if kind in ("Clip", "Min", "Max"):
        return _clamp(file, node)
    for name, (default, expected) in PARAMETERS.get(kind, {}).items():
        got = file.attribute(node, name, default)
        if not isclose(got, expected, rel_tol=1e-5):
            raise file.refuse(node, f"a {kind} of another shape", expected=f"{name} {expected:.6g}", got=got)
    return Function("Silu" if kind == "Swish" else kind)


def _clamp(file: OnnxFile, node: Any) -> Function:
    if node.op_type == "Clip" and file.opset < 11:
        return clip(file.attribute(node, "min", -inf), file.attribute(node, "max", inf))
    bounds = [
        None if constant is None else constant.reshape(-1)
        for constant in (file.constant(node, i) for i in range(1, max(2, len(node.input))))
    ]
    if any(bound is not None and bound.size != 1 for bound in bounds):
        raise file.refuse(node, "bounds that differ from element to element", expected="one number")
    low, high = [None if bound is None else float(bound[0]) for bound in (*bounds, None)][:2]
    if node.op_type == "Min":
        low, high = -inf, low
    elif node.op_type == "Max":
        high = inf
    return clip(-inf if low is None else low, inf if high is None else high)
