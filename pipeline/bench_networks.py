"""The networks that ``policyport bench`` measures by itself: known shapes, weights from a seed, written as float ONNX.

How many instructions an inference takes hardly depends on the weights' values, so networks with random ones
stand for trained ones. Images are channels first, as ONNX has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

OBSERVATIONS = 128
"""Random inputs for calibration, and as many held out."""


@dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    outputs: int
    function: str = "Relu"
    """ONNX operator behind it; empty for none."""


@dataclass(frozen=True)
class Conv:
    """A convolution, padded as TensorFlow's SAME."""

    outputs: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    depthwise: bool = False
    function: str = "Relu"
    padded: bool = True
    dead: int = 0
    """Outputs whose weights are all zero, as training with ReLU leaves some."""


@dataclass(frozen=True)
class Pool:
    """Max pooling by ``size``, or the average of the whole image where ``size`` is 0."""

    size: int


@dataclass(frozen=True)
class Residual:
    """The sum of two branches, behind which a ReLU follows."""

    body: tuple[Conv, ...]
    shortcut: tuple[Conv, ...] = ()


Layer = Dense | Conv | Pool | Residual


@dataclass(frozen=True)
class Network:
    """A network by its shape."""

    id: str
    """Also the key of its recorded peers."""

    label: str
    shape: tuple[int, ...]
    """(features,) or (channels, height, width)."""

    layers: tuple[Layer, ...]
    quick: bool = False
    """Whether ``--quick`` measures it."""


def _mlp(name: str, label: str, widths: Sequence[int], function: str, quick: bool = False) -> Network:
    last = len(widths) - 2
    layers = tuple(Dense(width, function if i < last else "") for i, width in enumerate(widths[1:]))
    return Network(name, label, (widths[0],), layers, quick)


def _separable(outputs: int, stride: int = 1, dead: int = 0) -> tuple[Conv, Conv]:
    return Conv(0, stride=stride, depthwise=True), Conv(outputs, (1, 1), dead=dead)


def _block(outputs: int, stride: int = 1) -> Residual:
    """A residual block of ResNet: two 3x3 convolutions, and a 1x1 one beside them where the size changes."""
    shortcut = () if stride == 1 else (Conv(outputs, (1, 1), stride, function=""),)
    return Residual((Conv(outputs, stride=stride), Conv(outputs, function="")), shortcut)


MOBILENET = (
    *((16, 1, 0), (32, 2, 0), (32, 1, 0), (64, 2, 0), (64, 1, 0), (128, 2, 0), (128, 1, 71), (128, 1, 98)),
    *((128, 1, 109), (128, 1, 109), (128, 1, 101), (256, 2, 224), (256, 1, 234)),
)
"""Outputs, stride and dead outputs of each pair of layers in MLPerf Tiny's trained VWW, MobileNetV1 0.25."""

NETWORKS = (
    _mlp("cartpole-relu", "CartPole 4-64-64-2, ReLU", (4, 64, 64, 2), "Relu", quick=True),
    _mlp("cartpole-tanh", "CartPole 4-64-64-2, tanh", (4, 64, 64, 2), "Tanh", quick=True),
    _mlp("lunar", "LunarLander 8-64-64-4", (8, 64, 64, 4), "Relu"),
    _mlp("walker", "Walker 24-256-256-4", (24, 256, 256, 4), "Relu"),
    _mlp("fc-256", "fully connected 256x256", (256, 256), ""),
    _mlp("quarl-p1", "QuaRL P1 31-64x3-25", (31, 64, 64, 64, 25), "Relu"),
    _mlp("quarl-p2", "QuaRL P2 31-256x3-25", (31, 256, 256, 256, 25), "Relu"),
    _mlp("quarl-p3", "QuaRL P3 31-4096-512-1024-25", (31, 4096, 512, 1024, 25), "Relu"),
    Network("conv3x3", "conv 3x3, 16-16 at 32x32", (16, 32, 32), (Conv(16),)),
    Network("pointwise", "pointwise, 64-64 at 16x16", (64, 16, 16), (Conv(64, (1, 1)),)),
    Network("depthwise", "depthwise 3x3, 64 at 16x16", (64, 16, 16), (Conv(0, depthwise=True),)),
    _mlp("mlperf-ad", "MLPerf Tiny AD", (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640), "Relu"),
    Network(
        "mlperf-ic",
        "MLPerf Tiny IC, ResNet-8",
        (3, 32, 32),
        (Conv(16), _block(16), _block(32, 2), _block(64, 2), Pool(0), Dense(10, "")),
    ),
    Network(
        "mlperf-kws",
        "MLPerf Tiny KWS, DS-CNN",
        (1, 49, 10),
        (Conv(64, (10, 4), 2), *(layer for _ in range(4) for layer in _separable(64)), Pool(0), Dense(12, "")),
    ),
    Network(
        "mlperf-vww",
        "MLPerf Tiny VWW, MobileNet 0.25",
        (3, 96, 96),
        (Conv(8, stride=2), *(layer for pair in MOBILENET for layer in _separable(*pair)), Pool(0), Dense(2, "")),
    ),
    Network(
        "nature",
        "Nature CNN 84x84x4",
        (4, 84, 84),
        (
            Conv(32, (8, 8), 4, padded=False),
            Conv(64, (4, 4), 2, padded=False),
            Conv(64, padded=False),
            Dense(512),
            Dense(6, ""),
        ),
    ),
    Network(
        "au-cnn",
        "AU CNN 48x48",
        (1, 48, 48),
        (Conv(16), Pool(2), Conv(32), Pool(2), Conv(64), Pool(2), Dense(64), Dense(12, "")),
    ),
)


def write_network(network: Network, folder: Path) -> Path:
    """Write a network with random weights, its task and observations; the ONNX file's path.

    :param folder: made where it is missing
    """
    from policyport.core.task import Environment, Task

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    path = folder / "policy.onnx"
    outputs = _Writer(generator).write(network, path)
    inputs = int(np.prod(network.shape))
    seen, held_out = generator.normal(size=(2, OBSERVATIONS, inputs)).astype(np.float32)
    np.savez(folder / "observations.npz", observations=seen, held_out=held_out)
    bound = (10.0,) * inputs
    low = tuple(-value for value in bound)
    Task("policy", network.id, Environment("CartPole-v1"), inputs, low, bound, outputs, "argmax").write(
        folder / "task.json"
    )
    return path


class _Writer:
    """Builds the ONNX graph node by node."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._shape: tuple[int, ...] = ()

    def write(self, network: Network, path: Path) -> int:
        """Write the file.

        :returns: size of the output
        """
        import onnx
        from onnx import helper

        self._shape = network.shape
        current = "observation"
        for layer in network.layers:
            current = self._add(layer, current)
        self._nodes[-1].output[0] = "output"
        size = int(np.prod(self._shape))
        ends = [("observation", network.shape), ("output", self._shape)]
        values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape]) for name, shape in ends]
        graph = helper.make_graph(self._nodes, network.id, values[:1], values[1:], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 10
        onnx.save(model, str(path))
        return size

    def _add(self, layer: Layer, current: str) -> str:
        if isinstance(layer, Dense):
            return self._dense(layer, current)
        if isinstance(layer, Conv):
            return self._conv(layer, current)
        if isinstance(layer, Pool):
            return self._pool(layer, current)
        return self._residual(layer, current)

    def _dense(self, layer: Dense, current: str) -> str:
        if len(self._shape) > 1:
            current = self._node("Flatten", [current])
        inputs = int(np.prod(self._shape))
        weight = self._constant((layer.outputs, inputs), inputs)
        current = self._node("Gemm", [current, weight, self._bias(layer.outputs)], transB=1)
        self._shape = (layer.outputs,)
        return self._node(layer.function, [current]) if layer.function else current

    def _conv(self, layer: Conv, current: str) -> str:
        channels, *size = self._shape
        outputs = channels if layer.depthwise else layer.outputs
        per_group = 1 if layer.depthwise else channels
        shape = (outputs, per_group, *layer.kernel)
        dead = self._generator.permutation(outputs)[: layer.dead].tolist()
        weight = self._constant(shape, per_group * int(np.prod(layer.kernel)), dead)
        pads = [_same(n, k, layer.stride) if layer.padded else (0, 0) for n, k in zip(size, layer.kernel, strict=True)]
        current = self._node(
            "Conv",
            [current, weight, self._bias(outputs, dead)],
            kernel_shape=layer.kernel,
            strides=[layer.stride] * 2,
            pads=[pad[side] for side in (0, 1) for pad in pads],
            group=channels if layer.depthwise else 1,
        )
        places = zip(size, layer.kernel, pads, strict=True)
        self._shape = (outputs, *((n + sum(pad) - k) // layer.stride + 1 for n, k, pad in places))
        return self._node(layer.function, [current]) if layer.function else current

    def _pool(self, layer: Pool, current: str) -> str:
        if layer.size == 0:
            self._shape = (self._shape[0], 1, 1)
            return self._node("GlobalAveragePool", [current])
        self._shape = (self._shape[0], *(n // layer.size for n in self._shape[1:]))
        return self._node("MaxPool", [current], kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)

    def _residual(self, layer: Residual, current: str) -> str:
        entry, shape = current, self._shape
        for convolution in layer.body:
            current = self._conv(convolution, current)
        other, self._shape = entry, shape
        for convolution in layer.shortcut:
            other = self._conv(convolution, other)
        return self._node("Relu", [self._node("Add", [current, other])])

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def _constant(self, shape: tuple[int, ...], fan_in: int, dead: list[int] | None = None) -> str:
        """Weights that keep the spread of what they multiply, the Kaiming way for ReLU.

        :param dead: rows of zeros
        """
        weights = self._generator.normal(size=shape) * np.sqrt(2 / fan_in)
        weights[dead or []] = 0
        return self._initializer(weights)

    def _bias(self, size: int, dead: list[int] | None = None) -> str:
        """:param dead: outputs that stay below zero"""
        values = 0.1 * self._generator.normal(size=size)
        values[dead or []] *= -np.sign(values[dead or []])
        return self._initializer(values)

    def _initializer(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pads of TensorFlow's SAME: the smaller one first."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
