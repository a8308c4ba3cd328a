"""Pictures that an image encoder is judged on: held-out photographs, cut to what its firmware takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policyport.core.artifact import Artifact
from policyport.core.codec_picture import Picture
from policyport.core.similarity import SMALLEST_SIDE
from policyport.core.trained_on import held_out_photographs, read_record
from policyport.hil.codec import PICTURES_FILE

PACKAGED = "photographs that come with scikit-image and scikit-learn"


@dataclass(frozen=True)
class HeldOut:
    """What an image encoder is judged on."""

    source: str
    """Where they come from."""

    pictures: Mapping[str, Picture]
    """By name, none wider than the firmware takes."""


def held_out_pictures(deployed: Artifact, folder: Path | None, count: int) -> HeldOut:
    """Held-out pictures, each the middle of a photograph: as wide as the firmware takes, and three quarters as high.

    :param folder: of photographs; None takes those of packages, as training left them
    :param count: how many at the most
    :raises ConfigError: none there, one does not read, is too small to be judged, or was trained on
    :raises ArtifactError: the artifact has none, or does not say what was trained on
    """
    if folder is None:
        with np.load(deployed.file(PICTURES_FILE)) as stored:
            pictures, source = dict(stored), PACKAGED
    else:
        pictures = held_out_photographs(folder, read_record(deployed.path), SMALLEST_SIDE)
        source = f"photographs of {folder}"
    width = int(deployed.manifest.config["picture_width"])
    chosen = itertools.islice(pictures.items(), count)
    return HeldOut(source, {name: middle(picture, max(1, width * 3 // 4), width) for name, picture in chosen})


def middle(picture: Picture, rows: int, columns: int) -> Picture:
    """The middle of a picture, of at most that size."""
    top, left = (max(0, have - want) // 2 for have, want in zip(picture.shape[:2], (rows, columns), strict=True))
    return picture[top : top + rows, left : left + columns]
