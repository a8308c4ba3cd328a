"""Batches for training: mirrored, shifted, lighter or darker, sharper or flatter; and as a network takes them."""

from __future__ import annotations

import torch
from torch import Tensor

CENTRE, SPAN = 128.0, 64.0  # a pixel p enters a network as (p - 128) / 64: no statistic of the picture is needed
SHIFT = 3  # pixels, of 64


def network_input(images: Tensor) -> Tensor:
    """uint8 [n, channels, side, side] to float32 in [-2, 2)."""
    return (images.float() - CENTRE) / SPAN


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """One variant of each picture of a batch, as :func:`network_input` has them, each drawn for itself.

    :param images: uint8 [n, channels, side, side]
    """
    n, _, side, _ = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((n, 1, 1, 1), generator=generator)

    reach = max(1, SHIFT * side // 64)
    shifts = torch.randint(-reach, reach + 1, (2, n, 1), generator=generator)
    mirrored = torch.rand((n, 1), generator=generator) < 0.5
    place = torch.arange(side)
    rows = (place + shifts[0]).clamp(0, side - 1)
    columns = (place + shifts[1]).clamp(0, side - 1)
    columns = torch.where(mirrored, side - 1 - columns, columns)
    moved = images[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    x = network_input(moved)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * uniform(0.7, 1.4) + mean + uniform(-0.5, 0.5)).clamp(-2, 2)
