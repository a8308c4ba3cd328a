"""ONNX in the making: the operators of a float network as nodes, whatever stands between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import Window
from policyport.quantize.graph import HostPrefix
from policyport.quantize.nodes import (
    AveragePool,
    Concat,
    Convolution,
    Function,
    MaxPool,
    Node,
    Pad,
    Pointwise,
    Product,
    Reshape,
    Resize,
    Shape,
    Slice,
    Softmax,
    Sum,
    TransposedConvolution,
    Weighted,
)

OPSET, IR_VERSION = 21, 10
"""The first opset whose QuantizeLinear and DequantizeLinear take int16 and int4, and its file format."""


class OnnxWriter:
    """Nodes and initializers of a graph; every method gives the name of the tensor that it yields.

    :param kind: float type of the numbers that operators hold
    """

    def __init__(self, kind: type[np.floating[Any]] = np.float32) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.kind = kind

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """An initializer; its name is returned."""
        import onnx

        self.initializers.append(onnx.numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """A node named after its output, whose name is returned."""
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attributes))
        return output

    def function(self, function: Function, source: str, output: str) -> str:
        """A function of a float tensor."""
        if function.name == "Clip":
            bounds = [
                self.constant(f"{output}_{which}", np.array(bound, self.kind))
                for which, bound in (("low", function.low), ("high", function.high))
            ]
            return self.node("Clip", [source, *bounds], output)
        if function.name == "Silu":
            return self.node("Mul", [source, self.node("Sigmoid", [source], f"{output}_gate")], output)
        attributes = {"alpha": 1 / 6, "beta": 0.5} if function.name == "HardSigmoid" else {}
        return self.node(function.name, [source], output, **attributes)

    def host(self, stem: str, prefix: HostPrefix, channels_last: bool) -> str:
        """What the host does to the input named ``stem``, in float32."""
        here = stem
        if channels_last:
            here = self.node("Transpose", [here], f"{stem}_channels_first", perm=[0, 3, 1, 2])
        if np.any(prefix.offset != 0):
            here = self.node("Sub", [here, self.constant(f"{stem}_offset", _short(prefix.offset))], f"{stem}_centred")
        if np.any(prefix.gain != 1):
            here = self.node("Mul", [here, self.constant(f"{stem}_gain", _short(prefix.gain))], f"{stem}_scaled")
        if np.isfinite([prefix.low, prefix.high]).any():
            low = self.constant(f"{stem}_clip_low", np.array(prefix.low, np.float32))
            high = self.constant(f"{stem}_clip_high", np.array(prefix.high, np.float32))
            here = self.node("Clip", [here, low, high], f"{stem}_clipped")
        return here

    def operator(self, node: Node, inputs: Sequence[str], output: str, shape: Shape) -> str:
        """An operator without weights; ``shape`` is that of its first input."""
        match node:
            case Sum(signs=signs, function=function):
                kind = "Sub" if signs == (1, -1) else "Add" if len(signs) == 2 else "Sum"
                if not function.name:
                    return self.node(kind, inputs, output)
                return self.function(function, self.node(kind, inputs, f"{node.name}_sum"), output)
            case Product():
                return self.node("Mul", inputs, output)
            case Concat():
                return self.node("Concat", inputs, output, axis=1)
            case MaxPool(window=window):
                return self.node("MaxPool", inputs, output, **_window(window))
            case AveragePool(window=window):
                if window == Window((shape[1], shape[2])):
                    return self.node("GlobalAveragePool", inputs, output)
                counts = int(node.count_padding)
                return self.node("AveragePool", inputs, output, **_window(window), count_include_pad=counts)
            case Reshape():
                return self._reshape(node, inputs[0], output, len(shape))
            case Pad(pads=(top, left, bottom, right)):
                margin = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
                return self.node("Pad", [*inputs, self.constant(f"{node.name}_pads", margin)], output)
            case Resize():
                return self._resize(node, inputs[0], output, shape)
            case Slice(start=start, stop=stop):
                ends = [("start", start), ("stop", stop), ("axis", 1)]
                bounds = [self.constant(f"{node.name}_{what}", np.array([at], np.int64)) for what, at in ends]
                return self.node("Slice", [*inputs, *bounds], output)
            case Softmax():
                return self.node("Softmax", inputs, output, axis=1)
            case Pointwise(function=function):
                return self.function(function, inputs[0], output)
        raise AssertionError(f"no ONNX for {type(node).__name__}")

    def _reshape(self, node: Reshape, source: str, output: str, rank: int) -> str:
        if node.channels_last and rank == 3:
            source = self.node("Transpose", [source], f"{node.name}_channels_last", perm=[0, 2, 3, 1])
        if len(node.target) == 1:
            return self.node("Flatten", [source], output, axis=1)
        if node.channels_last and len(node.target) == 3:
            channels, *size = node.target
            shape = self.constant(f"{node.name}_shape", np.array([-1, *size, channels], np.int64))
            source = self.node("Reshape", [source, shape], f"{node.name}_channels_last")
            return self.node("Transpose", [source], output, perm=[0, 3, 1, 2])
        shape = self.constant(f"{node.name}_shape", np.array([-1, *node.target], np.int64))
        return self.node("Reshape", [source, shape], output)

    def _resize(self, node: Resize, source: str, output: str, shape: Shape) -> str:
        modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        scales = np.array([1, 1, node.height / shape[1], node.width / shape[2]], np.float32)
        if np.array_equal(scales[2:].astype(np.float64) * shape[1:], [node.height, node.width]):
            inputs = [source, "", self.constant(f"{node.name}_scales", scales)]
            return self.node("Resize", inputs, output, **modes)
        sizes = self.constant(f"{node.name}_sizes", np.array([node.height, node.width], np.int64))
        return self.node("Resize", [source, "", "", sizes], output, axes=[2, 3], **modes)

    def linear(self, node: Weighted, operands: Sequence[str], output: str) -> str:
        """The weighted sums of a layer, of its input, weights and bias, without its function."""
        match node:
            case Convolution(window=window, groups=groups):
                return self.node("Conv", operands, output, **_window(window), group=groups)
            case TransposedConvolution(window=window, groups=groups, output_padding=extra):
                attributes = {**_window(window), "output_padding": list(extra)}
                return self.node("ConvTranspose", operands, output, **attributes, group=groups)
        return self.node("Gemm", operands, output, transB=1)

    def save(
        self,
        path: Path,
        name: str,
        source: tuple[str, Shape],
        result: tuple[str, Shape],
        *,
        opset: int = OPSET,
        ir_version: int = IR_VERSION,
    ) -> None:
        """Check and write the model; input and output are float32, each a name and a shape without n."""
        import onnx

        values = [
            onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, ["N", *shape])
            for tensor, shape in (source, result)
        ]
        model = onnx.helper.make_model(
            onnx.helper.make_graph(self.nodes, name, values[:1], values[1:], self.initializers),
            producer_name="policyport",
            opset_imports=[onnx.helper.make_opsetid("", opset)],
            ir_version=ir_version,
        )
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def _short(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """One number where an image's channels all have the same."""
    return value.reshape(-1)[0] if value.ndim == 3 and np.all(value == value.reshape(-1)[0]) else value


def _window(window: Window) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "pads": list(window.pads),
    }


def as_stored(node: Weighted, weights: NDArray[Any]) -> NDArray[Any]:
    """The weights as ONNX has them: of a ConvTranspose [channels, outputs / groups, height, width]."""
    if not isinstance(node, TransposedConvolution):
        return weights
    outputs, share, *kernel = weights.shape
    grouped = weights.reshape(node.groups, outputs // node.groups, share, *kernel).transpose(0, 2, 1, 3, 4)
    return grouped.reshape(node.groups * share, outputs // node.groups, *kernel)


def file_shape(shape: Shape, channels_last: bool) -> Shape:
    """The shape of an observation as the file has it, without n."""
    return (*shape[1:], shape[0]) if channels_last else shape
