"""The encoders of 8x8 blocks, the decoder, and the estimate of bits that they are trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.codec_model import BLOCK, LARGEST, PIXEL_SPAN, PREDICTED
from policyport.core.semantics import weight_range
from torch import Tensor, nn
from torch.nn import functional

BRANCH_CHANNELS = 32
BRANCH_SIDE = 4
"""Of the hybrid's convolution, pixels along a side and from one place to the next."""

AUTOENCODER_CHANNELS = (24, 32)
"""Behind each of the autoencoder's convolutions of stride 2 but the last."""

ROUNDING = 0.40
"""Of codes without a prediction: from this part of a step on, a magnitude is rounded up."""

Grid = tuple[Tensor, Tensor]
"""Weights [outputs, inputs, rows, columns] in units of a scale, and the scales [outputs]."""

EncoderName = Literal["linear", "hybrid", "autoencoder"]


class FakeWeights(nn.Module):  # type: ignore[misc]
    """Weights as integers of so many bits, a learned scale for each output.

    Float weights are kept in units of the scale, so that a scale that moves leaves the integers as they are.
    Gradients pass the rounding where it does not saturate.

    :param scale: [outputs], positive, to start from
    """

    def __init__(self, bits: int, scale: Tensor) -> None:
        super().__init__()
        self.low, self.high = weight_range(bits)
        self.logarithm = nn.Parameter(scale.log())

    @property
    def scale(self) -> Tensor:
        """[outputs]"""
        return self.logarithm.exp()

    def forward(self, parts: Tensor) -> Tensor:
        """The weights that integers stand for.

        :param parts: [outputs, ...] in units of the scale
        """
        inside = parts.clamp(self.low, self.high)
        integers = inside + (inside.round() - inside).detach()
        return integers * self.scale.view(-1, *[1] * (parts.dim() - 1))


def _clear_bias(layer: nn.Conv2d | nn.ConvTranspose2d, value: float = 0.0) -> None:
    assert layer.bias is not None
    nn.init.constant_(layer.bias, value)


def _branch(kind: EncoderName, channels: int) -> nn.Sequential:
    """The non-linear part of an encoder, from blocks to ``channels`` numbers each; of a linear one it has no layers."""
    if kind == "linear":
        return nn.Sequential()
    if kind == "hybrid":
        side = BLOCK // BRANCH_SIDE
        convolution = nn.Conv2d(3, BRANCH_CHANNELS, BRANCH_SIDE, BRANCH_SIDE)
        branch = nn.Sequential(convolution, nn.ReLU(), nn.Conv2d(BRANCH_CHANNELS, channels, side, side))
    else:
        narrow, wide = AUTOENCODER_CHANNELS
        branch = nn.Sequential(
            nn.Conv2d(3, narrow, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 2, 2),
        )
    last = branch[-1]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        last.weight.mul_(0.5)
        _clear_bias(last)
    return branch


class Encoder(nn.Module):  # type: ignore[misc]
    """Pictures (less 128, over 64) [n, 3, rows, columns] to codes [n, channels, rows / 8, columns / 8] in grey levels.

    A linear transform, and what a branch of convolutions adds to it. No block sees another, so an image goes through in
    strips of 8 rows: where a kernel of the branch reaches beyond its block, it sees 0.
    """

    def __init__(self, kind: EncoderName, basis: NDArray[np.float64]) -> None:
        super().__init__()
        channels = len(basis)
        self.kind = kind
        self.linear = nn.Conv2d(3, channels, BLOCK, BLOCK)
        kernel = basis.reshape(channels, BLOCK, BLOCK, 3).transpose(0, 3, 1, 2) * PIXEL_SPAN
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            _clear_bias(self.linear)
        self.branch = _branch(kind, channels)

    @property
    def weighted(self) -> dict[str, nn.Conv2d]:
        """Its layers with weights, by name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, nn.Conv2d)}

    def quantize(self, bits: int, grids: Mapping[str, Grid]) -> None:
        """Let the weights be integers of so many bits from now on, and learn their scales with them.

        :param grids: name of each of :attr:`weighted` to where it starts
        """
        for name, module in self.weighted.items():
            parts, scale = grids[name]
            with torch.no_grad():
                module.weight.copy_(parts)
            nn.utils.parametrize.register_parametrization(module, "weight", FakeWeights(bits, scale), unsafe=True)

    @property
    def scales(self) -> dict[str, Tensor]:
        """Name of each of :attr:`weighted` to the scales of its integers, where it has them."""
        return {
            name: part.scale.detach()
            for name, module in self.weighted.items()
            for part in module.modules()
            if isinstance(part, FakeWeights)
        }

    def forward(self, picture: Tensor) -> Tensor:
        """The code."""
        code: Tensor = self.linear(picture)
        return code + self._bent(picture) if len(self.branch) else code

    def _bent(self, picture: Tensor) -> Tensor:
        if self.kind == "hybrid":
            return torch.as_tensor(self.branch(picture))
        n, colours, rows, columns = picture.shape
        shape = n, colours, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK
        blocks = picture.reshape(shape).permute(0, 2, 4, 1, 3, 5).reshape(-1, colours, BLOCK, BLOCK)
        code = self.branch(blocks).reshape(n, rows // BLOCK, columns // BLOCK, -1)
        return torch.as_tensor(code.permute(0, 3, 1, 2))

    @property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates, those with the 0 around a block among them."""
        total, side = self.linear.weight.numel(), BLOCK
        for module in self.branch:
            if isinstance(module, nn.Conv2d):
                side //= module.stride[0]
                total += side**2 * module.weight.numel()
        return total / BLOCK**2


class Residual(nn.Module):  # type: ignore[misc]
    """Two convolutions, and what goes in beside them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """As many channels as come in."""
        changed: Tensor = self.second(functional.leaky_relu(self.first(x), 0.1))
        return x + changed


def upsampling_network(channels: int, width: int) -> nn.Sequential:
    """Convolutions from [n, channels, rows, columns] to [n, 3, 8 rows, 8 columns], near 0 before it is trained.

    :param width: channels of its first layers; those at twice and four times the size are fewer
    """
    wide, middle, narrow = width, width * 2 // 3, width // 3
    network = nn.Sequential(
        nn.Conv2d(channels, wide, 3, padding=1),
        Residual(wide),
        Residual(wide),
        nn.Conv2d(wide, 4 * middle, 3, padding=1),
        nn.PixelShuffle(2),
        Residual(middle),
        nn.Conv2d(middle, 4 * narrow, 3, padding=1),
        nn.PixelShuffle(2),
        Residual(narrow),
        nn.Conv2d(narrow, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )
    last = network[-2]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        last.weight.mul_(0.05)
        _clear_bias(last)
    return network


class Decoder(nn.Module):  # type: ignore[misc]
    """Codes in grey levels to pictures of 0 to 255: the transform back, and what a network adds to it.

    The network sees each channel over its deviation, and the logarithm of the quantizer step.
    """

    def __init__(self, basis: NDArray[np.float64], deviation: NDArray[np.float64], width: int) -> None:
        super().__init__()
        channels = len(basis)
        self.base = nn.ConvTranspose2d(channels, 3, BLOCK, BLOCK)
        with torch.no_grad():
            kernel = basis.reshape(channels, BLOCK, BLOCK, 3).transpose(0, 3, 1, 2)
            self.base.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            _clear_bias(self.base, 128.0)
        self.gain: Tensor
        self.register_buffer("gain", torch.from_numpy(1 / (deviation + 8)).float().view(1, -1, 1, 1))
        self.network = upsampling_network(channels + 1, width)

    def forward(self, code: Tensor, step: Tensor) -> Tensor:
        """The pictures, not clipped.

        :param code: [n, channels, rows, columns]
        :param step: [n, 1, 1, 1] in grey levels
        """
        plane = (torch.log2(step) / 4 - 1).expand(len(code), 1, *code.shape[2:])
        seen = torch.cat([code * self.gain, plane], dim=1)
        picture: Tensor = self.base(code) + 32 * self.network(seen)
        return picture


class BitEstimate(nn.Module):  # type: ignore[misc]
    """Bits of codes as the range coder will spend them: a Laplace whose width follows the neighbours' magnitudes.

    The scale of a number is a positive sum over the magnitudes to the left, above and beside those, and of the
    channels before it at the same place, as the coder's contexts are; the first channels are predicted from their
    neighbours.
    """

    def __init__(self, deviation: NDArray[np.float64]) -> None:
        super().__init__()
        channels = len(deviation)
        floor = torch.from_numpy(np.log(np.expm1(np.maximum(deviation / 8, 0.5)))).float()
        self.floor = nn.Parameter(floor)
        self.around = nn.Parameter(torch.full((channels, 4), -2.0))
        self.before = nn.Parameter(torch.full((channels, channels), -6.0))

    def forward(self, code: Tensor, step: Tensor) -> Tensor:
        """Bits of each number, as code [n, channels, rows, columns] with noise of a step in it.

        :param step: [n, 1, 1, 1] in grey levels
        """
        left, above, both, _ = _neighbours(code)
        predicted = code[:, :PREDICTED] - (left + above - both)[:, :PREDICTED]
        value = torch.cat([predicted, code[:, PREDICTED:]], dim=1)
        sizes = _neighbours(value.abs())
        weights = functional.softplus(self.around)
        scale = sum(weight.view(1, -1, 1, 1) * size for weight, size in zip(weights.T, sizes, strict=True))
        before = torch.tril(functional.softplus(self.before), diagonal=-1)
        scale = scale + functional.conv2d(value.abs(), before[:, :, None, None])
        scale = scale + functional.softplus(self.floor).view(1, -1, 1, 1) + 0.05 * step
        return _laplace_bits(value, scale, step)


def _neighbours(code: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, above, above left, above right; zero outside."""
    padded = functional.pad(code, (1, 1, 1, 0))
    rows, columns = code.shape[2:]
    left = padded[:, :, 1:, :columns]
    above = padded[:, :, :rows, 1 : columns + 1]
    return left, above, padded[:, :, :rows, :columns], padded[:, :, :rows, 2:]


def _laplace_bits(value: Tensor, scale: Tensor, step: Tensor) -> Tensor:
    """Bits of the step around a value, under a Laplace distribution of that mean magnitude."""
    far, half = value.abs() / scale, step / (2 * scale)
    outside = far - half - torch.log((1 - torch.exp(-2 * half)) / 2 + 1e-9)
    inside = -torch.log(1 - torch.exp(-half) * torch.cosh(torch.minimum(far, half)) + 1e-9)
    return torch.where(far > half, outside, inside) / math.log(2)


def rounded(code: Tensor, step: Tensor) -> Tensor:
    """Codes as the bitstream holds them, in grey levels, gradients passed through."""
    parts = code / step
    down = parts.sign() * torch.floor(parts.abs() + ROUNDING)
    integers = torch.cat([parts[:, :PREDICTED].round(), down[:, PREDICTED:]], dim=1).clamp(-LARGEST, LARGEST)
    return code + (integers * step - code).detach()
