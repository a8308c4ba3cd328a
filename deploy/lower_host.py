"""What the host does to an observation before the first QuantizeLinear."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from policyport.core.semantics import Reals
from policyport.deploy.lower_builder import OPEN, Clamp, Index, Quantization, View, plain_view
from policyport.deploy.onnx_graph import Graph, attribute
from policyport.deploy.program import HostInput

IMAGE_BEHIND = ("Identity", "Dropout", "Cast")


class HostPart:
    """Operators in floating point, gathered into ``clip((x - offset) * gain, low, high)``.

    :param shape: the observation's, without a batch axis
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.index: Index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
        """Of the shape that the file's tensor has here: where each element lies in the observation."""

        self._shape = shape
        self._offset, self._gain = np.zeros(self.index.size), np.ones(self.index.size)
        self._low, self._high = -math.inf, math.inf

    def clip(self, low: float, high: float) -> None:
        """A Clip by constants."""
        self._low, self._high = max(self._low, low), min(self._high, high)

    def arithmetic(self, graph: Graph, node: Any) -> None:
        """A Sub, Add, Mul or Div by a constant.

        :raises UnsupportedModelError: anything else
        """
        constants = [i for i, name in enumerate(node.input) if name in graph.constants]
        reversed_ = node.op_type in ("Sub", "Div") and constants == [0]
        if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(constants) != 1 or reversed_:
            raise graph.unsupported("an operator before the first QuantizeLinear that the host does not do", node)
        value = self._in_observation(np.asarray(graph.array(node, constants[0]), np.float64))
        if value is None or self._low != -math.inf or self._high != math.inf:
            raise graph.unsupported(
                "arithmetic before the first QuantizeLinear of a shape or order not supported", node
            )
        if node.op_type == "Sub":
            self._offset = self._offset + value / self._gain
        elif node.op_type == "Add":
            self._offset = self._offset - value / self._gain
        else:
            self._gain = self._gain * value if node.op_type == "Mul" else self._gain / value

    def _in_observation(self, value: Reals) -> Reals | None:
        """A constant that broadcasts over the tensor, in the observation's order; None where it does not."""
        value = value.reshape(value.shape[1:]) if value.ndim > self.index.ndim else value
        try:
            spread = np.broadcast_to(value, self.index.shape)
        except ValueError:
            return None
        ordered = np.empty(self.index.size)
        ordered[self.index.reshape(-1)] = spread.reshape(-1)
        return ordered

    def finish(self, graph: Graph, node: Any, quantization: Quantization) -> tuple[HostInput, View]:
        """The host's part and the program's input, at the first QuantizeLinear.

        :raises UnsupportedModelError: an image whose axes are in another order than CHW or HWC
        """
        if self.index.ndim == 1:
            # A vector: the device takes it in the observation's order.
            tensor = quantization.tensor((self.index.size,), self._clamp(quantization))
            return self._host((), ""), View(tensor, self.index)
        view, shape, order = self._image(graph, node, quantization)
        return self._host(shape, order), view

    def _image(
        self, graph: Graph, node: Any, quantization: Quantization
    ) -> tuple[View, tuple[int, ...], Literal["CHW", "HWC"]]:
        turned = _turned_behind(graph, node.output[0])
        index = self.index.transpose(2, 0, 1) if turned and self.index.ndim == 3 else self.index
        if index.ndim == 3:
            channels, height, width = index.shape
            tensor = quantization.tensor((height, width, channels), self._clamp(quantization))
            everything = np.arange(index.size)
            view = plain_view(tensor)
            view = View(tensor, view.index.transpose(1, 2, 0)) if turned else view
            if np.array_equal(index.reshape(-1), everything):
                return view, (channels, height, width), "CHW"
            if np.array_equal(index.transpose(1, 2, 0).reshape(-1), everything):
                return view, (height, width, channels), "HWC"
        raise graph.unsupported(
            "an input whose axes are in an order not supported",
            node,
            expected="a vector, or an image as CHW or HWC",
            got=self.index.shape,
        )

    def _clamp(self, quantization: Quantization) -> Clamp:
        """What the Clip leaves of an int8 input; of 16 bits a part may be a state, which no Clip has seen."""
        return (self._low, self._high) if quantization.bits == 8 else OPEN

    def _host(self, shape: tuple[int, ...], order: Literal["", "CHW", "HWC"]) -> HostInput:
        offset, gain = (_compact(v.astype(np.float32), shape, order) for v in (self._offset, self._gain))
        return HostInput(offset, gain, self._low, self._high, shape, order)


def _compact(values: Any, shape: tuple[int, ...], order: str) -> Any:
    """An image's values as one per channel, where each channel has one; a vector's as they are."""
    if not order:
        return values
    image = values.reshape(shape)
    each = image[:, :1, :1] if order == "CHW" else image[:1, :1, :]
    return each if np.array_equal(np.broadcast_to(each, shape), image) else image


def _turned_behind(graph: Graph, name: str) -> bool:
    """Whether every reader behind the DequantizeLinear turns an image from HWC to CHW."""
    readers = [node for node in graph.nodes if name in node.input]
    passed = ("DequantizeLinear", *IMAGE_BEHIND)
    return bool(readers) and all(
        _turned_behind(graph, node.output[0])
        if node.op_type in passed
        else node.op_type == "Transpose" and list(attribute(node, "perm", [])) == [0, 3, 1, 2]
        for node in readers
    )
