"""What the lowering knows at a node: the file's constants, the values so far, the program in the making."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.operators import Window
from policyport.deploy.layers import Tensor
from policyport.deploy.lower_builder import Builder, Clamp, Index, View
from policyport.deploy.lower_pending import Value, settle
from policyport.deploy.onnx_graph import Graph, QuantizedConstant, attribute, fewest_bits
from policyport.deploy.weight_grid import found_grid

READ_AS_REAL = ("Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax")
"""Operators that take integers, if they are not of an activation and a constant."""


@dataclass
class State:
    """The values that the nodes so far have yielded, by their names in the file."""

    graph: Graph
    builder: Builder
    values: dict[str, Value] = field(default_factory=dict)
    left_real: set[str] = field(default_factory=set)
    """Activations that the file has in float."""

    def constant(self, node: Any, index: int) -> bool:
        """Whether an input of a node is known beforehand."""
        return node.input[index] in self.graph.constants

    def value(self, node: Any, index: int) -> Value:
        """A computed input of a node.

        :raises UnsupportedModelError: it is constant, or of the host's part
        """
        name = node.input[index]
        if name not in self.values:
            raise self.graph.unsupported(f"an operand {name!r} that is no activation", node, expected="an activation")
        return self.values[name]

    def view(self, node: Any, index: int) -> View:
        """An input as integers: see :meth:`as_view`."""
        return self.as_view(self.value(node, index), node)

    def quantized(self, node: Any, index: int) -> View:
        """An input that the file quantizes itself, as a layer with weights needs it.

        :raises UnsupportedModelError: it does not
        """
        value = self.value(node, index)
        if isinstance(value, View) and value.tensor.name not in self.left_real:
            return value
        raise self.graph.unsupported(
            "a layer with weights whose input is not quantized",
            node,
            expected="QuantizeLinear and DequantizeLinear before every layer with weights",
            cure="quantize the activations too",
        )

    def as_view(self, value: Value, node: Any) -> View:
        """The value as integers: the file's, or where it leaves a value in float, 16 bits that hold all it can be."""
        if isinstance(value, View):
            return value
        names = [name for name, each in self.values.items() if each is value]
        view = settle(value, self.builder, names[0] if names else f"{node.output[0]}/operand")
        self.left_real.add(view.tensor.name)
        self.values.update(dict.fromkeys(names, view))
        return view

    def read_as_real(self, name: str) -> bool:
        """Whether an operator reads a value without a QuantizeLinear before it, beside those that fold into it."""
        return any(
            name in node.input and not any(other in self.graph.constants for other in node.input)
            for node in self.graph.nodes
            if node.op_type in READ_AS_REAL
        )

    def weights(self, node: Any, index: int, axis: int) -> QuantizedConstant:
        """A quantized constant of at most 8 bits; float32 that lies on such a grid is one.

        :param axis: of the outputs
        :raises UnsupportedModelError: it is none
        """
        given = self.graph.constants.get(node.input[index])
        if isinstance(given, np.ndarray) and given.dtype.kind == "f" and given.ndim > axis:
            found = found_grid(given, axis)
            if found is not None:
                return QuantizedConstant(found[0], fewest_bits(found[0]), found[1], axis)
        if not isinstance(given, QuantizedConstant) or given.bits > 8:
            raise self.graph.unsupported(
                "weights that are not quantized",
                node,
                expected="at most 8 bits behind a DequantizeLinear, or float32 on a grid of at most 8 bits per output",
                cure="quantize the model first: policyport quantize MODEL.onnx",
            )
        return given

    def output(self, view: View, node: Any) -> tuple[Tensor, Literal["", "CHW", "HWC"]]:
        """The program's output, and the order that the file has an image in."""
        everything = np.arange(view.index.size)
        if np.array_equal(view.index.reshape(-1), everything):
            return view.tensor, "HWC" if len(view.tensor.shape) == 3 else ""
        if len(view.shape) == 3:
            return self.builder.channels_last(view, self.graph.where(node)), "CHW"
        return self.builder.flat(view, self.graph.where(node)), ""


def clip_bounds(graph: Graph, node: Any) -> Clamp:
    """Bounds of a Clip; infinite where there is none.

    :raises UnsupportedModelError: they are not constant
    """
    low, high = (graph.array(node, i) for i in (1, 2))
    legacy = float(attribute(node, "min", -math.inf)), float(attribute(node, "max", math.inf))
    return (
        legacy[0] if low is None else float(np.reshape(low, -1)[0]),
        legacy[1] if high is None else float(np.reshape(high, -1)[0]),
    )


def moved_index(graph: Graph, node: Any, index: Index) -> Index:
    """The index array behind an operator that moves no data: a change of shape, a transposition, a no-op.

    :raises UnsupportedModelError: it moves the batch axis
    """
    operator = node.op_type
    if operator == "Transpose":
        order = list(attribute(node, "perm", list(range(index.ndim + 1))[::-1]))
        if order[0] != 0:
            raise graph.unsupported("a Transpose of the batch axis", node, expected="axis 0 first", got=order)
        return index.transpose([axis - 1 for axis in order[1:]])
    if operator == "Flatten":
        if attribute(node, "axis", 1) != 1:
            raise graph.unsupported("a Flatten of another axis", node, expected=1, got=attribute(node, "axis", 1))
        return index.reshape(-1)
    if operator == "Reshape":
        return index.reshape(_shape(graph, node, index))
    if operator in ("Squeeze", "Unsqueeze"):
        return _squeezed(graph, node, index)
    return index


def _shape(graph: Graph, node: Any, index: Index) -> tuple[int, ...]:
    """The shape that a Reshape gives, without the batch axis."""
    given = [int(n) for n in np.asarray(graph.array(node, 1)).reshape(-1)]
    behind = [index.shape[i] if n == 0 and i < index.ndim else n for i, n in enumerate(given[1:])]
    known = math.prod(n for n in behind if n != -1)
    if behind.count(-1) == 1 and index.size % known == 0:
        behind[behind.index(-1)] = index.size // known
    if given[0] not in (-1, 0, 1) or not behind or min(behind) < 1 or math.prod(behind) != index.size:
        raise graph.unsupported(
            "a Reshape that does not keep the batch axis",
            node,
            expected=f"the batch axis, then {index.size} elements",
            got=given,
        )
    return tuple(behind)


def _squeezed(graph: Graph, node: Any, index: Index) -> Index:
    axes = axes_of(graph, node, index.ndim + (1 if node.op_type == "Squeeze" else 0))
    if node.op_type == "Squeeze":
        axes = axes or [axis + 1 for axis, n in enumerate(index.shape) if n == 1]
        return np.squeeze(index, tuple(axis - 1 for axis in axes))
    dimensions = index.ndim + 1 + len(axes)
    return np.expand_dims(index, tuple(axis % dimensions - 1 for axis in axes))


def axes_of(graph: Graph, node: Any, dimensions: int) -> list[int]:
    """The axes that a node names, by attribute or by input, the batch axis being 0; empty for all."""
    given: NDArray[Any] | None = graph.array(node, 1)
    axes = attribute(node, "axes", []) if given is None else given.reshape(-1).tolist()
    if node.op_type != "Unsqueeze":
        axes = [int(axis) % dimensions for axis in axes]
    if 0 in axes:
        raise graph.unsupported("an operator on the batch axis", node, got=list(axes))
    return [int(axis) for axis in axes]


def node_window(graph: Graph, node: Any, kernel: tuple[int, int], size: tuple[int, int]) -> Window:
    """The window of a Conv, ConvTranspose or pool.

    :param kernel: rows and columns
    :param size: rows and columns of the image
    :raises UnsupportedModelError: padding that the file does not state
    """
    lines = len(attribute(node, "kernel_shape", kernel)) == 1 or len(attribute(node, "strides", (1, 1))) == 1

    def pair(name: str) -> tuple[int, int]:
        given = attribute(node, name, [1, 1])
        return (1, int(given[0])) if len(given) == 1 else (int(given[0]), int(given[1]))

    stride, dilation = pair("strides"), pair("dilations")
    pads = [int(n) for n in attribute(node, "pads", [0, 0, 0, 0])]
    pads = [0, pads[0], 0, pads[1]] if lines and len(pads) == 2 else pads
    auto = attribute(node, "auto_pad", b"NOTSET").decode()
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(kernel, stride, dilation, size, auto == "SAME_UPPER")
    elif auto not in ("NOTSET", "VALID"):
        raise graph.unsupported("padding of a kind not supported", node, got=auto)
    return Window(kernel, stride, dilation, (pads[0], pads[1], pads[2], pads[3]))


def _same_pads(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], size: tuple[int, int], upper: bool
) -> list[int]:
    """Padding for which the result has the image's size over the stride, rounded up; the odd one behind or before."""
    extra = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    less = [n // 2 if upper else n - n // 2 for n in extra]
    return [*less, extra[0] - less[0], extra[1] - less[1]]
