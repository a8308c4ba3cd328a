"""Pictures with labels of action units, and who is on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.train.faces.dataset import Faces
from policyport.train.faces.units import UNITS

GREY = (0.299, 0.587, 0.114)  # luma of red, green, blue (ITU-R BT.601)


@dataclass(frozen=True)
class LabelledFaces:
    """n aligned pictures: uint8 [n, channels, side, side]; labels [n, units] of 1, 0, -1 unknown; a subject each."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int8]
    subjects: NDArray[np.int32]
    units: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def observations(self) -> NDArray[np.float32]:
        """The pictures as a network is given them: pixels [n, channels * side * side]."""
        return self.images.reshape(len(self), -1).astype(np.float32)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> LabelledFaces:
        """The chosen pictures, by mask or index."""
        return LabelledFaces(self.images[chosen], self.labels[chosen], self.subjects[chosen], self.units)

    def unlabelled(self) -> LabelledFaces:
        """The same pictures with every label unknown."""
        return LabelledFaces(self.images, np.full_like(self.labels, -1), self.subjects, self.units)

    def split(self, *shares: float, seed: int) -> list[LabelledFaces]:
        """Parts whose subjects differ: each has its share of the subjects, and one more part has the rest."""
        subjects = np.random.default_rng(seed).permutation(np.unique(self.subjects))
        cuts = np.rint(np.cumsum(shares) * len(subjects)).astype(int)
        return [self.take(np.isin(self.subjects, part)) for part in np.split(subjects, cuts)]


def joined(first: LabelledFaces, second: LabelledFaces) -> LabelledFaces:
    """Both sets one after the other; subjects of the second are others than those of the first."""
    aside = second.subjects + (int(first.subjects.max()) + 1 if len(first) else 0)
    return LabelledFaces(
        np.concatenate([first.images, second.images]),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.subjects, aside]),
        first.units,
    )


def grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [..., 3] to luma [...]."""
    return np.rint(images @ np.array(GREY, np.float32)).astype(np.uint8)


def rendered(made: Faces, units: tuple[int, ...], *, colour: bool = False) -> LabelledFaces:
    """Rendered faces as labelled pictures, grey unless colour is asked for."""
    images = made.images.transpose(0, 3, 1, 2) if colour else grey(made.images)[:, None]
    columns = [UNITS.index(unit) for unit in units]
    return LabelledFaces(np.ascontiguousarray(images), made.present[:, columns].astype(np.int8), made.person, units)
