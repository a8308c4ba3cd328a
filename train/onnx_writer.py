"""An actor as a float32 ONNX graph.

The graph is written node by node instead of traced, so it holds nothing but the policy: no value head,
no log probabilities, no exporter's rewriting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from policyport.core.task import StateVector
from policyport.train.actor import Actor, Branch, Convolution, Function, Layer, Linear
from policyport.train.normalization import Normalization

OPSET = 18
IR_VERSION = 10


def write_actor(actor: Actor, path: Path, name: str) -> None:
    """Write an actor: input ``observation`` [N, inputs], output ``output`` [N, outputs], float32.

    :param name: name of the graph
    """
    graph = _ActorGraph()
    current = "observation" if actor.normalization is None else graph.normalize("observation", actor.normalization)
    parts = [graph.branch(current, branch, actor.size) for branch in actor.branches]
    current = parts[0] if len(parts) == 1 else graph.node("Concat", "joined", *parts, axis=1)
    for layer in actor.layers:
        current = graph.layer(current, layer)
    graph.save(path, name, actor.size, actor.outputs)


class OnnxGraph:
    """Nodes and constants under construction; each method appends and returns the name of what it yields."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.depth = 0

    def node(self, operator: str, wanted: str, *inputs: str, **attributes: Any) -> str:
        """One node, named as its result."""
        self.nodes.append(helper.make_node(operator, list(inputs), [wanted], name=wanted, **attributes))
        return wanted

    def constant(self, name: str, value: Any) -> str:
        """A constant; floats become float32, integers int64."""
        array = np.asarray(value)
        kind = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
        self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def save(self, path: Path, name: str, inputs: int, outputs: int, state: Sequence[StateVector] = ()) -> None:
        """Write the graph: ``observation`` [N, inputs] to ``output`` [N, outputs], what the last node yields.

        :param state: of a recurrent network, further inputs and outputs [N, size]
        """
        self.nodes[-1].output[0] = "output"

        def value(tensor: str, size: int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, ["N", size])

        made = helper.make_graph(
            self.nodes,
            name,
            [value("observation", inputs), *(value(vector.input, vector.size) for vector in state)],
            [value("output", outputs), *(value(vector.output, vector.size) for vector in state)],
            self.constants,
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="policyport")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))


class _ActorGraph(OnnxGraph):
    """The parts of an actor as nodes."""

    def normalize(self, source: str, by: Normalization) -> str:
        """Sub, Div and Clip of normalised observations."""
        centred = self.node("Sub", "centred", source, self.constant("normalize.mean", by.mean))
        scaled = self.node("Div", "scaled", centred, self.constant("normalize.deviation", by.deviation))
        bounds = self.constant("normalize.low", -by.limit), self.constant("normalize.high", by.limit)
        return self.node("Clip", "normalized", scaled, *bounds)

    def branch(self, source: str, branch: Branch, size: int) -> str:
        """A part of the flat observation and its own layers."""
        name = f"part{branch.start}"
        current = source
        if branch.stop - branch.start < size:
            ends = (("starts", branch.start), ("ends", branch.stop), ("axes", 1))
            given = [self.constant(f"{name}.{key}", [value]) for key, value in ends]
            current = self.node("Slice", name, current, *given)
        if branch.image:
            shape = self.constant(f"{name}.shape", [-1, *branch.image])
            current = self.node("Reshape", f"{name}.image", current, shape)
        if branch.channels_last:
            current = self.node("Transpose", f"{name}.channels_first", current, perm=[0, 3, 1, 2])
        if branch.divisor != 1.0:
            divisor = self.constant(f"{name}.divisor", branch.divisor)
            current = self.node("Div", f"{name}.unit", current, divisor)
        for layer in branch.layers:
            current = self.layer(current, layer)
        return current

    def layer(self, source: str, layer: Layer) -> str:
        """A layer; functions are named after the layer that they follow."""
        if isinstance(layer, Function):
            wanted = f"layer{self.depth}.{layer.operator.lower()}"
            bounds = zip((f"{wanted}.low", f"{wanted}.high"), layer.bounds or (), strict=False)
            return self.node(
                layer.operator, wanted, source, *(self.constant(*bound) for bound in bounds), **layer.attributes
            )
        self.depth += 1
        wanted = f"layer{self.depth}"
        given = source, self.constant(f"{wanted}.weight", layer.weight), self.constant(f"{wanted}.bias", layer.bias)
        if isinstance(layer, Linear):
            return self.node("Gemm", wanted, *given, transB=1)
        return self._convolution(wanted, given, layer)

    def _convolution(self, wanted: str, given: tuple[str, ...], layer: Convolution) -> str:
        return self.node(
            "Conv",
            wanted,
            *given,
            kernel_shape=list(layer.weight.shape[2:]),
            strides=list(layer.stride),
            pads=[*layer.padding, *layer.padding],
        )
