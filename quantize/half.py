"""A network in half precision: what a target with float16 arithmetic computes, and as an ONNX file.

Weights, biases and every tensor between operators are float16; an operator sums up in float32 and rounds
its result once, as onnxruntime and cores with half-precision storage do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.quantize.graph import FloatGraph, Live
from policyport.quantize.nodes import NONE, Floats, Weighted
from policyport.quantize.onnx_writer import OnnxWriter, as_stored, file_shape


def halved(values: NDArray[np.floating[Any]]) -> Floats:
    """Values rounded to half precision, half to even, still float32; beyond 65504 they are infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16).astype(np.float32)


def half_weights(graph: FloatGraph) -> FloatGraph:
    """The graph with weights and biases rounded to half precision.

    :raises UnsupportedModelError: one is too large for it; the layer is named
    """
    layers = []
    for node in graph.weighted:
        weights, bias = halved(node.weights), halved(node.bias)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise UnsupportedModelError(
                "a weight is too large for half precision",
                where=f"{graph.name}, layer {node.name}",
                expected="at most 65504",
                got=float(max(np.abs(node.weights).max(), np.abs(node.bias).max())),
                cure="quantize the network to integers instead",
            )
        layers.append(replace(node, weights=weights, bias=bias))
    return graph.replaced(*layers)


def evaluate_half(graph: FloatGraph, observations: Floats) -> Floats:
    """The outputs in half precision: [n, outputs], float32 values that float16 holds.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them
    """
    graph = half_weights(graph)
    live = Live({graph.input_name: halved(graph.enter(observations))}, graph.reader_counts)
    for node in graph.nodes:
        inputs = [live.take(name) for name in node.inputs]
        if isinstance(node, Weighted) and node.function != NONE:
            result = node.function(halved(node.linear(inputs[0])))
        else:
            result = node.evaluate(*inputs)
        live.put(node.name, halved(result))
    output = live.take(graph.output_name)
    return output.reshape(len(output), -1)


def write_half(graph: FloatGraph, path: Path) -> None:
    """Write the network as ONNX whose weights and arithmetic are float16; input and output stay float32.

    :raises UnsupportedModelError: a weight is too large for half precision
    """
    graph = half_weights(graph)
    writer, wanted = OnnxWriter(np.float16), graph.output_name
    names = {node.name: f"{node.name}_half" if node.name == wanted else node.name for node in graph.nodes}
    names[graph.input_name] = f"{graph.input_name}_half"
    entered = writer.host(graph.input_name, graph.prefix, graph.channels_last)
    writer.node("Cast", [entered], names[graph.input_name], to=_FLOAT16)
    for node in graph.nodes:
        inputs = [names[name] for name in node.inputs]
        if isinstance(node, Weighted):
            _layer(writer, node, inputs[0], names[node.name])
        else:
            writer.operator(node, inputs, names[node.name], graph.shapes[node.inputs[0]])
    writer.node("Cast", [names[wanted]], wanted, to=_FLOAT32)
    source = graph.input_name, file_shape(graph.input_shape, graph.channels_last)
    writer.save(path, graph.name, source, (wanted, graph.shapes[wanted]))


_FLOAT32, _FLOAT16 = 1, 10
"""Element types of ONNX."""


def _layer(writer: OnnxWriter, node: Weighted, source: str, output: str) -> None:
    weights = writer.constant(f"{node.name}_weight", as_stored(node, node.weights).astype(np.float16))
    bias = writer.constant(f"{node.name}_bias", node.bias.astype(np.float16))
    if node.function == NONE:
        writer.linear(node, [source, weights, bias], output)
    else:
        writer.function(node.function, writer.linear(node, [source, weights, bias], f"{node.name}_linear"), output)
