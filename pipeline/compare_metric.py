"""What a task is judged by: return in seeded episodes, F1 or accuracy by labels, PSNR of whole decoded pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from policyport.core.artifact import Artifact
from policyport.core.codec_file import Header, pack_picture
from policyport.core.codec_latents import encode_numbers, quantize_reals
from policyport.core.codec_model import CODES_FILE, QUALITIES, CoderModel
from policyport.core.recognition import recognition
from policyport.core.task import LABELS_FILE, Task
from policyport.hil.codec import PICTURES_FILE, PictureDecoder, decibels, real_code, squared_error

FIRST_SEED = 20_000
"""Episode i is reset with this seed plus i, float32's and every cell's alike."""

QUALITY = QUALITIES // 2
"""At which pictures are coded."""

Outputs = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Observations [n, observation_size] to the network's outputs [n, output_size]."""


@dataclass(frozen=True)
class Judged:
    """How a network does."""

    metric: float | None
    """By :func:`metric_name`; None where it cannot be measured."""

    bits_per_pixel: float | None = None
    """Of an image encoder: of whole files, at the quality that the PSNR is of."""


def metric_name(task: Task) -> str:
    """What a task is judged by."""
    if task.kind == "codec":
        return f"PSNR in dB at quality {QUALITY}"
    if task.kind == "policy":
        return "mean return"
    return "mean F1" if task.action_rule == "threshold" else "accuracy"


def judged(artifact: Artifact, task: Task, outputs: Outputs, episodes: int) -> Judged:
    """The task's own metric.

    :param artifact: of quantize, with labels or pictures where the model came with them
    :param episodes: seeded episodes of a policy; 0 plays none
    """
    files = artifact.manifest.files
    if task.kind == "classifier" and LABELS_FILE in files:
        return Judged(_by_labels(artifact, task, outputs))
    if task.kind == "codec" and {CODES_FILE, PICTURES_FILE} <= files.keys():
        return _of_pictures(artifact, outputs)
    if task.plays and episodes:
        from policyport.pipeline.quarl_cell import play_together

        return Judged(float(np.mean(play_together(outputs, task, FIRST_SEED, episodes))))
    return Judged(None)


def _by_labels(artifact: Artifact, task: Task, outputs: Outputs) -> float | None:
    """F1 of labels that may be there together; accuracy where one is, of the observations whose label is known."""
    with np.load(artifact.file("observations.npz")) as stored, np.load(artifact.file(LABELS_FILE)) as labels:
        given, truth = task.check_observation(stored["held_out"]), labels["held_out"]
    found = outputs(given)
    if task.action_rule == "threshold":
        return recognition(found, truth, 0.0).mean_f1
    known = (truth == 1).any(axis=1)
    right = np.take_along_axis(truth == 1, task.action(found)[:, None], axis=1)[:, 0]
    return float(right[known].mean()) if known.any() else None


def _of_pictures(artifact: Artifact, outputs: Outputs) -> Judged:
    """Means over the held-out photographs, coded and decoded as a whole."""
    coder, decoder = CoderModel.read(artifact.file(CODES_FILE)), PictureDecoder(artifact.path)
    with np.load(artifact.file(PICTURES_FILE)) as stored:
        rows = [_of_picture(stored[name], coder, decoder, outputs) for name in stored.files]
    quality, rate = np.mean(rows, axis=0)
    return Judged(float(quality), float(rate))


def _of_picture(
    picture: NDArray[np.uint8], coder: CoderModel, decoder: PictureDecoder, outputs: Outputs
) -> tuple[float, float]:
    """PSNR in dB and bits per pixel."""
    height, width = picture.shape[:2]
    code = real_code(outputs, picture, coder.channels)
    numbers = quantize_reals(code, float(coder.steps[QUALITY]), coder.offsets)
    header = Header(width, height, QUALITY, picture.ndim == 2, coder.digest())
    size = len(pack_picture(header, encode_numbers(numbers, coder)))
    return decibels(squared_error(decoder.picture(numbers, header), picture)), 8 * size / (height * width)
