"""Photographs as labelled faces: each face found, aligned and kept, so that a folder is looked through once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.cache import cache_folder
from policyport.core.errors import ArtifactError
from policyport.core.progress import each
from policyport.train.au.data import LabelledFaces, grey
from policyport.train.au.formats.listing import Listing, Sample, pictures
from policyport.train.faces.alignment import aligned
from policyport.train.faces.finder import FaceFinder

log = logging.getLogger(__name__)

SHARD = 256
"""Pictures of one cached file: what an interruption may lose."""


def unlabelled(folder: Path) -> Listing:
    """Every picture below a folder, nothing known of it, each a subject of its own.

    :raises ArtifactError: there is none
    """
    samples = [Sample(path, str(path), {}) for path in pictures(folder)] if folder.is_dir() else []
    return Listing(samples).checked(folder, "a folder with pictures")


def photographs(listing: Listing, units: tuple[int, ...], side: int, *, colour: bool) -> LabelledFaces:
    """The listed pictures as aligned faces; one where no face is found, or that does not read, is counted and left out.

    Of several faces the one in the middle is taken, as data sets frame the face that they label.

    :raises ArtifactError: no face in any picture
    :raises ToolError: the package that finds faces is not installed
    """
    skipped, samples = Counter(listing.skipped), listing.samples
    shards = [samples[start : start + SHARD] for start in range(0, len(samples), SHARD)]
    crops = np.concatenate([_crops(shard, side) for shard in each("align faces", shards)])
    found = crops.any(axis=(1, 2, 3))
    skipped["picture without a face, or that does not read"] += int((~found).sum())
    for reason, count in skipped.items():
        if count:
            log.warning("%d times %s: left out", count, reason)
    if not found.any():
        raise ArtifactError("no face in any picture", where=samples[0].picture.parent, got=f"{len(samples)} pictures")
    kept = [sample for sample, there in zip(samples, found, strict=True) if there]
    names = {name: index for index, name in enumerate(dict.fromkeys(sample.subject for sample in kept))}
    images = crops[found].transpose(0, 3, 1, 2) if colour else grey(crops[found])[:, None]
    labels = [[int(sample.present.get(unit, -1)) for unit in units] for sample in kept]
    subjects = np.array([names[sample.subject] for sample in kept], np.int32)
    return LabelledFaces(np.ascontiguousarray(images), np.array(labels, np.int8), subjects, units)


def subjects_of(listing: Listing, faces: LabelledFaces, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which faces are of the named subjects; faces are those of :func:`photographs` of the same listing."""
    order = list(dict.fromkeys(sample.subject for sample in listing.samples))
    wanted = [index for index, name in enumerate(order) if name in names]
    return np.isin(faces.subjects, wanted)


def _crops(shard: list[Sample], side: int) -> NDArray[np.uint8]:
    """Aligned faces [n, side, side, 3], black where there is none; from the cache where the pictures are the same."""
    stamps = [(str(sample.picture.resolve()), sample.picture.stat().st_mtime_ns) for sample in shard]
    key = hashlib.sha256(repr((side, stamps)).encode()).hexdigest()[:24]
    file = cache_folder() / "photographs" / f"{key}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = np.stack([_crop(sample.picture, side) for sample in shard])
        partial = file.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as stream:
            np.save(stream, made)
        partial.replace(file)
    crops: NDArray[np.uint8] = np.load(file)
    return crops


def _crop(path: Path, side: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            picture = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"), np.uint8)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return np.zeros((side, side, 3), np.uint8)
    middle = np.array(picture.shape[1::-1]) / 2
    faces = FaceFinder.shared()(picture)
    if not faces:
        return np.zeros((side, side, 3), np.uint8)
    nearest = min(faces, key=lambda face: float(np.linalg.norm(face.landmarks.mean(axis=0) - middle)))
    return aligned(picture, nearest.landmarks, side)
