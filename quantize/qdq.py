"""Writes a quantized network as QDQ ONNX: any runtime opens it, and the lowering reads its integers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import Window
from policyport.quantize.activation import Activation
from policyport.quantize.integer_nodes import QuantizedLayer, QuantizedNode
from policyport.quantize.network import QuantizedNetwork
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
    Softmax,
    Sum,
    TransposedConvolution,
)

OPSET, IR_VERSION = 21, 10
"""The first opset whose QuantizeLinear and DequantizeLinear take int16 and int4, and its file format."""

OPSET_INT2, IR_VERSION_INT2 = 25, 13
"""The first opset that has int2, and its file format."""


def write_qdq(network: QuantizedNetwork, path: Path) -> None:
    """Write ``network`` as QDQ ONNX, opset 21, or 25 where weights have two bits.

    input -> [Transpose] -> [Sub] -> [Mul] -> [Clip] -> Q -> DQ, then each operator in float between the
    DQ of what it reads and its own Q -> DQ: a layer is
    Gemm or Conv(DQ, DQ(weights), DQ(int32 bias)) -> [Relu or Clip] -> Q -> DQ -> [function -> Q -> DQ].
    Weights of 4 and 3 bits are stored as int4, of 2 bits as int2. Tensors keep the names of the float
    model; the last DQ yields the output, the tensor before its Q is called ``<output>_real``.
    """
    import onnx

    graph = _Graph(network)
    _host(graph, network)
    for node in network.nodes:
        graph.finish(node.output, _operator(graph, node))
    two_bits = any(layer.weight_bits == 2 for layer in network.layers)
    version, ir_version = (OPSET_INT2, IR_VERSION_INT2) if two_bits else (OPSET, IR_VERSION)
    last = network.input.shape[1:] + network.input.shape[:1] if network.channels_last else network.input.shape
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            network.name,
            [_float_value(network.input_name, last)],
            [_float_value(network.output_name, network.output.shape)],
            graph.initializers,
        ),
        producer_name="policyport",
        opset_imports=[onnx.helper.make_opsetid("", version)],
        ir_version=ir_version,
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _float_value(name: str, shape: Shape) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape])


class _Graph:
    """Nodes and initializers in the making."""

    def __init__(self, network: QuantizedNetwork) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._output_name = network.output_name

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

    def real(self, activation: Activation) -> str:
        """Name of the float tensor before a tensor's QuantizeLinear."""
        return f"{activation.name}_real" if activation.name == self._output_name else activation.name

    def dequantized(self, activation: Activation) -> str:
        """Name of what a tensor's DequantizeLinear yields."""
        return activation.name if activation.name == self._output_name else f"{activation.name}_dequantized"

    def finish(self, activation: Activation, source: str) -> str:
        """QuantizeLinear and DequantizeLinear of an activation behind the float tensor ``source``."""
        stem = activation.name
        kind = np.int8 if activation.bits == 8 else np.int16
        scale = self.constant(f"{stem}_scale", np.array(activation.scale, np.float32))
        zero_point = self.constant(f"{stem}_zero_point", np.array(activation.zero_point, kind))
        quantized = self.node("QuantizeLinear", [source, scale, zero_point], f"{stem}_quantized")
        return self.node("DequantizeLinear", [quantized, scale, zero_point], self.dequantized(activation))

    def function(self, function: Function, source: str, output: str) -> str:
        """A function of a float tensor."""
        if function.name == "Clip":
            bounds = [
                self.constant(f"{output}_{which}", np.array(bound, np.float32))
                for which, bound in (("low", function.low), ("high", function.high))
            ]
            return self.node("Clip", [source, *bounds], output)
        if function.name == "Silu":
            return self.node("Mul", [source, self.node("Sigmoid", [source], f"{output}_gate")], output)
        attributes = {"alpha": 1 / 6, "beta": 0.5} if function.name == "HardSigmoid" else {}
        return self.node(function.name, [source], output, **attributes)


def _host(graph: _Graph, network: QuantizedNetwork) -> str:
    """The host's part before the first QuantizeLinear, and that."""
    here, stem, prefix = network.input_name, network.input_name, network.prefix
    if network.channels_last:
        here = graph.node("Transpose", [here], f"{stem}_channels_first", perm=[0, 3, 1, 2])
    if np.any(prefix.offset != 0):
        here = graph.node("Sub", [here, graph.constant(f"{stem}_offset", _short(prefix.offset))], f"{stem}_centred")
    if np.any(prefix.gain != 1):
        here = graph.node("Mul", [here, graph.constant(f"{stem}_gain", _short(prefix.gain))], f"{stem}_scaled")
    if np.isfinite([prefix.low, prefix.high]).any():
        low = graph.constant(f"{stem}_clip_low", np.array(prefix.low, np.float32))
        high = graph.constant(f"{stem}_clip_high", np.array(prefix.high, np.float32))
        here = graph.node("Clip", [here, low, high], f"{stem}_clipped")
    return graph.finish(network.input, here)


def _short(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """One number where an image's channels all have the same."""
    return value.reshape(-1)[0] if value.ndim == 3 and np.all(value == value.reshape(-1)[0]) else value


def _operator(graph: _Graph, made: QuantizedNode) -> str:
    """The operator in float, up to what its last QuantizeLinear reads."""
    inputs, output = [graph.dequantized(x) for x in made.inputs], graph.real(made.output)
    if isinstance(made, QuantizedLayer):
        return _layer(graph, made, inputs[0], output)
    node: Node = made.node
    match node:
        case Sum(signs=signs, function=function):
            kind = "Sub" if signs == (1, -1) else "Add" if len(signs) == 2 else "Sum"
            if not function.name:
                return graph.node(kind, inputs, output)
            return graph.function(function, graph.node(kind, inputs, f"{node.name}_sum"), output)
        case Product():
            return graph.node("Mul", inputs, output)
        case Concat():
            return graph.node("Concat", inputs, output, axis=1)
        case MaxPool(window=window):
            return graph.node("MaxPool", inputs, output, **_window(window))
        case AveragePool(window=window):
            if window == Window((made.inputs[0].shape[1], made.inputs[0].shape[2])):
                return graph.node("GlobalAveragePool", inputs, output)
            counts = int(node.count_padding)
            return graph.node("AveragePool", inputs, output, **_window(window), count_include_pad=counts)
        case Reshape():
            return _reshape(graph, node, inputs[0], output, len(made.inputs[0].shape))
        case Pad(pads=(top, left, bottom, right)):
            margin = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
            return graph.node("Pad", [*inputs, graph.constant(f"{node.name}_pads", margin)], output)
        case Resize(height=height, width=width):
            sizes = graph.constant(f"{node.name}_sizes", np.array([height, width], np.int64))
            modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return graph.node("Resize", [*inputs, "", "", sizes], output, axes=[2, 3], **modes)
        case Softmax():
            return graph.node("Softmax", inputs, output, axis=1)
        case Pointwise(function=function):
            return graph.function(function, inputs[0], output)
    raise AssertionError(f"no ONNX for {type(node).__name__}")


def _window(window: Window) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "pads": list(window.pads),
    }


def _reshape(graph: _Graph, node: Reshape, source: str, output: str, rank: int) -> str:
    if node.channels_last and rank == 3:
        source = graph.node("Transpose", [source], f"{node.name}_channels_last", perm=[0, 2, 3, 1])
    if len(node.target) == 1:
        return graph.node("Flatten", [source], output, axis=1)
    shape = graph.constant(f"{node.name}_shape", np.array([-1, *node.target], np.int64))
    return graph.node("Reshape", [source, shape], output)


def _layer(graph: _Graph, layer: QuantizedLayer, source: str, output: str) -> str:
    """A layer in float, its function included."""
    function, stem = layer.node.function, layer.name
    operands = [source, _weights(graph, layer), _bias(graph, layer)]
    if layer.has_table:
        linear = _linear(graph, layer, operands, layer.before.name)
        return graph.function(function, graph.finish(layer.before, linear), output)
    if function.clamps:
        return graph.function(function, _linear(graph, layer, operands, f"{stem}_linear"), output)
    return _linear(graph, layer, operands, output)


def _linear(graph: _Graph, layer: QuantizedLayer, operands: list[str], output: str) -> str:
    match layer.node:
        case Convolution(window=window, groups=groups):
            return graph.node("Conv", operands, output, **_window(window), group=groups)
        case TransposedConvolution(window=window, groups=groups, output_padding=extra):
            attributes = {**_window(window), "output_padding": list(extra)}
            return graph.node("ConvTranspose", operands, output, **attributes, group=groups)
    return graph.node("Gemm", operands, output, transB=1)


def _weights(graph: _Graph, layer: QuantizedLayer) -> str:
    import ml_dtypes

    kind = {8: np.int8, 4: ml_dtypes.int4, 3: ml_dtypes.int4, 2: ml_dtypes.int2}[layer.weight_bits]
    stem, axis = layer.name, 1 if isinstance(layer.node, TransposedConvolution) else 0
    quantized = graph.constant(f"{stem}_weight_quantized", _as_stored(layer).astype(np.int8).astype(kind))
    scale = graph.constant(f"{stem}_weight_scale", _one_for_all(layer, layer.weight_scale))
    shape = () if layer.node.group_count > 1 and axis == 1 else layer.weight_scale.shape
    zero_point = graph.constant(f"{stem}_weight_zero_point", np.zeros(shape, np.int8).astype(kind))
    return graph.node("DequantizeLinear", [quantized, scale, zero_point], f"{stem}_weight", axis=axis)


def _bias(graph: _Graph, layer: QuantizedLayer) -> str:
    stem = layer.name
    scale = graph.constant(f"{stem}_bias_scale", layer.bias_scale.astype(np.float32))
    quantized = graph.constant(f"{stem}_bias_quantized", layer.bias.astype(np.int32))
    return graph.node("DequantizeLinear", [quantized, scale], f"{stem}_bias", axis=0)


def _as_stored(layer: QuantizedLayer) -> NDArray[np.int64]:
    """The weights as ONNX has them: of a ConvTranspose [channels, outputs / groups, height, width]."""
    weights, node = layer.weights, layer.node
    if not isinstance(node, TransposedConvolution):
        return weights
    outputs, share, *kernel = weights.shape
    grouped = weights.reshape(node.groups, outputs // node.groups, share, *kernel).transpose(0, 2, 1, 3, 4)
    return grouped.reshape(node.groups * share, outputs // node.groups, *kernel)


def _one_for_all(layer: QuantizedLayer, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """One scale where ONNX has no axis for those of the output channels."""
    return scale if layer.node.takes_channel_scales else scale[0]
