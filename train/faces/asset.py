"""The head: one mesh, the offsets that make it another person, and the offsets that move its face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("heads.npz")
PARTS = ("skin", "left eye", "right eye", "tongue", "teeth", "lashes")  # values of Head.part
MASKS = ("lips", "eyelids", "inner mouth")  # columns of Head.masks
PEOPLES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("young", "old")
OFFSET_STEP_DM = 5e-4  # one integer step of a stored offset, in decimetres


@dataclass(frozen=True)
class Head:
    """A mesh of V vertices in decimetres (x to its left, y up, z to the front) and what moves them.

    Offsets are float32 of shape [n, V, 3] in decimetres at a weight of 1, and add up.
    """

    vertices: NDArray[np.float32]  # [V, 3], a neutral face that is nobody's
    triangles: NDArray[np.int32]  # [T, 3], counter-clockwise from outside
    part: NDArray[np.int8]  # [T], index into PARTS
    masks: NDArray[np.float32]  # [V, 3], 0 to 1, columns as MASKS
    expression_names: tuple[str, ...]
    expressions: NDArray[np.float32]
    people: NDArray[np.float32]  # [3, 2, 2, V, 3]: PEOPLES by SEXES by AGES
    axis_names: tuple[str, ...]
    axes: NDArray[np.float32]  # [n, 2, V, 3]: a trait of shape towards less and towards more

    def eye(self, side: int) -> NDArray[np.int32]:
        """The vertices of one eyeball, 0 for the head's left."""
        return np.unique(self.triangles[self.part == 1 + side])


@cache
def head() -> Head:
    """The head of this package, read once."""
    with np.load(FILE) as stored:
        offsets = {
            name: stored[name].astype(np.float32) * np.float32(OFFSET_STEP_DM)
            for name in ("expressions", "people", "axes")
        }
        return Head(
            vertices=stored["vertices"],
            triangles=stored["triangles"].astype(np.int32),
            part=stored["part"],
            masks=stored["masks"].astype(np.float32) / 255,
            expression_names=tuple(str(name) for name in stored["expression_names"]),
            axis_names=tuple(str(name) for name in stored["axis_names"]),
            **offsets,
        )
