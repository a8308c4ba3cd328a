"""Pictures that codecs are tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def picture(seed: int, side: int) -> NDArray[np.uint8]:
    """Waves of three colours."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    waves = 128 + 90 * np.sin(y[..., None] * random.uniform(0, 1, 3) + x[..., None] * random.uniform(0, 1, 3))
    return np.asarray(waves + random.normal(0, 9, (side, side, 3)), np.uint8)


def write_pictures(folder: Path, side: int = 104) -> Path:
    """A folder with two pictures in it."""
    from PIL import Image

    folder.mkdir(parents=True)
    for seed in range(2):
        Image.fromarray(picture(seed, side)).save(folder / f"{seed}.png")
    return folder
