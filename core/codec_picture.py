"""Pictures as an image codec takes and gives them: whole blocks of three colours, grey ones with all three alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from policyport.core.codec_model import BLOCK, BLOCK_VALUES

Picture = NDArray[np.uint8]
"""[rows, columns, 3], or [rows, columns] where it is grey."""


def coloured(picture: Picture) -> NDArray[np.uint8]:
    """[rows, columns, 3]."""
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def whole_blocks(picture: Picture) -> NDArray[np.uint8]:
    """In three colours, its last row and column repeated until both sides are multiples of a block's."""
    rows, columns = (-size % BLOCK for size in picture.shape[:2])
    return np.pad(coloured(picture), ((0, rows), (0, columns), (0, 0)), mode="edge")


def blocks_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture's whole blocks, [n, 192], each pixel by pixel with its three colours, as an encoder reads them."""
    rows, columns = (size // BLOCK for size in picture.shape[:2])
    whole = picture[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, 3)
    return whole.transpose(0, 2, 1, 3, 4).reshape(rows * columns, BLOCK_VALUES)


def shown(values: NDArray[np.float32], height: int, width: int, grey: bool) -> Picture:
    """What a decoder gives, [3, rows, columns] of about 0 to 255, as a picture of that size."""
    planes = values[:, :height, :width]
    if grey:
        planes = planes.mean(axis=0)
    pixels = np.clip(np.floor(planes + np.float32(0.5)), 0, 255).astype(np.uint8)
    return pixels if grey else np.ascontiguousarray(pixels.transpose(1, 2, 0))
