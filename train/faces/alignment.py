"""Aligned faces: eyes and mouth where every network here expects them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Where an aligned crop has its landmarks, as shares of its side (column, row): left eye, right eye, mouth. The eye that
# is the head's left is on the picture's right.
LANDMARKS = np.array([[0.655, 0.38], [0.345, 0.38], [0.5, 0.745]])


def similarity(points: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The scaling, turn and shift that bring `points` nearest to `targets` in least squares.

    :param points: and `targets`: [n, 2]
    :return: [2, 3], a matrix and a shift
    Source: Umeyama 1991, in two dimensions, where it is a linear problem in complex numbers.
    """
    source, target = points[:, 0] + 1j * points[:, 1], targets[:, 0] + 1j * targets[:, 1]
    centred = source - source.mean()
    turn = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred)
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def aligned(picture: NDArray[np.uint8], landmarks: NDArray[np.floating[Any]], side: int) -> NDArray[np.uint8]:
    """The face of a picture, turned, scaled and cut out so that its landmarks lie where LANDMARKS says.

    :param picture: [height, width, 3] RGB
    :param landmarks: [3, 2], column and row in pixels of the head's left eye, right eye and mouth
    :return: [side, side, 3]; what lies outside of the picture is black
    """
    from PIL import Image

    fine = side * max(1, int(np.ceil(_extent(landmarks) / side)))  # drawn no smaller than it is, then reduced
    back = similarity(LANDMARKS * float(fine), landmarks)
    image = Image.fromarray(picture).transform(
        (fine, fine), Image.Transform.AFFINE, tuple(back.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(image.reduce(fine // side), np.uint8)


def _extent(landmarks: NDArray[np.floating[Any]]) -> float:
    """Pixels along a side of the square that an aligned face takes in its picture."""
    back = similarity(LANDMARKS, landmarks)
    return float(np.hypot(back[0, 0], back[1, 0]))
