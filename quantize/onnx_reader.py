"""Reads a float32 ONNX into a :class:`FloatGraph`, or says which node it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
from policyport.quantize.graph import FloatGraph
from policyport.quantize.nodes import (
    NONE,
    AveragePool,
    Concat,
    Convolution,
    Function,
    Linear,
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
    Weighted,
    clip,
)
from policyport.quantize.onnx_file import PASSED_OVER, OnnxFile, open_onnx, per_channel
from policyport.quantize.onnx_functions import FUNCTIONS, read_function
from policyport.quantize.onnx_head import Affine, Head
from policyport.quantize.onnx_windows import joined_pads, read_margin, read_size, read_window

Reals = NDArray[np.float64]

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
"""Permutations of a Transpose between [n, channels, height, width] and [n, height, width, channels]."""


def read_onnx(path: Path) -> FloatGraph:
    """A float32 ONNX file as a graph.

    Operators by constants before everything else are the host's part; batch normalization and other
    operators by a constant for each channel go into the weights before or behind them; functions and
    margins into the operator they belong to.

    :raises ArtifactError: the file is missing, torn or no ONNX
    :raises UnsupportedModelError: the model is quantized already; or an operator, an attribute or a
        topology that is not supported: the node is named, and what is supported
    """
    file = open_onnx(path)
    builder = _Builder(file)
    for node in file.nodes:
        builder.take(node)
    return builder.finish()


@dataclass(frozen=True)
class _Value:
    """What a tensor of the file is in the graph."""

    name: str
    """The graph's tensor."""

    shape: Shape
    last: bool = False
    """Whether the file has it as [n, height, width, channels]."""

    affine: Affine | None = None
    """``x * scale + shift`` still to be done to it, by what reads it."""

    alone: bool = True
    """Whether nothing else reads the graph's tensor, so that its operator may take over what follows."""

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Shape in the file, n as 1."""
        channels, *size = self.shape
        return (1, *size, channels) if self.last else (1, *self.shape)


class _Builder:
    """Takes the file's nodes one by one."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.nodes: dict[str, Node] = {}
        last = _comes_channels_last(file)
        shape = (file.input_shape[-1], *file.input_shape[:-1]) if last else file.input_shape
        self.input_shape, self.channels_last = shape, last
        self.head = Head(shape[0])
        self.shapes = {file.input_name: shape}
        self.values = {file.input_name: _Value(file.input_name, shape, last)}

    def take(self, node: Any) -> None:
        """Append one node of the file."""
        if node.op_type == "Shape" and node.input[0] in self.values:
            start, end = self.file.attribute(node, "start", 0), self.file.attribute(node, "end")
            self.file.constants[node.output[0]] = np.array(self.values[node.input[0]].file_shape[start:end], np.int64)
            return
        if self.file.fold(node):
            return
        reader = READERS.get(node.op_type)
        if reader is None:
            raise self.file.refuse(
                node, "operator that the integer semantics do not cover", expected=SUPPORTED, got=node.op_type
            )
        self.values[node.output[0]] = reader(self, node)

    def finish(self) -> FloatGraph:
        """The graph, weights in float32, nodes that nobody reads left out."""
        if self.file.output_name not in self.values:
            raise UnsupportedModelError("the output does not depend on the input", where=self.file.path)
        output = self._plain(self.values[self.file.output_name], self.file.output_name)
        if not any(isinstance(node, Weighted) for node in self.nodes.values()):
            raise UnsupportedModelError(
                "the network has no layer", where=self.file.path, expected="a Gemm, MatMul or Conv"
            )
        renamed = {output.name: self.file.result_name}
        nodes = tuple(_finished(node, renamed) for node in self.nodes.values())
        graph = FloatGraph(
            self.file.name,
            self.file.input_name,
            self.input_shape,
            self.file.result_name,
            self.head.prefix(len(self.input_shape)),
            nodes,
            self.channels_last,
        )
        graph = graph.without_unread()
        graph.check_finite()
        return graph

    def value(self, node: Any, index: int = 0) -> _Value:
        """What a node reads, as it is; ``alone`` false where another node reads it too."""
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.values:
            raise self.file.refuse(node, "an operand that does not depend on the input", got=name or "none")
        found = self.values[name]
        return replace(found, alone=found.alone and self.file.reader_counts[name] == 1)

    def plain(self, node: Any, index: int = 0) -> _Value:
        """What a node reads, with nothing left to be done to it."""
        return self._plain(self.value(node, index), f"{node.output[0]}_operand{index}")

    def image(self, node: Any) -> _Value:
        """What a node reads, which must be an image with channels first in the file."""
        found = self.value(node)
        if len(found.shape) != 3 or found.last:
            got = found.file_shape
            raise self.file.refuse(node, "the input must be an image [n, channels, height, width]", got=got)
        return found

    def put(self, node: Node, last: bool = False) -> _Value:
        """Append an operator of the graph."""
        self.nodes[node.name] = node
        self.shapes[node.name] = node.shape(*(self.shapes[name] for name in node.inputs))
        return _Value(node.name, self.shapes[node.name], last)

    def _plain(self, value: _Value, name: str) -> _Value:
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

    def affine(self, node: Any, value: _Value, part: Affine) -> _Value:
        """``value * scale + shift``: by the host, by the layer before, or by what reads it."""
        if value.name == self.file.input_name and value.alone and value.affine is None and self.head.affine(part):
            return value
        layer = self.nodes.get(value.name)
        if isinstance(layer, Weighted) and layer.function == NONE and value.alone and value.affine is None:
            scale = part.scale.reshape(-1, *[1] * (layer.weights.ndim - 1))
            weights, bias = layer.weights * scale, layer.bias * part.scale + part.shift
            return self._become(value, replace(layer, weights=weights, bias=bias), node.output[0], linear=True)
        return replace(value, affine=part if value.affine is None else value.affine.then(part))

    def function(self, node: Any, value: _Value, function: Function) -> _Value:
        """A function of a value: by the operator before it where that can, else on its own."""
        if value.affine is not None:
            value = self._plain(value, f"{node.output[0]}_linear")
        before = self.nodes.get(value.name)
        joined = _joined(before, function) if value.alone else None
        if joined is not None and isinstance(before, (Weighted, Sum)):
            return self._become(value, replace(before, function=joined), node.output[0])
        return self.put(Pointwise(name=node.output[0], inputs=(value.name,), function=function), value.last)

    def _become(self, value: _Value, node: Node, name: str, *, linear: bool = False) -> _Value:
        """Put ``node`` in place of the value's operator, under a new name."""
        del self.nodes[value.name]
        changed = replace(node, name=name)
        if linear and isinstance(changed, Weighted):
            changed = replace(changed, linear_name=name)
        self.nodes[name] = changed
        self.shapes[name] = value.shape
        return replace(value, name=name)

    def _weighted(self, node: Any, value: _Value, layer: Weighted) -> _Value:
        """Append a layer; what was still to be done to its input goes into its weights."""
        if value.affine is not None:
            layer = replace(layer, **value.affine.folded(layer))
        return self.put(layer)

    def gemm(self, node: Any) -> _Value:
        """Gemm and MatMul."""
        value, weights = self.value(node), self.file.constant(node, 1)
        if weights is None or weights.ndim != 2 or len(value.shape) != 1 or self.file.attribute(node, "transA", 0):
            raise self.file.refuse(
                node,
                "a product that is no fully connected layer",
                expected="[n, features] times a constant matrix, without transA",
                got=f"{value.file_shape} times {None if weights is None else weights.shape}",
                cure="put a Flatten before it",
            )
        matrix = weights.astype(np.float64) * self.file.attribute(node, "alpha", 1.0)
        matrix = matrix if self.file.attribute(node, "transB", 0) else matrix.T
        if matrix.shape[1] != value.shape[0]:
            got = matrix.shape[1]
            raise self.file.refuse(node, "weights of another size", expected=f"{value.shape[0]} inputs", got=got)
        bias = self._bias(node, len(matrix)) * self.file.attribute(node, "beta", 1.0)
        name = node.output[0]
        layer = Linear(name=name, inputs=(value.name,), linear_name=name, weights=matrix, bias=bias)
        return self._weighted(node, value, layer)

    def _bias(self, node: Any, outputs: int) -> Reals:
        given = self.file.constant(node, 2)
        if given is None:
            return np.zeros(outputs)
        vector = per_channel(given, (outputs,), False)
        if vector is None:
            raise self.file.refuse(node, "a bias of another shape", expected=f"({outputs},)", got=given.shape)
        return vector

    def convolution(self, node: Any) -> _Value:
        """Conv and ConvTranspose; a margin of zeros before a Conv becomes its padding."""
        value = self.image(node)
        weights, groups = self.file.constant(node, 1), int(self.file.attribute(node, "group", 1))
        assert weights is not None
        window = read_window(self.file, node, weights.shape[2:], value.shape[1:])
        taps = weights.astype(np.float64)
        transposed = node.op_type == "ConvTranspose"
        if transposed:
            inputs, share = taps.shape[:2]
            taps = taps.reshape(groups, inputs // groups, share, *taps.shape[2:]).transpose(0, 2, 1, 3, 4)
            taps = taps.reshape(groups * share, inputs // groups, *weights.shape[2:])
        if taps.shape[1] * groups != value.shape[0]:
            raise self.file.refuse(
                node, "weights of another size", expected=f"{value.shape[0]} channels", got=taps.shape[1] * groups
            )
        margin = self.nodes.get(value.name)
        source = value.name
        if isinstance(margin, Pad) and value.alone and not transposed:
            del self.nodes[value.name]
            source = margin.inputs[0]
            window = joined_pads(window, margin.pads)
        if value.affine is not None and ((np.any(value.affine.shift) and any(window.pads)) or transposed):
            value = self._plain(value, f"{node.output[0]}_operand0")
            source = value.name
        name = node.output[0]
        common: dict[str, Any] = {
            "name": name,
            "inputs": (source,),
            "linear_name": name,
            "weights": taps,
            "bias": self._bias(node, len(taps)),
            "window": window,
            "groups": groups,
        }
        if not transposed:
            return self._weighted(node, value, Convolution(**common))
        down, across = (int(x) for x in self.file.attribute(node, "output_padding", [0, 0]))
        if self.file.attribute(node, "output_shape") is not None:
            raise self.file.refuse(node, "a result of a given size", expected="pads and output_padding")
        return self._weighted(node, value, TransposedConvolution(**common, output_padding=(down, across)))

    def normalization(self, node: Any) -> _Value:
        """BatchNormalization as it is when nothing trains."""
        value = self.value(node)
        scale, shift, mean, variance = (
            np.asarray(self.file.constant(node, i), np.float64).reshape(-1) for i in range(1, 5)
        )
        slope = scale / np.sqrt(variance + self.file.attribute(node, "epsilon", 1e-5))
        return self.affine(node, value, Affine(slope, shift - mean * slope))

    def arithmetic(self, node: Any) -> _Value:
        """Add, Sub, Mul and Div: by a constant, or of two tensors."""
        constant = [i for i, name in enumerate(node.input) if name in self.file.constants]
        if constant:
            return self._by_constant(node, constant[0])
        if node.op_type == "Mul":
            return self.product(node)
        if node.op_type == "Div":
            raise self.file.refuse(node, "division of one tensor by another")
        return self.sum(node, (1, -1) if node.op_type == "Sub" else (1,) * len(node.input))

    def _by_constant(self, node: Any, index: int) -> _Value:
        value = self.value(node, 1 - index)
        given = self.file.constants[node.input[index]]
        vector = per_channel(given, value.shape, value.last)
        if vector is None:
            got = given.shape
            raise self.file.refuse(node, "a constant that is not one for each channel", expected=value.shape, got=got)
        if node.op_type == "Div" and (index == 0 or np.any(vector == 0)):
            raise self.file.refuse(node, "division of a constant, or by zero")
        if value.name == self.file.input_name and node.op_type == "Mul" and np.any(vector == 0):
            raise self.file.refuse(node, "a feature is multiplied by zero", cure="leave that feature out")
        return self.affine(node, value, Affine.of(node.op_type, vector, reverse=index == 0))

    def sum(self, node: Any, signs: tuple[int, ...]) -> _Value:
        """The sum of tensors of one shape."""
        values = [self.plain(node, i) for i in range(len(signs))]
        if len({(value.shape, value.last) for value in values}) > 1:
            got = ", ".join(str(value.file_shape) for value in values)
            raise self.file.refuse(node, "a sum of tensors of different shape", got=got)
        total = Sum(name=node.output[0], inputs=tuple(value.name for value in values), signs=signs)
        return self.put(total, values[0].last)

    def product(self, node: Any) -> _Value:
        """The product of two tensors; of one with its own sigmoid, a function."""
        pair = [self.value(node, i) for i in range(2)]
        for x, gate in (pair, pair[::-1]):
            fused = self._gated(node, x, gate)
            if fused is not None:
                return fused
        a, b = sorted((self.plain(node, i) for i in range(2)), key=lambda value: -prod(value.shape))
        if a.last != b.last or b.shape not in (a.shape, (a.shape[0], 1, 1)):
            got = f"{a.file_shape} and {b.file_shape}"
            raise self.file.refuse(node, "a product of tensors of different shape", got=got)
        return self.put(Product(name=node.output[0], inputs=(a.name, b.name)), a.last)

    def _gated(self, node: Any, x: _Value, gate: _Value) -> _Value | None:
        """``x * Sigmoid(x)`` as Silu, ``x * HardSigmoid(x)`` as HardSwish; a scale of the gate stays to be done."""
        made = self.nodes.get(gate.name)
        if not isinstance(made, Pointwise) or made.inputs != (x.name,) or not gate.alone or x.affine is not None:
            return None
        name = {"Sigmoid": "Silu", "HardSigmoid": "HardSwish"}.get(made.function.name)
        if name is None or (gate.affine is not None and np.any(gate.affine.shift)):
            return None
        del self.nodes[gate.name]
        alone = self.file.reader_counts[x.name] == 2
        return replace(self.function(node, replace(x, alone=alone), Function(name)), affine=gate.affine)

    def pointwise(self, node: Any) -> _Value:
        """A function of one value; a clip of the observation is the host's."""
        value, function = self.value(node), read_function(self.file, node)
        if node.op_type == "Clip" and value.name == self.file.input_name and value.alone and value.affine is None:
            self.head.clip(function.low, function.high)
            return value
        if value.affine is not None and value.affine.is_shift_by_three and function == clip(0.0, 6.0):
            gate = Pointwise(name=node.output[0], inputs=(value.name,), function=Function("HardSigmoid"))
            size = value.shape[0]
            return replace(self.put(gate, value.last), affine=Affine(np.full(size, 6.0), np.zeros(size)))
        return self.function(node, value, function)

    def pool(self, node: Any) -> _Value:
        """MaxPool and AveragePool."""
        value = self._plain(self.image(node), f"{node.output[0]}_operand0")
        window = read_window(self.file, node, tuple(self.file.attribute(node, "kernel_shape")), value.shape[1:])
        name, inputs = node.output[0], (value.name,)
        if node.op_type == "MaxPool":
            return self.put(MaxPool(name=name, inputs=inputs, window=window))
        counts = bool(self.file.attribute(node, "count_include_pad", 0))
        if counts and self.file.attribute(node, "ceil_mode", 0) and any(window.pads):
            raise self.file.refuse(node, "ceil_mode with count_include_pad", expected="one of them")
        return self.put(AveragePool(name=name, inputs=inputs, window=window, count_padding=counts))

    def global_average(self, node: Any) -> _Value:
        """GlobalAveragePool, and ReduceMean over height and width."""
        value = self.plain(node)
        axes = [1, 2] if value.last else [2, 3]
        keeps = True
        if node.op_type == "ReduceMean":
            given = self.file.constant(node, 1) if self.file.opset >= 18 else self.file.attribute(node, "axes")
            keeps = bool(self.file.attribute(node, "keepdims", 1))
            if len(value.shape) != 3 or given is None or sorted(int(a) % 4 for a in given) != axes:
                raise self.file.refuse(node, "a mean over other axes", expected=f"height and width: {axes}", got=given)
        if len(value.shape) != 3:
            raise self.file.refuse(node, "the input must be an image", got=value.file_shape)
        name = node.output[0] if keeps else f"{node.output[0]}_pooled"
        window = Window((value.shape[1], value.shape[2]))
        pooled = self.put(AveragePool(name=name, inputs=(value.name,), window=window), value.last)
        return pooled if keeps else self._reshaped(node, pooled, (value.shape[0],))

    def concat(self, node: Any) -> _Value:
        """Tensors side by side along channels or features."""
        values = [self.plain(node, i) for i in range(len(node.input))]
        first = values[0]
        axis = int(self.file.attribute(node, "axis")) % (len(first.shape) + 1)
        along_channels = axis == (len(first.shape) if first.last else 1)
        if not along_channels or any(v.shape[1:] != first.shape[1:] or v.last != first.last for v in values):
            raise self.file.refuse(node, "tensors laid together along another axis", expected="channels", got=axis)
        return self.put(Concat(name=node.output[0], inputs=tuple(v.name for v in values)), first.last)

    def reshape(self, node: Any) -> _Value:
        """Flatten, Reshape, Squeeze and Unsqueeze."""
        value = self.value(node)
        target = self._target(node, value)
        if len(target) < 2 or target[0] != 1 or prod(target) != prod(value.shape) or len(target) not in (2, 4):
            raise self.file.refuse(
                node,
                "a change of shape that mixes observations",
                expected="[n, features] or [n, channels, height, width]",
                got=f"{value.file_shape} to {target}",
            )
        if target == value.file_shape:
            return value
        if value.name == self.file.input_name:
            raise self.file.refuse(
                node, "the observation changes its shape", cure="export the network with the shape it works on"
            )
        return self._reshaped(node, self._plain(value, f"{node.output[0]}_operand0"), target[1:])

    def _reshaped(self, node: Any, value: _Value, target: Shape) -> _Value:
        last = value.last and prod(value.shape[1:]) > 1
        return self.put(Reshape(name=node.output[0], inputs=(value.name,), target=target, channels_last=last))

    def _target(self, node: Any, value: _Value) -> tuple[int, ...]:
        """The new shape in the file, n as 1."""
        shape = value.file_shape
        if node.op_type == "Flatten":
            axis = int(self.file.attribute(node, "axis", 1))
            return prod(shape[:axis]), prod(shape[axis:])
        given = self.file.constant(node, 1)
        if node.op_type == "Reshape":
            assert given is not None
            dims = [shape[i] if d == 0 and i < len(shape) else int(d) for i, d in enumerate(given)]
            if len(dims) > 1 and dims[0] == -1:
                dims[0] = 1
            known = prod(d for d in dims if d != -1)
            return tuple(prod(shape) // max(1, known) if d == -1 else d for d in dims)
        axes = self.file.attribute(node, "axes") if given is None else given
        if node.op_type == "Squeeze":
            ones = [i for i in range(1, len(shape)) if shape[i] == 1]
            gone = ones if axes is None else [int(a) % len(shape) for a in axes]
            return tuple(d for i, d in enumerate(shape) if i not in gone)
        rank = len(shape) + len(axes)
        added = [int(a) % rank for a in axes]
        rest = iter(shape)
        return tuple(1 if i in added else next(rest) for i in range(rank))

    def transpose(self, node: Any) -> _Value:
        """A change between [n, channels, height, width] and [n, height, width, channels]."""
        value, order = self.value(node), list(self.file.attribute(node, "perm", []))
        if len(value.shape) != 3 or order != (TO_FIRST if value.last else TO_LAST):
            raise self.file.refuse(
                node,
                "a transposition of something other than channels",
                expected=TO_FIRST if value.last else TO_LAST,
                got=order,
            )
        return replace(value, last=not value.last)

    def pad(self, node: Any) -> _Value:
        """A margin of zeros."""
        value = self.plain(node)
        if len(value.shape) != 3:
            raise self.file.refuse(node, "a margin around something other than an image", got=value.file_shape)
        margin = read_margin(self.file, node, value.last)
        return self.put(Pad(name=node.output[0], inputs=(value.name,), pads=margin), value.last)

    def resize(self, node: Any) -> _Value:
        """Resize and Upsample to the nearest pixel."""
        value = self._plain(self.image(node), f"{node.output[0]}_operand0")
        height, width = read_size(self.file, node, (value.shape[1], value.shape[2]))
        return self.put(Resize(name=node.output[0], inputs=(value.name,), height=height, width=width))

    def softmax(self, node: Any) -> _Value:
        """Softmax over the features."""
        value = self.plain(node)
        axis = int(self.file.attribute(node, "axis", 1 if self.file.opset < 13 else -1))
        if len(value.shape) != 1 or axis not in (1, -1):
            raise self.file.refuse(node, "a softmax over something other than features", got=value.file_shape)
        return self.put(Softmax(name=node.output[0], inputs=(value.name,)))


READERS: dict[str, Callable[[_Builder, Any], _Value]] = {
    **dict.fromkeys(("Gemm", "MatMul"), _Builder.gemm),
    **dict.fromkeys(("Conv", "ConvTranspose"), _Builder.convolution),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), _Builder.arithmetic),
    **dict.fromkeys(FUNCTIONS, _Builder.pointwise),
    **dict.fromkeys(("MaxPool", "AveragePool"), _Builder.pool),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _Builder.global_average),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _Builder.reshape),
    **dict.fromkeys(("Resize", "Upsample"), _Builder.resize),
    "BatchNormalization": _Builder.normalization,
    "Concat": _Builder.concat,
    "Transpose": _Builder.transpose,
    "Pad": _Builder.pad,
    "Softmax": _Builder.softmax,
}
"""Which of the builder's methods takes an operator."""

SUPPORTED = ", ".join(sorted((*READERS, *PASSED_OVER)))


def _comes_channels_last(file: OnnxFile) -> bool:
    """Whether the file turns its image input to channels first before it computes with it."""
    name, seen = file.input_name, 0
    while len(file.input_shape) == 3 and seen <= len(file.nodes):
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
