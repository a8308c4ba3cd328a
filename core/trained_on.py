"""What a codec was trained on, so that it is judged on nothing of it.

A photograph is known again by the bytes of its file and by its pixels, whatever its name. One that was made smaller or
coded with loss since is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import sha256_file
from policyport.core.errors import ArtifactError, ConfigError
from policyport.core.photographs import photograph_paths, read_photograph

RECORD_FILE = "photographs.json"
"""Beside a codec: the :class:`Fingerprint` of each photograph that it was trained on."""


@dataclass(frozen=True)
class Fingerprint:
    """What a photograph is known by."""

    name: str
    file_sha256: str
    pixels_sha256: str

    @classmethod
    def of(cls, path: Path, picture: NDArray[np.uint8]) -> Fingerprint:
        """That of a file.

        :param picture: the whole of it, as :func:`policyport.core.photographs.read_photograph` reads it
        """
        hashed = hashlib.sha256(f"{picture.shape}".encode() + np.ascontiguousarray(picture).tobytes())
        return cls(path.name, sha256_file(path), hashed.hexdigest())

    def is_same(self, other: Fingerprint) -> bool:
        """Whether file or pixels are the same."""
        return self.file_sha256 == other.file_sha256 or self.pixels_sha256 == other.pixels_sha256


def fingerprints(paths: Iterable[Path]) -> list[Fingerprint]:
    """Of photographs in files.

    :raises ConfigError: one does not read as a picture
    """
    return [Fingerprint.of(path, read_photograph(path)) for path in paths]


def write_record(found: Sequence[Fingerprint], folder: Path) -> None:
    """Write ``photographs.json``."""
    (folder / RECORD_FILE).write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


def read_record(folder: Path) -> list[Fingerprint]:
    """What the codec in a folder was trained on.

    :raises ArtifactError: it does not say
    """
    path = folder / RECORD_FILE
    try:
        return [Fingerprint(**one) for one in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            "a codec that does not say what it was trained on", where=path, got=error, cure="train the codec again"
        ) from error


def refuse_trained_on(found: Iterable[tuple[Path, Fingerprint]], record: Sequence[Fingerprint]) -> None:
    """Refuse to judge a codec on what it was trained on.

    :param found: photographs to judge it on
    :raises ConfigError: names the first that is in the record, and how many are
    """
    same = [(path, old.name) for path, one in found for old in record if one.is_same(old)]
    if same:
        path, name = same[0]
        raise ConfigError(
            f"{len(same)} test photographs that the codec was trained on"
            if len(same) > 1
            else "a test photograph that the codec was trained on",
            where=path,
            expected=f"none of the {len(record)} photographs of its training",
            got=f"the same picture as {name}",
            cure="take it out of the test photographs, or train without it",
        )


def held_out_photographs(folder: Path, record: Sequence[Fingerprint], smallest: int) -> dict[str, NDArray[np.uint8]]:
    """Every photograph below a folder by its name [rows, columns, 3], none of which the codec was trained on.

    :param record: what it was trained on
    :param smallest: pixels that the shorter side must have
    :raises ConfigError: there is none, one does not read, one is too small, or one was trained on
    """
    pictures = {path: read_photograph(path) for path in photograph_paths(folder)}
    for path, picture in pictures.items():
        if min(picture.shape[:2]) < smallest:
            raise ConfigError(
                "a test photograph that is too small to be judged",
                where=path,
                expected=f"{smallest} pixels along each side at least, for MS-SSIM's five scales",
                got=f"{picture.shape[1]} x {picture.shape[0]}",
            )
    refuse_trained_on(((path, Fingerprint.of(path, picture)) for path, picture in pictures.items()), record)
    return {path.relative_to(folder).with_suffix("").as_posix(): picture for path, picture in pictures.items()}
