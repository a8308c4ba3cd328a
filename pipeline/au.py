"""Action units of the faces in pictures: who looks, what is written of each face."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import UsageError
from policyport.core.task import Task
from policyport.hil.policy import TaskPolicy
from policyport.pipeline.au_pictures import Picture
from policyport.pipeline.model_folder import find_model
from policyport.train.faces.finder import FoundFace

BOX = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Shown:
    """A face, and what it shows: probability and presence of each label."""

    face: FoundFace
    probabilities: NDArray[np.float64]
    present: NDArray[np.bool_]


def recognize(
    policy: TaskPolicy, pixels: NDArray[np.uint8], face: FoundFace
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability and presence of each label of one face, both from the same number."""
    from policyport.train.au.data import grey
    from policyport.train.faces.alignment import aligned

    side, channels = picture_shape(policy.task)
    crop = aligned(pixels, face.landmarks, side)
    planes = grey(crop)[None] if channels == 1 else crop.transpose(2, 0, 1)
    outputs = policy.outputs(planes.reshape(1, -1).astype(np.float32))
    return policy.task.probabilities(outputs)[0], outputs[0] > 0


def picture_shape(task: Task) -> tuple[int, int]:
    """Side and channels of the aligned pictures that a network takes, by how many values it takes."""
    for channels in (1, 3):
        side = round((task.observation_size / channels) ** 0.5)
        if side * side * channels == task.observation_size:
            return side, channels
    raise UsageError("a network that takes no square picture", where=task.name, got=f"{task.observation_size} values")


def columns(task: Task) -> list[str]:
    """The CSV's header: a probability ``_p`` and a presence ``_c`` of each label."""
    labels = [f"{label}_{kind}" for kind in "pc" for label in task.labels]
    return ["file", "frame", "timestamp_s", "face", "confidence", *BOX, *labels]


def row(task: Task, picture: Picture, number: int, shown: Shown) -> dict[str, Any]:
    """One face as a row."""
    left, top, right, bottom = shown.face.box
    box = zip(BOX, (left, top, right - left, bottom - top), strict=True)
    return {
        "file": picture.file,
        "frame": picture.frame,
        "timestamp_s": "" if picture.timestamp_s is None else f"{picture.timestamp_s:.3f}",
        "face": number,
        "confidence": f"{shown.face.confidence:.3f}",
        **{name: f"{value:.1f}" for name, value in box},
        **{f"{label}_p": f"{value:.4f}" for label, value in zip(task.labels, shown.probabilities, strict=True)},
        **{f"{label}_c": int(there) for label, there in zip(task.labels, shown.present, strict=True)},
    }


def annotate(task: Task, picture: Picture, shown: list[Shown], folder: Path) -> None:
    """Write the picture with a box around each face and the labels that are present beside it."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture.pixels)
    draw = ImageDraw.Draw(image)
    width = max(1, max(image.size) // 400)
    for one in shown:
        left, top, right, bottom = one.face.box
        draw.rectangle((left, top, right, bottom), outline=(255, 210, 0), width=width)
        lines = [
            f"{label} {value:.2f}"
            for label, value, there in zip(task.labels, one.probabilities, one.present, strict=True)
            if there
        ]
        size = max(10, int((bottom - top) / 10))
        place = (right + 2 * width, top)
        draw.multiline_text(
            place, "\n".join(lines), (255, 210, 0), font_size=size, stroke_width=1, stroke_fill=(0, 0, 0)
        )
    name = Path(picture.file)
    target = folder / name.with_name(
        f"{name.stem}-{picture.frame:06d}.png" if picture.timestamp_s is not None else f"{name.stem}.png"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target)


@contextmanager
def looking(model: Path, by: str, port: str, wait_s: float = 0.0) -> Iterator[TaskPolicy]:
    """Who looks at the faces.

    :param model: folder of a run, or of an artifact in it
    :param by: ``float``, ``integers`` or ``board``
    :param port: pyserial URL of the board; empty for the emulated one
    :param wait_s: seconds to wait for a port that another process holds
    :raises ArtifactError: no such model
    :raises UsageError: a model that sees no action units
    :raises IdentityError: the board runs another firmware
    :raises BoardError: no board, a busy port, no answer
    """
    kinds = ("train", "quantize", "deploy") if by == "float" else ("deploy",)
    artifact = find_model(model, kinds, "no model that sees action units", "policyport run recipes/au.toml")
    task = Task.read(artifact.file("task.json"))
    if task.kind != "classifier" or not task.labels:
        raise UsageError(
            "this model sees no action units",
            where=artifact.path,
            expected="a classifier with labels",
            got=f"a {task.kind}",
            cure="policyport train au",
        )
    if by == "float":
        from policyport.hil.policy import FloatPolicy

        yield FloatPolicy(artifact.file("policy.onnx" if artifact.manifest.kind == "train" else "float.onnx"), task)
        return
    if by == "integers":
        from policyport.deploy.program import read_program
        from policyport.hil.policy import ReferencePolicy

        yield ReferencePolicy(read_program(artifact.path), task)
        return
    from policyport.hil.session import Line, open_board

    with open_board(artifact.path, port, Line(wait_s=wait_s)) as board:
        yield board.policy
