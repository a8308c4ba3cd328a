"""MCUCoder's networks (Hojjat, Haberer, Landsiedel: NeurIPS 2024 workshop, arXiv 2411.19442), to train beside ours.

Written from what the paper and the repository ds-kiel/MCUCoder (MIT, commit f3ffb5d, ``mcucoder/model.py``) state:
three convolutions to 12 channels at an eighth of the size; a decoder of transposed convolutions with residual
bottlenecks and attention between them; training to MS-SSIM with the last channels, so many at random, set to 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from policyport.core.codec_model import BLOCK
from policyport.train.codec.networks import upsampling_network
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 12
"""Of its code, the important ones first."""

FEATURES = 16
"""Of its first two layers."""

PUBLISHED_WIDTH = 196
"""Channels of its decoder as published."""

DecoderName = Literal["own", "ours"]


class McuEncoder(nn.Module):  # type: ignore[misc]
    """Pictures of 0 to 1, [n, 3, rows, columns], to codes [n, CHANNELS, rows / 8, columns / 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, FEATURES, 7, stride=2, padding=3)
        self.second = nn.Conv2d(FEATURES, FEATURES, 5, stride=4, padding=1)
        self.third = nn.Conv2d(FEATURES, CHANNELS, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """The code."""
        seen = functional.relu(self.second(functional.relu(self.first(picture))))
        code: Tensor = self.third(seen)
        return code

    @property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates."""
        inner = self.second.weight.numel() + self.third.weight.numel()
        return self.first.weight.numel() / 2**2 + inner / BLOCK**2


class Bottleneck(nn.Module):  # type: ignore[misc]
    """A 3x3 convolution between two of 1x1 that halve and restore the channels, and what goes in beside them."""

    def __init__(self, channels: int, rectified: bool) -> None:
        super().__init__()
        half = channels // 2
        self.rectified = rectified
        self.body = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """As many channels as come in."""
        both: Tensor = x + self.body(x)
        return functional.relu(both) if self.rectified else both


class Attention(nn.Module):  # type: ignore[misc]
    """Residual units, weighed place by place by others' sigmoid, beside what goes in (Cheng et al., CVPR 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(Bottleneck(channels, True) for _ in range(3)))
        self.mask = nn.Sequential(*(Bottleneck(channels, True) for _ in range(3)), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """As many channels as come in."""
        weighed: Tensor = x + self.trunk(x) * torch.sigmoid(self.mask(x))
        return weighed


def own_decoder(width: int) -> nn.Sequential:
    """Its decoder from [n, CHANNELS, rows, columns] to [n, 3, 8 rows, 8 columns], before the sigmoid.

    :param width: channels; :data:`PUBLISHED_WIDTH` is what it has
    """

    def thrice() -> list[nn.Module]:
        return [Bottleneck(width, False) for _ in range(3)]

    quarter = [*thrice(), Attention(width), *thrice(), Attention(width), *thrice()]
    half = [Attention(width), *thrice(), Attention(width), *thrice(), Attention(width), *thrice()]
    ends = _doubled(CHANNELS, width), _doubled(width, width), _doubled(width, 3)
    return nn.Sequential(Attention(CHANNELS), ends[0], *quarter, ends[1], *half, ends[2])


def _doubled(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Twice the rows and columns."""
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


class McuCodec(nn.Module):  # type: ignore[misc]
    """Its encoder, and a decoder: of its own kind, or of ours."""

    def __init__(self, decoder: DecoderName, width: int) -> None:
        super().__init__()
        self.encoder = McuEncoder()
        self.decoder = own_decoder(width) if decoder == "own" else upsampling_network(CHANNELS, width)

    def decode(self, code: Tensor) -> Tensor:
        """Pictures of 0 to 1 of codes; channels that are missing are 0."""
        return torch.sigmoid(self.decoder(code))

    def forward(self, picture: Tensor, kept: int = CHANNELS) -> Tensor:
        """Pictures of 0 to 1 by way of their first ``kept`` channels."""
        present = (torch.arange(CHANNELS) < kept).float().view(1, -1, 1, 1)
        return self.decode(self.encoder(picture) * present)
