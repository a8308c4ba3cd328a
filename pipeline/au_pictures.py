"""Where pictures come from: a file, a folder, a film, a camera."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError, ToolError, UsageError
from policyport.core.install import pip_install

log = logging.getLogger(__name__)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
CAMERA = "camera:"


@dataclass(frozen=True)
class Picture:
    """One picture and where it stands."""

    file: str
    frame: int
    timestamp_s: float | None
    """Since the film's first frame; None of a still picture."""

    pixels: NDArray[np.uint8]
    """[height, width, 3] RGB"""


def pictures(source: str) -> Iterator[Picture]:
    """The pictures of an image, a folder of images (by name, folders within too), a film or ``camera:N``.

    An image of a folder that does not read is named in the log and left out.

    :raises UsageError: no such file, a folder without images, a file of another kind
    :raises ArtifactError: an image or a film that does not read, or a folder in which none does
    :raises ToolError: imageio, which reads films, is not installed
    """
    path = Path(source)
    if source.startswith(CAMERA):
        yield from _film(f"<video{source.removeprefix(CAMERA)}>", source)
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
        if not files:
            raise UsageError("no images in this folder", where=path, expected=f"files that end in {', '.join(IMAGES)}")
        yield from _images(files, path)
    elif not path.is_file():
        raise UsageError("no such picture", where=path, expected="an image, a folder, a film, or camera:0")
    elif path.suffix.lower() in IMAGES:
        yield _image(path, path.name)
    elif path.suffix.lower() in FILMS:
        yield from _film(str(path), path.name)
    else:
        raise UsageError(
            "neither an image nor a film",
            where=path,
            expected=", ".join(IMAGES + FILMS),
            got=path.suffix or "no ending",
        )


def _images(files: Sequence[Path], folder: Path) -> Iterator[Picture]:
    read = 0
    for file in files:
        try:
            picture = _image(file, str(file.relative_to(folder)))
        except ArtifactError as error:
            log.warning("%s: left out", error)
            continue
        read += 1
        yield picture
    if not read:
        raise ArtifactError("no image of this folder reads", where=folder, got=f"{len(files)} files")


def _image(file: Path, name: str) -> Picture:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            return Picture(name, 0, None, np.asarray(upright.convert("RGB"), np.uint8))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise ArtifactError(
            "an image that does not read", where=file, got=error, cure="save it again, or leave it out"
        ) from error


def _film(source: str, name: str) -> Iterator[Picture]:
    try:
        import imageio.v2 as imageio
    except ImportError as error:
        raise ToolError("imageio, which reads films, is not installed", got=error, cure=pip_install("[au]")) from error
    try:
        reader: Any = imageio.get_reader(source)
        rate = float(reader.get_meta_data().get("fps") or 0)
        frames = iter(reader)
        first = next(frames, None)
    except (OSError, IndexError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            "a film or camera that does not read",
            where=name,
            expected="a film, or camera:0 for the first camera",
            got=_last_line(error),
        ) from error
    if first is None:
        raise ArtifactError("a film without pictures", where=name)
    try:
        for number, pixels in enumerate(itertools.chain([first], frames)):
            yield Picture(name, number, number / rate if rate else None, np.asarray(pixels, np.uint8)[..., :3])
    finally:
        reader.close()


def _last_line(error: Exception) -> str:
    """What ffmpeg says in the end; before that it says how it was built."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
