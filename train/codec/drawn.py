"""Drawn pictures where no photographs are: leaves of all sizes over one another, textured and shaded.

Occlusion by disks whose sizes follow a power law gives the edges and the spectrum of natural pictures (Lee, Mumford,
Huang, "Occlusion Models for Natural Images", IJCV 2001).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 384
"""Pixels along a side."""

SMALLEST, LARGEST = 4.0, 160.0
"""Radii of leaves, in pixels."""

LEAVES = 600


def drawn_pictures(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """So many pictures [SIDE, SIDE, 3]."""
    return [_drawn(np.random.default_rng((seed, number))) for number in range(count)]


def _drawn(random: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    picture = np.zeros((SIDE, SIDE, 3), np.float32) + random.uniform(40, 200, 3)
    # Radii with density r^-3, the largest first so that small leaves stay visible.
    uniform = random.random(LEAVES)
    radii = np.sort((LARGEST**-2 + uniform * (SMALLEST**-2 - LARGEST**-2)) ** -0.5)[::-1]
    hue = random.normal(0, 30, 3)
    for radius in radii:
        leaf = _leaf(random, rows, columns, float(radius))
        colour = np.clip(random.normal(120, 55) + hue + random.normal(0, 25, 3), 0, 255)
        shade = _texture(random, rows[leaf], columns[leaf])
        picture[leaf] = colour + shade[:, None] * random.uniform(0.7, 1.0, 3)
    blurred = _softened(picture)
    return np.clip(blurred + random.normal(0, random.uniform(0, 2.5), picture.shape), 0, 255).astype(np.uint8)


def _leaf(
    random: np.random.Generator, rows: NDArray[np.float32], columns: NDArray[np.float32], radius: float
) -> NDArray[np.bool_]:
    """An ellipse in any direction."""
    y, x = random.uniform(-radius, SIDE + radius, 2)
    turn, flat = random.uniform(0, np.pi), random.uniform(0.3, 1.0)
    along = (rows - y) * np.cos(turn) + (columns - x) * np.sin(turn)
    across = (columns - x) * np.cos(turn) - (rows - y) * np.sin(turn)
    inside: NDArray[np.bool_] = (along / radius) ** 2 + (across / (flat * radius)) ** 2 < 1
    return inside


def _texture(
    random: np.random.Generator, rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A slope of light, and two gratings of any frequency, grey levels [n]."""
    slope = random.normal(0, 0.3, 2)
    shade = slope[0] * (rows - rows.mean()) + slope[1] * (columns - columns.mean()) if len(rows) else rows
    for _ in range(2):
        frequency = random.normal(0, 0.6, 2)
        shade = shade + random.exponential(6) * np.sin(frequency[0] * rows + frequency[1] * columns)
    return np.clip(shade, -60, 60).astype(np.float32)


def _softened(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blurred by [1 2 1] both ways, as a lens does."""
    for axis in (0, 1):
        picture = (np.roll(picture, 1, axis) + 2 * picture + np.roll(picture, -1, axis)) / 4
    return picture
