"""Skin, brows, beard and creases, painted on the front of the face: maps over x and y of the head at rest.

Coordinates are those of the head's mesh at rest, in decimetres: x to the head's left, y up; every person is painted in
them, because vertices keep their paint when a person's shape or an expression moves them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

STEP_DM = 0.01  # side of a texel
LEFT_DM, BOTTOM_DM = -1.0, 5.75
COLUMNS, ROWS = 201, 281
CREASES = ("forehead", "glabella", "nose", "nasolabial", "chin", "crow's feet")
# The units that fold each crease, and how much of each.
FOLDED_BY: dict[str, dict[int, float]] = {
    "forehead": {1: 1.0, 2: 1.0},
    "glabella": {4: 1.0},
    "nose": {9: 1.0},
    "nasolabial": {12: 1.0, 10: 0.7, 9: 0.6},
    "chin": {17: 1.0},
    "crow's feet": {6: 1.0, 12: 0.4},
}

Image = NDArray[np.float32]


def grid() -> tuple[Image, Image]:
    """x as [1, COLUMNS] and y as [ROWS, 1] of the texels, in decimetres."""
    x = LEFT_DM + STEP_DM * np.arange(COLUMNS, dtype=np.float32)
    y = BOTTOM_DM + STEP_DM * np.arange(ROWS, dtype=np.float32)
    return x[None, :], y[:, None]


def ramp(start: float, end: float, value: Image) -> Image:
    """0 before `start`, 1 after `end`, smooth between; falls where end lies before start."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def bump(centre: float, width: float, value: Image) -> Image:
    """1 at `centre`, exp(-1) at `width` beside it."""
    return np.exp(-(((value - centre) / width) ** 2))


@cache
def creases() -> Image:
    """How much each fold darkens the skin at full strength, [len(CREASES), ROWS, COLUMNS], 0 to 1."""
    x, y = grid()
    aside = np.abs(x)
    down = (6.98 - y) / 0.53  # along the nasolabial fold, 0 at the nose's wing, 1 beside the mouth
    lines = np.clip(np.sin((y - 7.6) * 52 + 5 * aside**2), 0, 1)
    wings = np.clip(np.sin((y - 7.0) * 58 + aside * 24), 0, 1)
    cobbles = np.clip(np.sin(aside * 68 + y * 45) * np.sin(y * 78), 0, 1)
    rays = np.clip(np.sin((y - 7.27) * 70 / (0.3 + aside)), 0, 1)
    fold = bump(0, 0.03, aside - 0.17 - 0.22 * down) * ramp(0, 0.15, down) * ramp(1.05, 0.75, down)
    return np.stack(
        [
            0.24 * lines * ramp(0.55, 0.3, aside) * ramp(7.6, 7.66, y) * ramp(8.0, 7.9, y),
            0.5 * bump(0.055, 0.02, aside) * ramp(7.25, 7.35, y) * ramp(7.66, 7.52, y),
            0.36 * wings * ramp(0.2, 0.12, aside) * ramp(7.0, 7.05, y) * ramp(7.32, 7.25, y),
            0.4 * fold,
            0.3 * cobbles * ramp(0.22, 0.12, aside) * ramp(6.1, 6.15, y) * ramp(6.36, 6.3, y),
            0.32 * rays * ramp(0.5, 0.54, aside) * ramp(0.68, 0.62, aside) * ramp(7.12, 7.18, y) * ramp(7.44, 7.38, y),
        ]
    ).astype(np.float32)


@dataclass(frozen=True)
class Brows:
    """A pair of eyebrows: from `inner` to `outer` off the middle, `height` above, in decimetres; density 0 to 1."""

    inner: float
    outer: float
    height: float
    arch: float
    slope: float
    thickness: float
    density: float

    def cover(self) -> Image:
        """Share of each texel that hair covers, [ROWS, COLUMNS]."""
        x, y = grid()
        along = (np.abs(x) - self.inner) / (self.outer - self.inner)
        middle = self.height + self.arch * np.sin(2.2 * along) - self.slope * along
        half = self.thickness * (1 - 0.65 * along) * ramp(0, 0.12, along) + 1e-4
        inside = (along > 0) & (along < 1)
        return np.where(inside, self.density * np.exp(-(((y - middle) / half) ** 4)), 0).astype(np.float32)


def beard_cover(density: float) -> Image:
    """Share of each texel that beard and moustache cover, [ROWS, COLUMNS]."""
    x, y = grid()
    aside = np.abs(x)
    cheeks = ramp(6.8, 6.6, y + 0.35 * aside - 0.15) * ramp(6.0, 6.15, y)
    moustache = bump(6.76, 0.05, y) * ramp(0.34, 0.2, aside)
    return (density * np.maximum(cheeks, moustache)).astype(np.float32)


def blotches(generator: np.random.Generator, strength: float) -> Image:
    """Uneven skin: a factor around 1, [ROWS, COLUMNS], soft and fine together."""
    from scipy.ndimage import zoom

    soft = zoom(generator.normal(0, 1, (8, 6)), (ROWS / 8, COLUMNS / 6), order=1)
    fine = generator.normal(0, 0.5, (ROWS, COLUMNS))
    return (1 + strength * (soft + fine)).astype(np.float32)


def paint(skin: Image, hair: Image, brows: Brows, beard: Image, uneven: Image) -> Image:
    """The albedo of a face, [ROWS, COLUMNS, 3]: red cheeks and nose, beard, brows, unevenness."""
    x, y = grid()
    red = 0.12 * (bump(0, 0.18, np.hypot(np.abs(x) - 0.42, y - 6.9)) + 0.8 * bump(0, 0.14, np.hypot(x, y - 6.95)))
    tint = 1 + red[..., None] * np.array([0.4, -1.0, -0.8], np.float32)
    albedo = skin * tint * uneven[..., None]
    for cover in (beard, brows.cover()):
        albedo = albedo + cover[..., None] * (hair - albedo)
    return albedo.astype(np.float32)
