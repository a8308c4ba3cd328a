"""How alike two pictures are: MS-SSIM in float64, without torch, which a rig need not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float64]
"""[rows, columns, colours] of 0 to 1"""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of MS-SSIM's five scales, finest first (Wang, Simoncelli, Bovik 2003)."""

WINDOW, SIGMA = 11, 1.5
"""Pixels along a side of its Gaussian window, and its width."""

SMALLEST_SIDE = 16 * (WINDOW - 1) + 1
"""Pixels along a side from which the coarsest scale holds a window."""

SMALL = 1e-6


def ms_ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity of two pictures [rows, columns, 3], mean over the colours.

    Wang, Simoncelli, Bovik 2003: K 0.01 and 0.03, windows that lie in the picture whole; each side has
    :data:`SMALLEST_SIDE` pixels at least.
    """
    one, other = (np.asarray(picture, np.float64) / 255 for picture in (first, second))
    product = np.ones(one.shape[2])
    for scale, weight in enumerate(WEIGHTS):
        luminance, contrast = _similarity(one, other)
        last = scale == len(WEIGHTS) - 1
        means = (luminance * contrast if last else contrast).mean(axis=(0, 1))
        product *= np.maximum(means, SMALL) ** weight
        if not last:
            one, other = _halved(one), _halved(other)
    return float(product.mean())


def _similarity(first: Planes, second: Planes) -> tuple[Planes, Planes]:
    """Luminance and contrast-structure terms at each place."""
    mean_1, mean_2 = _blurred(first), _blurred(second)
    variance_1 = _blurred(first * first) - mean_1 * mean_1
    variance_2 = _blurred(second * second) - mean_2 * mean_2
    covariance = _blurred(first * second) - mean_1 * mean_2
    small_1, small_2 = 0.01**2, 0.03**2
    luminance = (2 * mean_1 * mean_2 + small_1) / (mean_1**2 + mean_2**2 + small_1)
    return luminance, (2 * covariance + small_2) / (variance_1 + variance_2 + small_2)


def _blurred(planes: Planes) -> Planes:
    """By the Gaussian window, where it lies in the picture whole."""
    from scipy.ndimage import correlate1d

    at = np.arange(WINDOW) - (WINDOW - 1) / 2
    window = np.exp(-(at**2) / (2 * SIGMA**2))
    edge = WINDOW // 2
    inside = (slice(edge, -edge), slice(edge, -edge))
    rows = correlate1d(planes, window / window.sum(), axis=0)
    return np.asarray(correlate1d(rows, window / window.sum(), axis=1)[inside], np.float64)


def _halved(planes: Planes) -> Planes:
    """Means of 2x2 pixels; of an odd side the first pixel stands alone."""
    rows, columns = (size % 2 for size in planes.shape[:2])
    even = np.pad(planes, ((rows, 0), (columns, 0), (0, 0)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
