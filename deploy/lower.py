"""Lowers a file, QDQ ONNX or TFLite, to the integer program.

Before the first QuantizeLinear the host computes. Behind it every operator stands between DequantizeLinear
and QuantizeLinear; operators that only move elements, clamp, or scale constants need none between them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.errors import UnsupportedModelError
from policyport.core.tflite_file import read_tflite
from policyport.deploy.lower_builder import OPEN, Builder, Quantization, View
from policyport.deploy.lower_host import HostPart
from policyport.deploy.lower_operators import HANDLERS, PASSED
from policyport.deploy.lower_pending import Sum, Value
from policyport.deploy.lower_state import State, clip_bounds, moved_index
from policyport.deploy.onnx_graph import SUPPORTED, Graph, attribute, read_graph
from policyport.deploy.passes import optimize
from policyport.deploy.program import HostInput, Program
from policyport.deploy.tflite_reader import translate

SHIFTS = {"int8": 0, "uint8": 128, "int16": 0, "uint16": 32768}
"""What is subtracted from an activation of each type to make it signed."""


def lower(path: Path) -> Program:
    """The integer program of a QDQ ONNX file, or of an int8 TFLite file.

    :raises ArtifactError: missing, torn, or neither of them
    :raises UnsupportedModelError: an operator, a shape or a value range that the integer semantics do not
        cover; the node and the supported set are named
    """
    return optimize(lower_as_written(path))


def lower_as_written(path: Path) -> Program:
    """The same before anything is fused, removed or reordered: a layer for each operator that computes.

    :raises ArtifactError: as :func:`lower`
    :raises UnsupportedModelError: as :func:`lower`
    """
    if path.suffix == ".tflite":
        return translate(read_tflite(path))
    return lower_with_views(path)[0]


def lower_with_views(path: Path) -> tuple[Program, dict[str, View]]:
    """The program of an ONNX file as written, and what it calls each activation that the file quantizes.

    :returns: the program; the outputs of QuantizeLinear, and of operators on integers, by their names in the file; and
        the network's output
    :raises ArtifactError: as :func:`lower`
    :raises UnsupportedModelError: as :func:`lower`
    """
    graph = read_graph(path)
    lowering = _Lowering(graph)
    for node in graph.nodes:
        lowering.take(node)
    return lowering.finish(), lowering.views()


class _Lowering:
    """The walk over the file's nodes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._state = State(graph, Builder())
        self._host = HostPart(graph.input_shape)
        self._host_values = {graph.input_name}
        self._host_input: HostInput | None = None
        self._input: View | None = None
        self._last = next((n.input[0] for n in graph.nodes if graph.output_name in n.output), "")
        self._input_name = ""
        self._emitted: dict[tuple[str, Quantization], View] = {}
        """What is quantized, by the real value's name and the grid."""

    def take(self, node: Any) -> None:
        """Lower one node."""
        operator = node.op_type
        if node.input[0] in self._host_values or (len(node.input) > 1 and node.input[1] in self._host_values):
            self._take_host(node)
        elif operator == "QuantizeLinear":
            self._state.values[node.output[0]] = self._quantized(node)
        elif operator == "DequantizeLinear":
            self._state.values[node.output[0]] = self._dequantized(node)
        elif operator in HANDLERS:
            self._state.values[node.output[0]] = HANDLERS[operator](self._state, node)
        else:
            raise self._graph.unsupported("an operator that is not supported", node)

    def _take_host(self, node: Any) -> None:
        host, graph = self._host, self._graph
        if node.op_type == "QuantizeLinear":
            self._state.values[node.output[0]] = self._first(node)
            return
        if node.op_type == "Clip":
            host.clip(*clip_bounds(graph, node))
        elif node.op_type in PASSED:
            host.index = moved_index(graph, node, host.index)
        else:
            host.arithmetic(graph, node)
        self._host_values.add(node.output[0])

    def _first(self, node: Any) -> View:
        """The program's input: what the first QuantizeLinear, and any other like it, makes of the host's part."""
        quantization = self._parameters(node, node.input[0])
        if self._input is None:
            named = self._state.builder.named(quantization)
            self._host_input, self._input = self._host.finish(self._graph, node, named)
        elif self._input.quantization(quantization.name) != quantization or self._input_name != node.input[0]:
            raise self._graph.unsupported(
                "an observation that is quantized twice", node, expected="one scale and zero point"
            )
        self._input_name = node.input[0]
        return self._input

    def _quantized(self, node: Any) -> View:
        state, name = self._state, node.input[0]
        value = state.values[name]
        # What leaves the network is called as the file calls it, not by what it is before it is quantized.
        ends = node.output[0] == self._last
        wanted = self._parameters(node, self._graph.output_name if ends else name)
        if not isinstance(value, View) and state.read_as_real(name):
            value = state.as_view(value, node)
        if not isinstance(value, View):
            key = (name, replace(wanted, name=""))
            if key not in self._emitted:
                self._emitted[key] = value.emit(state.builder, wanted, OPEN)
            return self._emitted[key]
        if value.quantization(wanted.name) == wanted:
            return value
        return Sum((value,), (1.0,), self._graph.where(node)).emit(state.builder, wanted, OPEN)

    def _dequantized(self, node: Any) -> View:
        """The same activation: a DequantizeLinear must undo the QuantizeLinear before it."""
        value = self._state.view(node, 0)
        got = self._parameters(node, value.tensor.name)
        expected = value.quantization()
        if got != expected:
            raise self._graph.unsupported(
                "a DequantizeLinear of other scale or zero point than the QuantizeLinear before it",
                node,
                expected=(expected.scale, expected.zero_point, expected.bits),
                got=(got.scale, got.zero_point, got.bits),
            )
        return value

    def _parameters(self, node: Any, name: str) -> Quantization:
        """Scale, zero point and width of a QuantizeLinear or DequantizeLinear of an activation, made signed."""
        scale = np.asarray(self._graph.array(node, 1), np.float32)
        given = self._graph.array(node, 2)
        kinds = {3: "int8", 5: "int16", 4: "uint16"}
        kind = kinds.get(attribute(node, "output_dtype", 2), "uint8") if given is None else given.dtype.name
        zero_points = np.zeros(1, np.int64) if given is None else given
        if scale.size != 1 or zero_points.size != 1 or not scale.reshape(-1)[0] > 0 or kind not in SHIFTS:
            raise self._graph.unsupported(
                "an activation quantized in a way not supported",
                node,
                expected="one positive scale; int8, uint8, or int16",
                got=f"{scale.size} scales, {kind}",
            )
        bits = 16 if kind.endswith("16") else 8
        zero_point = int(zero_points.reshape(-1)[0]) - SHIFTS[kind]
        if bits == 16 and zero_point != 0:
            raise self._graph.unsupported(
                "a 16-bit activation with a zero point",
                node,
                expected=f"symmetric: {SHIFTS[kind]}",
                got=zero_point + SHIFTS[kind],
                cure="quantize with int16 and symmetrically; onnxruntime's quantizer does with ActivationSymmetric",
            )
        return Quantization(name, float(scale.reshape(-1)[0]), zero_point, bits)

    def views(self) -> dict[str, View]:
        """What :func:`lower_with_views` yields, once :meth:`finish` is done."""
        names = [node.output[0] for node in self._graph.nodes if node.op_type == "QuantizeLinear"]
        values = self._state.values
        return {name: value for name in (*names, self._graph.output_name) if isinstance(value := values[name], View)}

    def finish(self) -> Program:
        """The program, once every node is taken."""
        graph, layers = self._graph, self._state.builder.layers
        value: Value | None = self._state.values.get(graph.output_name)
        if self._host_input is None or self._input is None or value is None:
            raise UnsupportedModelError(
                "the network ends too early",
                where=graph.path,
                expected="QuantizeLinear behind the input and behind every layer",
                cure="quantize the model first: policyport quantize MODEL.onnx",
            )
        view = self._state.as_view(value, graph.nodes[-1])
        if not layers:
            raise UnsupportedModelError("a network without layers", where=graph.path, expected=SUPPORTED)
        output, order = self._state.output(view, graph.nodes[-1])
        return Program(graph.name, self._host_input, self._input.tensor, output, tuple(layers), order)
