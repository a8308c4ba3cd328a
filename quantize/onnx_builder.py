"""A graph in the making from an ONNX file: what each tensor of the file is, and what operators take over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
from policyport.quantize.affine import Affine
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import (
    NONE,
    Concat,
    Convolution,
    Function,
    Linear,
    Node,
    Pointwise,
    Shape,
    Slice,
    Sum,
    Weighted,
    clip,
)
from policyport.quantize.onnx_file import OnnxFile
from policyport.quantize.onnx_head import Head

Reals = NDArray[np.float64]

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
"""Permutations of a Transpose between [n, channels, height, width] and [n, height, width, channels]."""


@dataclass(frozen=True)
class Value:
    """What a tensor of the file is in the graph."""

    name: str
    """The graph's tensor."""

    shape: Shape
    last: bool = False
    """Whether the file has it as [n, height, width, channels]."""

    affine: Affine | None = None
    """``x * scale + shift`` still to be done to it, by what reads it."""

    part: tuple[int, int] | None = None
    """Which features of the graph's tensor it is; None for all."""

    alone: bool = True
    """Whether nothing else reads the graph's tensor, so that its operator may take over what follows."""

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Shape in the file, n as 1."""
        channels, *size = self.shape
        return (1, *size, channels) if self.last else (1, *self.shape)


class Builder:
    """The graph so far, and for each tensor of the file its :class:`Value`."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.nodes: dict[str, Node] = {}
        self.values: dict[str, Value] = {}
        self.shapes: dict[str, Shape] = {}
        self.head = Head(file.input_shape[0])
        if file.state:
            self._enter_recurrent()
        else:
            self.values[file.input_name] = self.enter(file.input_name, file.input_shape)

    def enter(self, tensor: str, file_shape: Shape) -> Value:
        """The observation as the network takes it: the file's tensor of that shape, without n."""
        last = self.turns(tensor, file_shape)
        shape = (file_shape[-1], *file_shape[:-1]) if last else file_shape
        self.input_shape, self.channels_last = shape, last
        self.head = self.head.for_channels(shape[0])
        self.shapes[self.file.input_name] = shape
        return Value(self.file.input_name, shape, last)

    def turns(self, tensor: str, file_shape: Shape) -> bool:
        """Whether the file turns its tensor, an image of that shape without n, to channels first."""
        return len(file_shape) == 3 and _is_turned(self.file, tensor)

    def _enter_recurrent(self) -> None:
        """One vector as input: the observation, then the state."""
        sizes = {self.file.input_name: self.file.input_shape[0]}
        sizes |= {vector.input: vector.size for vector in self.file.state}
        start = 0
        for name, size in sizes.items():
            part = (start, start + size)
            self.values[name] = Value(self.file.input_name, (size,), part=part, alone=name == self.file.input_name)
            start += size
        self.input_shape, self.channels_last = (start,), False
        self.head = self.head.for_channels(start)
        self.shapes[self.file.input_name] = (start,)

    def finish(self) -> FloatGraph:
        """The graph, weights in float32, nodes that nobody reads left out."""
        names = (self.file.output_name, *(vector.output for vector in self.file.state))
        if any(name not in self.values for name in names):
            raise UnsupportedModelError("the output does not depend on the input", where=self.file.path)
        ends = [self.apart(self.settled(self.values[name], f"{name}_settled"), f"{name}_part") for name in names]
        if self.file.state:
            inputs = tuple(end.name for end in ends)
            output = self.put(Concat(name=f"{self.file.result_name}_and_state", inputs=inputs))
            renamed, result = {}, output.name
        else:
            output, result = ends[0], self.file.result_name
            renamed = {output.name: result}
        if not any(isinstance(node, Weighted) for node in self.nodes.values()):
            raise UnsupportedModelError(
                "the network has no layer", where=self.file.path, expected="a Gemm, MatMul or Conv"
            )
        nodes = tuple(_finished(node, renamed) for node in self.nodes.values())
        graph = FloatGraph(
            self.file.name,
            self.file.input_name,
            self.input_shape,
            result,
            self.head.prefix(len(self.input_shape)),
            nodes,
            self.channels_last,
            state_size=sum(vector.size for vector in self.file.state),
        )
        graph = graph.without_unread()
        graph.check_finite()
        return graph

    def value(self, node: Any, index: int = 0) -> Value:
        """What a node reads, as it is; ``alone`` false where another node reads it too."""
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.values:
            raise self.file.refuse(node, "an operand that does not depend on the input", got=name or "none")
        found = self.values[name]
        return replace(found, alone=found.alone and self.file.reader_counts[name] == 1)

    def plain(self, node: Any, index: int = 0) -> Value:
        """What a node reads, with nothing left to be done to it."""
        return self.settled(self.whole(node, index), f"{node.output[0]}_operand{index}")

    def whole(self, node: Any, index: int = 0) -> Value:
        """What a node reads; a part of a vector as a tensor of its own."""
        found = self.value(node, index)
        if found.part is None:
            return found
        return self.apart(self.settled(found, f"{node.output[0]}_operand{index}"), f"{node.output[0]}_part{index}")

    def apart(self, value: Value, name: str) -> Value:
        """The value as a tensor of its own, where it is a part of one."""
        if value.part is None:
            return value
        start, stop = value.part
        made = Slice(name=name, inputs=(value.name,), start=start, stop=stop)
        same = (x for x in self.nodes.values() if isinstance(x, Slice) and replace(x, name=name) == made)
        known = next(same, None)
        part = self.put(made) if known is None else Value(known.name, value.shape)
        return replace(part, alone=False)

    def observed(self, node: Any, index: int = 0) -> Value:
        """What a node reads; of a recurrent network the observation may be a part of the input."""
        found = self.value(node, index)
        whole = found.part is None or bool(self.file.state)
        at_head = whole and found.name == self.file.input_name and found.affine is None
        return found if at_head else self.whole(node, index)

    def dense(self, name: str, value: Value, matrix: Reals, bias: Reals, function: Function = NONE) -> Value:
        """Append a fully connected layer; one that reads a part of a vector has no weights for the rest of it."""
        value = self.settled(value, f"{name}_operand")
        if value.part is not None:
            whole = np.zeros((len(matrix), self.shapes[value.name][0]))
            whole[:, slice(*value.part)] = matrix
            matrix = whole
        linear = name if function == NONE else f"{name}_linear"
        layer = Linear(
            name=name, inputs=(value.name,), linear_name=linear, weights=matrix, bias=bias, function=function
        )
        return self.put(layer)

    def image(self, node: Any) -> Value:
        """What a node reads, which must be an image with channels first in the file."""
        found = self.whole(node)
        if len(found.shape) != 3 or found.last:
            got = found.file_shape
            raise self.file.refuse(node, "the input must be an image [n, channels, height, width]", got=got)
        return found

    def put(self, node: Node, last: bool = False) -> Value:
        """Append an operator of the graph."""
        self.nodes[node.name] = node
        self.shapes[node.name] = node.shape(*(self.shapes[name] for name in node.inputs))
        return Value(node.name, self.shapes[node.name], last)

    def settled(self, value: Value, name: str) -> Value:
        """The value with its affine part done by an operator of its own: a layer without crosstalk."""
        if value.affine is None:
            return value
        scale, shift = value.affine.scale, value.affine.shift
        if len(value.shape) == 1:
            layer: Node = Linear(
                name=name,
                inputs=(value.name,),
                linear_name=name,
                weights=np.diag(scale),
                bias=shift,
            )
        else:
            layer = Convolution(
                name=name,
                inputs=(value.name,),
                linear_name=name,
                weights=scale.reshape(-1, 1, 1, 1),
                bias=shift,
                window=Window((1, 1)),
                groups=len(scale),
            )
        return self.put(layer, value.last)

    def affine(self, node: Any, value: Value, part: Affine) -> Value:
        """``value * scale + shift``: by the host, by the layer before, or by what reads it."""
        if value.name == self.file.input_name and value.alone and value.affine is None:
            if self.head.affine(part if value.part is None else part.among(self.shapes[value.name][0], value.part)):
                return value
            value = self.apart(value, f"{node.output[0]}_part")
        layer = self.nodes.get(value.name)
        if isinstance(layer, Weighted) and layer.function == NONE and value.alone and value.affine is None:
            scale = part.scale.reshape(-1, *[1] * (layer.weights.ndim - 1))
            weights, bias = layer.weights * scale, layer.bias * part.scale + part.shift
            return self._become(value, replace(layer, weights=weights, bias=bias), node.output[0], linear=True)
        return replace(value, affine=part if value.affine is None else value.affine.then(part))

    def function(self, node: Any, value: Value, function: Function) -> Value:
        """A function of a value: by the operator before it where that can, else on its own."""
        if value.affine is not None:
            value = self.settled(value, f"{node.output[0]}_linear")
        before = self.nodes.get(value.name)
        joined = _joined(before, function) if value.alone else None
        if joined is not None and isinstance(before, (Weighted, Sum)):
            return self._become(value, replace(before, function=joined), node.output[0])
        return self.put(Pointwise(name=node.output[0], inputs=(value.name,), function=function), value.last)

    def _become(self, value: Value, node: Node, name: str, *, linear: bool = False) -> Value:
        """Put ``node`` in place of the value's operator, under a new name."""
        del self.nodes[value.name]
        changed = replace(node, name=name)
        if linear and isinstance(changed, Weighted):
            changed = replace(changed, linear_name=name)
        self.nodes[name] = changed
        self.shapes[name] = value.shape
        return replace(value, name=name)

    def layer(self, node: Any, value: Value, layer: Weighted) -> Value:
        """Append a layer; what was still to be done to its input goes into its weights."""
        if value.affine is not None:
            layer = replace(layer, **value.affine.folded(layer))
        return self.put(layer)


def _is_turned(file: OnnxFile, name: str) -> bool:
    """Whether the file turns an image to channels first before it computes with it."""
    seen = 0
    while seen <= len(file.nodes):
        seen += 1
        node = next((node for node in file.nodes if name in node.input), None)
        if node is None or node.op_type not in ("Add", "Sub", "Mul", "Div", "Clip", "Transpose"):
            return False
        if node.op_type == "Transpose":
            return list(file.attribute(node, "perm", [])) == TO_FIRST
        name = node.output[0]
    return False


def _joined(before: Node | None, function: Function) -> Function | None:
    """The function that an operator has when another follows it; None where it cannot take it."""
    if isinstance(before, Weighted) and before.function == NONE:
        return function
    if isinstance(before, (Weighted, Sum)) and function.clamps:
        if before.function == NONE:
            return function
        if before.function.clamps:
            return clip(max(before.function.low, function.low), min(before.function.high, function.high))
    return None


def _finished(node: Node, renamed: dict[str, str]) -> Node:
    """The node with float32 weights and final tensor names."""
    inputs = tuple(renamed.get(name, name) for name in node.inputs)
    node = replace(node, name=renamed.get(node.name, node.name), inputs=inputs)
    if isinstance(node, Weighted):
        linear = renamed.get(node.linear_name, node.linear_name) if node.function == NONE else node.linear_name
        weights, bias = node.weights.astype(np.float32), node.bias.astype(np.float32)
        node = replace(node, weights=weights, bias=bias, linear_name=linear)
    return node
