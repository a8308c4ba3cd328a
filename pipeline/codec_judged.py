"""The photographs that an image codec is judged on: those of packages, or of a folder in their place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.similarity import SMALLEST_SIDE
from policyport.core.trained_on import fingerprints, held_out_photographs, read_record
from policyport.train.codec import photographs

Pictures = Mapping[str, NDArray[np.uint8]]
"""Name to [rows, columns, 3]."""


def judged_photographs(test_images: Path | None, codecs: Iterable[Path]) -> Pictures:
    """The photographs by name.

    :param test_images: folder of them; None takes those of packages
    :param codecs: folders of the codecs that are judged on them
    :raises ConfigError: the folder has none, one does not read, is too small for MS-SSIM, or one of the codecs was
        trained on it
    :raises ArtifactError: a codec does not say what it was trained on
    """
    if test_images is None:
        return photographs.test_photographs()
    record = dict.fromkeys(one for codec in codecs for one in read_record(codec))
    return held_out_photographs(test_images, list(record), SMALLEST_SIDE)


def require_judgeable(test_images: Path | None, images: Path | None, packages_root: Path = Path("/")) -> None:
    """Refuse a folder before anything is trained that would be judged on it.

    :param images: folder of photographs to train on; None takes the listed packages below ``packages_root``
    :raises ConfigError: as :func:`judged_photographs`
    """
    if test_images is not None:
        trained_on = fingerprints(photographs.training_paths(images, packages_root))
        held_out_photographs(test_images, trained_on, SMALLEST_SIDE)


def judged_label(test_images: Path | None, pictures: Pictures) -> str:
    """What tells files of these photographs from those of others: empty for those of packages."""
    if test_images is None:
        return ""
    hashed = hashlib.sha256()
    for name, picture in sorted(pictures.items()):
        hashed.update(f"{name} {picture.shape}".encode() + np.ascontiguousarray(picture).tobytes())
    return f"-{hashed.hexdigest()[:8]}"
