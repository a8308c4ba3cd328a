"""Networks that see action units: two for boards, the paper's, and two views of a face side by side."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.train.au.relations import RelationNetwork
from torch import Tensor, nn

Backbone = Literal["plain", "depthwise", "resnet34"]
BACKBONES: tuple[Backbone, ...] = ("plain", "depthwise", "resnet34")
PLAIN = ((8, 2), (16, 2), (32, 2), (48, 1), (64, 2))  # channels and stride of each convolution, for 64 x 64 pixels
PLAIN_FEATURES = 64
DEPTHWISE = ((32, 1), (48, 2), (48, 1), (64, 2), (64, 1), (96, 2), (96, 1), (128, 1))  # after a first one of 16
RESNET34 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # channels, blocks and stride of each group


def backbone(kind: Backbone, channels: int, side: int) -> tuple[nn.Sequential, int]:
    """A network from pictures [n, channels, side, side] to features, and how many features."""
    if kind == "plain":
        return plain(channels, side)
    return depthwise(channels) if kind == "depthwise" else resnet34(channels)


def convolution(inputs: int, outputs: int, stride: int, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    """Convolution, batch normalization, rectifier."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def plain(channels: int, side: int) -> tuple[nn.Sequential, int]:
    """Five 3x3 convolutions and a dense layer, which keeps where on the face a thing is: 114,000 weights at 64x64."""
    layers: list[nn.Module] = []
    for outputs, stride in PLAIN:
        layers += convolution(channels, outputs, stride)
        channels, side = outputs, -(-side // stride)
    dense = [nn.Flatten(), nn.Linear(channels * side**2, PLAIN_FEATURES), nn.ReLU()]
    return nn.Sequential(*layers, *dense), PLAIN_FEATURES


def depthwise(channels: int) -> tuple[nn.Sequential, int]:
    """A convolution, eight depthwise separable ones and a mean over the picture: 46 thousand weights."""
    layers = convolution(channels, 16, 2)
    channels = 16
    for outputs, stride in DEPTHWISE:
        layers += convolution(channels, channels, stride, groups=channels) + convolution(channels, outputs, 1, kernel=1)
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels


class Residual(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions and a way around them (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*convolution(inputs, outputs, stride), *convolution(outputs, outputs, 1)[:-1])
        around = convolution(inputs, outputs, stride, kernel=1)[:-1]
        self.around = nn.Sequential(*around) if (inputs, stride) != (outputs, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x) + self.around(x))


def resnet34(channels: int) -> tuple[nn.Sequential, int]:
    """The paper's backbone: ResNet-34 from random weights, 512 features, any picture of 32 pixels or more."""
    layers = [*convolution(channels, 64, 2, kernel=7), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for outputs, blocks, stride in RESNET34:
        for index in range(blocks):
            layers.append(Residual(inputs, outputs, stride if index == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), inputs


class View(nn.Module):  # type: ignore[misc]
    """A backbone and its classifier, which a relation network may replace.

    The classifier's rows [w | b] are what the multi-view loss compares and what the relation network starts from.
    """

    def __init__(self, kind: Backbone, channels: int, side: int, units: int) -> None:
        super().__init__()
        self.features, size = backbone(kind, channels, side)
        self.classifier = nn.Linear(size, units)
        self.relation: RelationNetwork | None = None

    def rows(self) -> Tensor:
        """Weights and bias of each unit's classifier, [units, features + 1]."""
        if self.relation is not None:
            return self.relation()
        return torch.cat([self.classifier.weight, self.classifier.bias[:, None]], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows()
        return nn.functional.linear(self.features(x), rows[:, :-1], rows[:, -1])

    def relate(self, adjacency: NDArray[np.float32]) -> None:
        """Put a relation network in the classifier's place, started from the classifier as it is."""
        self.relation = RelationNetwork(self.rows(), adjacency).to(self.classifier.weight.device)

    def folded(self) -> nn.Sequential:
        """The same view with its relation network worked out: features and one dense layer of constants."""
        rows = self.rows().detach()
        dense = nn.Linear(rows.shape[1] - 1, rows.shape[0])
        with torch.no_grad():
            dense.weight.copy_(rows[:, :-1])
            dense.bias.copy_(rows[:, -1])
        return nn.Sequential(*self.features, dense)


class TwoViews(nn.Module):  # type: ignore[misc]
    """Two views of one face, each with features of its own; a prediction is the mean of their probabilities."""

    def __init__(self, kind: Backbone, channels: int, side: int, units: int) -> None:
        super().__init__()
        self.first = View(kind, channels, side, units)
        self.second = View(kind, channels, side, units)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.second(x)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.first.classifier.weight.device
