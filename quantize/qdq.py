"""Writes a quantized network as QDQ ONNX: any runtime opens it, and the lowering reads its integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.quantize.activation import Activation
from policyport.quantize.integer_nodes import QuantizedConcat, QuantizedLayer, QuantizedMove, QuantizedNode
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import TransposedConvolution
from policyport.quantize.onnx_writer import OnnxWriter, as_stored, file_shape

OPSET_INT2, IR_VERSION_INT2 = 25, 13
"""The first opset that has int2, and its file format."""


def write_qdq(network: QuantizedNetwork, path: Path) -> None:
    """Write ``network`` as QDQ ONNX, opset 21, or 25 where weights have two bits.

    input -> [Transpose] -> [Sub] -> [Mul] -> [Clip] -> Q -> DQ, then each operator in float between the
    DQ of what it reads and its own Q -> DQ: a layer is
    Gemm or Conv(DQ, DQ(weights), DQ(int32 bias)) -> [Relu or Clip] -> Q -> DQ -> [function -> Q -> DQ].
    Weights of 4 and 3 bits are stored as int4, of 2 bits as int2. Tensors keep the names of the float
    model; the last DQ yields the output, the tensor before its Q is called ``<output>_real``. An activation of fewer
    than 8 bits has a Clip before its Q, to the real values of its first and its last level.
    """
    graph = _Graph(network)
    host = graph.host(network.input_name, network.prefix, network.channels_last)
    graph.finish(network.input, graph.limited(network.input, host, f"{network.input_name}_limited"))
    for node in network.nodes:
        graph.finish(node.output, _operator(graph, node))
    two_bits = any(layer.weight_bits == 2 for layer in network.layers)
    source = network.input_name, file_shape(network.input.shape, network.channels_last)
    result = network.output_name, network.output.shape
    version = {"opset": OPSET_INT2, "ir_version": IR_VERSION_INT2} if two_bits else {}
    graph.save(path, network.name, source, result, **version)


class _Graph(OnnxWriter):
    """Operators between pairs of QuantizeLinear and DequantizeLinear."""

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        self._output_name = network.output_name

    def real(self, activation: Activation) -> str:
        """Name of the float tensor before a tensor's QuantizeLinear."""
        return f"{activation.name}_real" if activation.name == self._output_name else activation.name

    def dequantized(self, activation: Activation) -> str:
        """Name of what a tensor's DequantizeLinear yields."""
        return activation.name if activation.name == self._output_name else f"{activation.name}_dequantized"

    def limited(self, activation: Activation, source: str, output: str) -> str:
        """A float tensor between the ends of an activation's levels; itself where int8 or int16 ends there too."""
        if activation.bits == activation.stored_bits:
            return source
        names = (f"{output}_{which}" for which in ("least", "largest"))
        ends = [
            self.constant(name, np.array(end, np.float32)) for name, end in zip(names, activation.range, strict=True)
        ]
        return self.node("Clip", [source, *ends], output)

    def finish(self, activation: Activation, source: str) -> str:
        """QuantizeLinear and DequantizeLinear of an activation behind the float tensor ``source``."""
        stem = activation.name
        kind = np.int8 if activation.stored_bits == 8 else np.int16
        scale = self.constant(f"{stem}_scale", np.array(activation.scale, np.float32))
        zero_point = self.constant(f"{stem}_zero_point", np.array(activation.zero_point, kind))
        quantized = self.node("QuantizeLinear", [source, scale, zero_point], f"{stem}_quantized")
        return self.node("DequantizeLinear", [quantized, scale, zero_point], self.dequantized(activation))


def _operator(graph: _Graph, made: QuantizedNode) -> str:
    """The operator in float, up to what its last QuantizeLinear reads."""
    inputs, output = [graph.dequantized(x) for x in made.inputs], graph.real(made.output)
    narrow = made.output.bits < made.output.stored_bits and not _moves(made)
    whole = f"{output}_unlimited" if narrow else output
    if isinstance(made, QuantizedLayer):
        found = _layer(graph, made, inputs[0], whole)
    else:
        found = graph.operator(made.node, inputs, whole, made.inputs[0].shape)
    return graph.limited(made.output, found, output) if narrow else found


def _moves(made: QuantizedNode) -> bool:
    """Whether an operator yields integers that it reads, which are within its levels already."""
    if isinstance(made, QuantizedConcat):
        return all(by is None for by in made.rescales)
    return isinstance(made, QuantizedMove)


def _layer(graph: _Graph, layer: QuantizedLayer, source: str, output: str) -> str:
    """A layer in float, its function included."""
    function, stem = layer.node.function, layer.name
    operands = [source, _weights(graph, layer), _bias(graph, layer)]
    if layer.has_table:
        linear = graph.linear(layer.node, operands, layer.before.name)
        return graph.function(function, graph.finish(layer.before, linear), output)
    if function.clamps:
        return graph.function(function, graph.linear(layer.node, operands, f"{stem}_linear"), output)
    return graph.linear(layer.node, operands, output)


def _weights(graph: _Graph, layer: QuantizedLayer) -> str:
    import ml_dtypes

    kind = {8: np.int8, 4: ml_dtypes.int4, 3: ml_dtypes.int4, 2: ml_dtypes.int2}[layer.weight_bits]
    stem, axis = layer.name, 1 if isinstance(layer.node, TransposedConvolution) else 0
    quantized = graph.constant(
        f"{stem}_weight_quantized", as_stored(layer.node, layer.weights).astype(np.int8).astype(kind)
    )
    scale = graph.constant(f"{stem}_weight_scale", _one_for_all(layer, layer.weight_scale))
    shape = () if layer.node.group_count > 1 and axis == 1 else layer.weight_scale.shape
    zero_point = graph.constant(f"{stem}_weight_zero_point", np.zeros(shape, np.int8).astype(kind))
    return graph.node("DequantizeLinear", [quantized, scale, zero_point], f"{stem}_weight", axis=axis)


def _bias(graph: _Graph, layer: QuantizedLayer) -> str:
    stem = layer.name
    scale = graph.constant(f"{stem}_bias_scale", layer.bias_scale.astype(np.float32))
    quantized = graph.constant(f"{stem}_bias_quantized", layer.bias.astype(np.int32))
    return graph.node("DequantizeLinear", [quantized, scale], f"{stem}_bias", axis=0)


def _one_for_all(layer: QuantizedLayer, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """One scale where ONNX has no axis for those of the output channels."""
    return scale if layer.node.takes_channel_scales else scale[0]
