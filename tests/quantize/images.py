"""Float32 ONNX files of image networks, one for each way in which exporters write something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SHAPE = (3, 10, 9)
"""Channels, height and width of every case's observation."""

FILE_SHAPES = {"channels_last": (10, 9, 3), "flat_image": (270,)}
"""Of the cases whose files have it otherwise."""

OUTPUTS = 3


class Maker:
    """Nodes and random constants in the making; every method gives the name of the tensor that it yields."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def floats(self, *values) -> list[str]:
        return [self.constant(np.asarray(value, np.float32)) for value in values]

    def node(self, kind: str, *inputs: str, name: str = "", **attributes) -> str:
        name = name or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"the_{name}", **attributes))
        return name

    def conv(self, source: str, inputs: int, outputs: int, kernel=(3, 3), group: int = 1, **attributes) -> str:
        taps = self.rng.normal(
            0, 1 / np.sqrt(inputs // group * kernel[0] * kernel[1]), (outputs, inputs // group, *kernel)
        )
        weights, bias = self.floats(taps, self.rng.normal(0, 0.2, outputs))
        return self.node("Conv", source, weights, bias, group=group, **attributes)

    def transposed(self, source: str, inputs: int, outputs: int, kernel=(3, 3), group: int = 1, **attributes) -> str:
        taps = self.rng.normal(0, 1 / np.sqrt(inputs // group * 2), (inputs, outputs // group, *kernel))
        weights, bias = self.floats(taps, self.rng.normal(0, 0.2, outputs))
        return self.node("ConvTranspose", source, weights, bias, group=group, **attributes)

    def normalized(self, source: str, channels: int) -> str:
        draw = self.rng.uniform
        parts = self.floats(*(draw(a, b, channels) for a, b in ((0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.5, 2))))
        return self.node("BatchNormalization", source, *parts)

    def head(self, source: str, inputs: int, name: str = "output") -> str:
        matrix = self.rng.normal(0, 1 / np.sqrt(inputs), (inputs, OUTPUTS))
        weights, bias = self.floats(matrix, self.rng.normal(0, 0.2, OUTPUTS))
        return self.node("Gemm", source, weights, bias, name=name)

    def pooled_head(self, source: str, channels: int) -> None:
        self.head(self.node("Flatten", self.node("GlobalAveragePool", source)), channels)


def residual(make: Maker) -> None:
    x = make.node("Div", "observation", *make.floats(2.0))
    x = make.node("Relu", make.normalized(make.conv(x, 3, 6, pads=[1, 1, 1, 1]), 6))
    y = make.node("Relu", make.conv(x, 6, 8, strides=[2, 2], pads=[1, 1, 1, 1]))
    y = make.conv(y, 8, 8, pads=[1, 1, 1, 1])
    z = make.conv(x, 6, 8, (1, 1), strides=[2, 2])
    y = make.node("Relu", make.node("Add", y, z))
    make.head(make.node("Flatten", make.node("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2])), 8 * 2 * 2)


def separable(make: Maker) -> None:
    low, high = make.floats(0.0, 6.0)
    x = make.node("Clip", make.conv("observation", 3, 8, auto_pad="SAME_UPPER", strides=[2, 2]), low, high)
    x = make.node("HardSwish", make.conv(x, 8, 8, group=8, pads=[1, 0, 2, 1]))
    x = make.node("Relu", make.conv(x, 8, 12, (1, 1), group=2))
    x = make.conv(x, 12, 4, (2, 2), group=4, dilations=[2, 1])
    axes = make.constant(np.array([2, 3], np.int64))
    make.head(make.node("ReduceMean", x, axes, keepdims=0), 4)


def excited(make: Maker) -> None:
    x = make.node("Relu", make.conv("observation", 3, 8))
    s = make.node("Relu", make.conv(make.node("GlobalAveragePool", x), 8, 4, (1, 1)))
    s = make.node("HardSigmoid", make.conv(s, 4, 8, (1, 1)), alpha=1 / 6, beta=0.5)
    make.pooled_head(make.node("Mul", s, x), 8)


def decoder(make: Maker) -> None:
    x = make.node("Tanh", make.conv("observation", 3, 6, strides=[2, 2]))
    y = make.transposed(x, 6, 4, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0])
    y = make.node("Mul", y, make.node("Sigmoid", y))
    y = make.transposed(y, 4, 4, (2, 3), group=2, dilations=[1, 2])
    margin = make.constant(np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64))
    y = make.conv(make.node("Pad", y, margin), 4, 2)
    make.pooled_head(make.node("LeakyRelu", y), 2)


def joined(make: Maker) -> None:
    """A concatenation of what shares a scale with what cannot, a change of size, normalization before a function."""
    x = make.node("Relu", make.conv("observation", 3, 4, pads=[1, 1, 1, 1]))
    small = make.conv(make.node("MaxPool", x, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1), 4, 5, (1, 1))
    (scales,) = make.floats([1, 1, 2, 2.25])
    modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    large = make.node("Resize", small, "", scales, **modes)
    y = make.node("Concat", x, large, make.node("Tanh", x), axis=1)
    y = make.node("Relu", make.normalized(y, 13))
    y = make.node("AveragePool", y, kernel_shape=[3, 3], pads=[1, 1, 0, 0], count_include_pad=0)
    y = make.node("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    x = make.node("Sub", make.conv(y, 13, 3, (1, 1)), make.conv(y, 13, 3, (1, 1)))
    x = make.node("Flatten", make.node("Elu", make.node("GlobalAveragePool", x)))
    make.node("Softmax", make.head(x, 3, "logits"), name="output")


def channels_last(make: Maker) -> None:
    """As tf2onnx writes what TensorFlow has: images turned on the way in, turned back before they are flattened."""
    x = make.node("Sub", "observation", *make.floats([0.5, 0.25, -0.5]))
    x = make.node("Transpose", x, perm=[0, 3, 1, 2])
    x = make.node("Relu", make.conv(x, 3, 5, auto_pad="SAME_LOWER", strides=[2, 2]))
    x = make.node("Transpose", x, perm=[0, 2, 3, 1])
    x = make.node("Add", x, *make.floats([0.1, 0.2, 0.3, 0.4, 0.5]))
    shape = make.constant(np.array([-1, 5 * 5 * 5], np.int64))
    make.head(make.node("Reshape", x, shape), 5 * 5 * 5)


def computed_shape(make: Maker) -> None:
    """As torch exports ``x.view(x.size(0), -1)``."""
    x = make.node("Relu", make.conv("observation", 3, 4, strides=[3, 3]))
    first = make.node("Gather", make.node("Shape", x), make.constant(np.array(0, np.int64)), axis=0)
    zero = make.constant(np.array([0], np.int64))
    shape = make.node("Concat", make.node("Unsqueeze", first, zero), make.constant(np.array([-1], np.int64)), axis=0)
    x = make.node("Reshape", x, shape)
    grid = make.constant(np.array([-1, 4, 3, 3], np.int64))
    x = make.node("MaxPool", make.node("Reshape", x, grid), kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    make.head(make.node("Flatten", x), 4 * 3 * 3)


def flat_image(make: Maker) -> None:
    """As a policy of flattened observations takes an image."""
    x = make.node("Reshape", make.node("Mul", "observation", *make.floats(0.5)), make.constant([-1, 10, 9, 3]))
    x = make.node("Div", make.node("Transpose", x, perm=[0, 3, 1, 2]), *make.floats(2.0))
    make.pooled_head(make.node("Relu", make.conv(x, 3, 4, strides=[2, 2])), 4)


CASES: dict[str, Callable[[Maker], None]] = {
    made.__name__: made
    for made in (residual, separable, excited, decoder, joined, channels_last, computed_shape, flat_image)
}


def write(case: str, path: Path) -> Path:
    """Write the case's file."""
    make = Maker(len(case))
    CASES[case](make)
    shape = FILE_SHAPES.get(case, SHAPE)
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        make.nodes,
        case,
        [helper.make_tensor_value_info("observation", kind, ["N", *shape])],
        [helper.make_tensor_value_info("output", kind, ["N", OUTPUTS])],
        make.constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
