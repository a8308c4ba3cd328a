"""Photographs in files and folders, as an image codec is trained and judged on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ConfigError, ToolError
from policyport.core.install import pip_install

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


def read_photograph(path: Path, long_side: int = 0) -> NDArray[np.uint8]:
    """A picture as RGB, [rows, columns, 3].

    :param long_side: pixels; a longer one is made so long, by Lanczos' filter; 0 leaves every picture as it is
    :raises ConfigError: it does not read as a picture
    :raises ToolError: Pillow is not installed
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ToolError("Pillow is not installed", cure=pip_install("[codec]")) from error
    try:
        with Image.open(path) as image:
            if long_side:
                image.draft("RGB", (long_side, long_side))
            rgb = image.convert("RGB")
    except (OSError, ValueError) as error:
        raise ConfigError("a picture that does not read", where=path, got=error) from error
    share = long_side / max(rgb.size)
    if long_side and share < 1:
        rgb = rgb.resize((round(rgb.width * share), round(rgb.height * share)), Image.Resampling.LANCZOS)
    return np.array(rgb)


def photograph_paths(folder: Path) -> list[Path]:
    """Every picture below a folder, in order.

    :raises ConfigError: there is none
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ConfigError("no pictures here", where=folder, expected=f"files {', '.join(SUFFIXES)}")
    return paths
