"""The networks that rounding is measured on: scikit-learn's digits; an MLP, a residual and a depthwise one, in torch.

1,797 grey images of 8x8 pixels in ten classes (Alpaydin and Kaynak 1998), six tenths to train with and
four to test with. This module is torch by nature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.operators import Window
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import NONE, RELU, AveragePool, Convolution, Function, Linear, Node, Reshape, Sum

Tensor = Any  # torch carries no types that a strict checker is shown here

SHAPE = (1, 8, 8)
"""Channels, height and width of an image."""

EPOCHS = 60
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class Digits:
    """Images [n, 1, 8, 8] float32 in [0, 1] and labels [n] int64."""

    train_images: NDArray[np.float32]
    test_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def load_digits() -> Digits:
    """The data, split the same way at every call: 1,078 to train and 719 to test, classes in equal shares."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    data = load()
    images = (data.images / 16.0).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    return Digits(*train_test_split(images, labels, test_size=0.4, random_state=0, stratify=labels))


class Mlp(torch.nn.Module):  # type: ignore[misc]
    """64-32-32-10 with ReLU: the size of a policy; 3,466 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(64, 32)
        self.second = torch.nn.Linear(32, 32)
        self.last = torch.nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 8, 8] to logits [n, 10]."""
        hidden = torch.relu(self.first(torch.flatten(x, 1)))
        return self.last(torch.relu(self.second(hidden)))


class Block(torch.nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions with batch normalization, and a shortcut around them (He et al. 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels_out, stride)
        self.first_norm = torch.nn.BatchNorm2d(channels_out)
        self.second = _convolution(channels_out, channels_out, 1)
        self.second_norm = torch.nn.BatchNorm2d(channels_out)
        reshapes = stride != 1 or channels_in != channels_out
        self.shortcut = torch.nn.Conv2d(channels_in, channels_out, 1, stride) if reshapes else torch.nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels_in, h, w] to [n, channels_out, h / stride, w / stride]."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class TinyResNet(torch.nn.Module):  # type: ignore[misc]
    """A stem and three residual blocks of 8, 16 and 32 channels; 19,762 parameters, 19,642 with its norms folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(1, 8, 1)
        self.stem_norm = torch.nn.BatchNorm2d(8)
        self.blocks = torch.nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.last = torch.nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 8, 8] to logits [n, 10]."""
        planes = self.blocks(torch.relu(self.stem_norm(self.stem(x))))
        return self.last(planes.mean(dim=(2, 3)))


class Separable(torch.nn.Module):  # type: ignore[misc]
    """A 3x3 convolution of each channel by itself, then a 1x1 one that mixes them (Howard et al. 2017)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.depth = _convolution(channels_in, channels_in, stride, groups=channels_in)
        self.depth_norm = torch.nn.BatchNorm2d(channels_in)
        self.point = torch.nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.point_norm = torch.nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels_in, h, w] to [n, channels_out, h / stride, w / stride]."""
        return torch.relu(self.point_norm(self.point(torch.relu(self.depth_norm(self.depth(x))))))


class TinyMobileNet(torch.nn.Module):  # type: ignore[misc]
    """A stem and four separable blocks of 16, 32, 32 and 64 channels; 5,754 parameters with its norms folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(1, 16, 1)
        self.stem_norm = torch.nn.BatchNorm2d(16)
        self.blocks = torch.nn.Sequential(
            Separable(16, 16, 1), Separable(16, 32, 2), Separable(32, 32, 1), Separable(32, 64, 2)
        )
        self.last = torch.nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 8, 8] to logits [n, 10]."""
        planes = self.blocks(torch.relu(self.stem_norm(self.stem(x))))
        return self.last(planes.mean(dim=(2, 3)))


NETWORKS: dict[str, Callable[[], Any]] = {"mlp": Mlp, "resnet": TinyResNet, "depthwise": TinyMobileNet}


def _convolution(channels_in: int, channels_out: int, stride: int, groups: int = 1) -> Any:
    return torch.nn.Conv2d(channels_in, channels_out, 3, stride, 1, groups=groups, bias=False)


def trained(kind: str, data: Digits, seed: int, epochs: int = EPOCHS) -> Any:
    """A network of ``kind`` (see :data:`NETWORKS`) trained with AdamW and its norms folded; same seed, same network."""
    *_, network = training(kind, data, seed, epochs)
    return folded(network.eval())


def training(kind: str, data: Digits, seed: int, epochs: int = EPOCHS) -> Iterator[Any]:
    """The same training, pass by pass: the network as it is before the first and behind each, one and the same object.

    It goes on with the network as it is left to it, in training mode.
    """
    torch.manual_seed(seed)
    network = NETWORKS[kind]()
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    images, labels = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
    steps = epochs * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    yield network
    for _ in range(epochs):
        network.train()
        for chosen in torch.randperm(len(images), generator=order).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
        yield network


def folded(network: Any) -> Any:
    """The network with every batch normalization folded into the convolution before it, in place."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, torch.nn.BatchNorm2d):
                before = name.removesuffix("_norm")
                setattr(parent, before, _fold(getattr(parent, before), norm))
                setattr(parent, name, torch.nn.Identity())
    return network


def _fold(layer: Any, norm: Any) -> Any:
    """A convolution with a bias that computes ``norm(layer(x))``."""
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    whole = torch.nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, groups=layer.groups
    )
    assert whole.bias is not None
    with torch.no_grad():
        whole.weight.copy_(layer.weight * gain[:, None, None, None])
        whole.bias.copy_(norm.bias - norm.running_mean * gain)
    return whole.eval()


def graph_of(network: Any) -> FloatGraph:
    """A folded network as a float graph, image in and logits out."""
    if isinstance(network, Mlp):
        return _mlp_graph(network)
    return _resnet_graph(network) if isinstance(network, TinyResNet) else _depthwise_graph(network)


def _mlp_graph(network: Any) -> FloatGraph:
    nodes = (
        Reshape(name="flat", inputs=("image",), target=(64,)),
        _linear_node("first", "flat", network.first, RELU),
        _linear_node("second", "first", network.second, RELU),
        _linear_node("logits", "second", network.last, NONE),
    )
    return _graph("digits-mlp", nodes)


def _resnet_graph(network: Any) -> FloatGraph:
    nodes: list[Node] = [_convolution_node("stem", "image", network.stem, RELU)]
    source = "stem"
    for index, block in enumerate(network.blocks):
        name = f"block{index}"
        nodes.append(_convolution_node(f"{name}.first", source, block.first, RELU))
        nodes.append(_convolution_node(f"{name}.second", f"{name}.first", block.second, NONE))
        shortcut = source
        if isinstance(block.shortcut, torch.nn.Conv2d):
            shortcut = f"{name}.shortcut"
            nodes.append(_convolution_node(shortcut, source, block.shortcut, NONE))
        nodes.append(Sum(name=name, inputs=(f"{name}.second", shortcut), signs=(1, 1), function=RELU))
        source = name
    return _graph("digits-resnet", (*nodes, *_pooled(source, network.last)))


def _depthwise_graph(network: Any) -> FloatGraph:
    nodes: list[Node] = [_convolution_node("stem", "image", network.stem, RELU)]
    for index, block in enumerate(network.blocks):
        nodes.append(_convolution_node(f"depth{index}", nodes[-1].name, block.depth, RELU))
        nodes.append(_convolution_node(f"point{index}", nodes[-1].name, block.point, RELU))
    return _graph("digits-depthwise", (*nodes, *_pooled(nodes[-1].name, network.last)))


def _pooled(source: str, last: Any) -> tuple[Node, ...]:
    """The mean over an image of 2x2 pixels, and the last layer."""
    return (
        AveragePool(name="pooled", inputs=(source,), window=Window((2, 2), (2, 2))),
        Reshape(name="flat", inputs=("pooled",), target=(last.in_features,)),
        _linear_node("logits", "flat", last, NONE),
    )


def _graph(name: str, nodes: tuple[Node, ...]) -> FloatGraph:
    return FloatGraph(name, "image", SHAPE, "logits", HostPrefix.identity(SHAPE), nodes)


def _linear_node(name: str, source: str, layer: Any, function: Function) -> Linear:
    linear = f"{name}.linear" if function.name else name
    return Linear(
        name=name,
        inputs=(source,),
        linear_name=linear,
        weights=_array(layer.weight),
        bias=_array(layer.bias),
        function=function,
    )


def _convolution_node(name: str, source: str, layer: Any, function: Function) -> Convolution:
    linear = f"{name}.linear" if function.name else name
    (top, left), stride = layer.padding, tuple(layer.stride)
    return Convolution(
        name=name,
        inputs=(source,),
        linear_name=linear,
        weights=_array(layer.weight),
        bias=_array(layer.bias),
        function=function,
        window=Window(tuple(layer.kernel_size), stride, pads=(top, left, top, left)),
        groups=layer.groups,
    )


def _array(parameter: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = parameter.detach().numpy().copy()
    return array
