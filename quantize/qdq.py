"""Writes a quantized network as QDQ ONNX: any runtime opens it, and the lowering reads its integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.network import Activation, QuantizedLayer, QuantizedNetwork

OPSET = 21
"""The first opset whose QuantizeLinear and DequantizeLinear take int16."""

IR_VERSION = 10
"""The ONNX file format that came with opset 21."""


def write_qdq(network: QuantizedNetwork, path: Path) -> None:
    """Write ``network`` as QDQ ONNX, opset 21.

    input -> [Sub] -> [Mul] -> [Clip] -> Q -> DQ, then for each layer
    Gemm(DQ(int8 weights), DQ(int32 bias)) -> [Relu] -> Q -> DQ -> [Tanh or Sigmoid -> Q -> DQ];
    Tensors keep the names of the float model; the last DQ yields the output, the tensor before its Q
    is called ``<output>_real``.
    """
    import onnx

    graph = _Graph()
    source = _host(graph, network)
    here = graph.pair(source, network.input, f"{network.input_name}_dequantized")
    for i, layer in enumerate(network.layers):
        last = i + 1 == len(network.layers)
        real, output = (
            (f"{layer.name}_real", network.output_name) if last else (layer.name, f"{layer.name}_dequantized")
        )
        here = _layer(graph, layer, here, real, output)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            network.name,
            [_float_value(network.input_name, network.input.size)],
            [_float_value(network.output_name, network.output.size)],
            graph.initializers,
        ),
        producer_name="policyport",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _float_value(name: str, size: int) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])


class _Graph:
    """Nodes and initializers in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """An initializer; its name is returned."""
        import onnx

        self.initializers.append(onnx.numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node named after its output, whose name is returned."""
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))
        return output

    def pair(self, source: str, activation: Activation, output: str) -> str:
        """QuantizeLinear and DequantizeLinear of an activation."""
        stem = activation.name
        kind = np.int8 if activation.bits == 8 else np.int16
        scale = self.constant(f"{stem}_scale", np.array(activation.scale, np.float32))
        zero_point = self.constant(f"{stem}_zero_point", np.array(activation.zero_point, kind))
        quantized = self.node("QuantizeLinear", [source, scale, zero_point], f"{stem}_quantized")
        return self.node("DequantizeLinear", [quantized, scale, zero_point], output)


def _host(graph: _Graph, network: QuantizedNetwork) -> str:
    """The host's part before the first QuantizeLinear."""
    here, stem, prefix = network.input_name, network.input_name, network.prefix
    if np.any(prefix.offset != 0):
        offset = graph.constant(f"{stem}_offset", prefix.offset)
        here = graph.node("Sub", [here, offset], f"{stem}_centred")
    if np.any(prefix.gain != 1):
        here = graph.node("Mul", [here, graph.constant(f"{stem}_gain", prefix.gain)], f"{stem}_scaled")
    if np.isfinite([prefix.low, prefix.high]).any():
        low = graph.constant(f"{stem}_clip_low", np.array(prefix.low, np.float32))
        high = graph.constant(f"{stem}_clip_high", np.array(prefix.high, np.float32))
        here = graph.node("Clip", [here, low, high], f"{stem}_clipped")
    return here


def _layer(graph: _Graph, layer: QuantizedLayer, source: str, real: str, output: str) -> str:
    """One layer; ``real`` is what its last Q reads, ``output`` what its last DQ yields."""
    stem = layer.name
    weights = _weights(graph, layer)
    bias_scale = graph.constant(f"{stem}_bias_scale", layer.bias_scale.astype(np.float32))
    bias_quantized = graph.constant(f"{stem}_bias_quantized", layer.bias.astype(np.int32))
    bias = graph.node("DequantizeLinear", [bias_quantized, bias_scale], f"{stem}_bias", axis=0)
    operands = [source, weights, bias]
    if layer.has_table:
        linear = graph.node("Gemm", operands, layer.before.name, transB=1)
        graph.node(layer.function, [graph.pair(linear, layer.before, f"{linear}_dequantized")], real)
    elif layer.function == "Relu":
        graph.node("Relu", [graph.node("Gemm", operands, f"{stem}_linear", transB=1)], real)
    else:
        graph.node("Gemm", operands, real, transB=1)
    return graph.pair(real, layer.output, output)


def _weights(graph: _Graph, layer: QuantizedLayer) -> str:
    stem = layer.name
    quantized = graph.constant(f"{stem}_weight_quantized", layer.weights.astype(np.int8))
    scale = graph.constant(f"{stem}_weight_scale", layer.weight_scale)
    zero_point = graph.constant(f"{stem}_weight_zero_point", np.zeros(len(layer.weights), np.int8))
    return graph.node("DequantizeLinear", [quantized, scale, zero_point], f"{stem}_weight", axis=0)
