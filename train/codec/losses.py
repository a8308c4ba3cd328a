"""What a codec is trained for: distortion, the paper's compression objective and cycle loss, MS-SSIM.

Aytekin, Cricri, Hallapuro, Lainema, Aksu, Hannuksela: "A Compression Objective and a Cycle Loss for Neural Image
Compression" (CVPR workshop CLIC 2019, arXiv 1905.10371).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, finest first (Wang, Simoncelli, Bovik 2003)."""

SIGMA = 1.5
SMALL = 1e-6


def compression_objective(code: Tensor, alpha: float) -> Tensor:
    """The paper's objective of each code: ``|x| / ‖x‖ + alpha ‖x‖² / |x|``, |x| its L1 and ‖x‖ its L2 norm.

    The first term is small where few numbers are not zero, the second where those are small.

    :param code: [n, ...]
    :returns: [n]
    """
    flat = code.flatten(1)
    first = flat.abs().sum(dim=1) + SMALL
    second = (flat.square().sum(dim=1) + SMALL**2).sqrt()
    return first / second + alpha * second.square() / first


def cycle_loss(code: Tensor, again: Tensor) -> Tensor:
    """Mean squared distance between the codes of pictures and of their reconstructions, [n]."""
    return (code - again).square().flatten(1).mean(dim=1)


def ms_ssim(first: Tensor, second: Tensor, window: int = 11) -> Tensor:
    """Multi-scale structural similarity of pictures [n, 3, rows, columns] of 0 to 1, mean over colours: [n].

    Five scales, Gaussian window of ``window`` pixels, none outside the picture, K 0.01 and 0.03, as Wang et al. 2003;
    each side has more than ``16 (window - 1)`` pixels.
    """
    kernel = _gaussian(window, first)
    product = torch.ones(first.shape[:2], dtype=first.dtype)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, contrast = _similarity(first, second, kernel)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        product = product * (luminance * contrast if last else contrast).mean(dim=(2, 3)).clamp_min(SMALL) ** weight
        if not last:
            first, second = _halved(first), _halved(second)
    return product.mean(dim=1)


def _halved(picture: Tensor) -> Tensor:
    return functional.avg_pool2d(picture, 2, padding=[size % 2 for size in picture.shape[2:]], count_include_pad=False)


def _gaussian(window: int, like: Tensor) -> Tensor:
    at = torch.arange(window, dtype=like.dtype) - (window - 1) / 2
    weight = torch.exp(-at.square() / (2 * SIGMA**2))
    return (weight / weight.sum()).view(1, 1, 1, window)


def _similarity(first: Tensor, second: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure terms at each place."""
    n, channels = first.shape[:2]

    def blurred(picture: Tensor) -> Tensor:
        flat = picture.reshape(n * channels, 1, *picture.shape[2:])
        flat = functional.conv2d(functional.conv2d(flat, kernel), kernel.transpose(2, 3))
        return flat.reshape(n, channels, *flat.shape[2:])

    mean_1, mean_2 = blurred(first), blurred(second)
    variance_1 = blurred(first * first) - mean_1 * mean_1
    variance_2 = blurred(second * second) - mean_2 * mean_2
    covariance = blurred(first * second) - mean_1 * mean_2
    small_1, small_2 = 0.01**2, 0.03**2
    luminance = (2 * mean_1 * mean_2 + small_1) / (mean_1.square() + mean_2.square() + small_1)
    return luminance, (2 * covariance + small_2) / (variance_1 + variance_2 + small_2)
