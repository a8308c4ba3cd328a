"""A classifier on the board: held-out pictures with labels, each recognized by the board and by float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ArtifactError
from policyport.core.progress import Advance
from policyport.core.recognition import recognition
from policyport.core.task import Task
from policyport.hil.policy import TaskPolicy
from policyport.hil.result import LabelFigures, RecognitionFigures

AT_ONCE = 16
"""Pictures between two words of progress."""


def read_labels(path: Path, task: Task) -> NDArray[np.int8]:
    """Labels of the held-out observations, [n, labels] of 1, 0, -1.

    :raises ArtifactError: another number of labels than the task has, or other values
    """
    with np.load(path) as stored:
        labels: NDArray[np.int8] = stored["held_out"]
    if labels.ndim != 2 or labels.shape[1] != task.output_size or not np.isin(labels, (-1, 0, 1)).all():
        raise ArtifactError(
            "labels that do not fit the task",
            where=path,
            expected=f"[n, {task.output_size}] of 1, 0 and -1",
            got=f"{list(labels.shape)} of {np.unique(labels)[:8].tolist()}",
        )
    return labels


def recognize(
    board: TaskPolicy, float32: TaskPolicy, pictures: NDArray[np.float32], labels: NDArray[np.int8], advance: Advance
) -> RecognitionFigures:
    """Figures of the board and of float32 on the same pictures.

    :param pictures: [n, observation_size]
    :param labels: [n, labels] of 1, 0, -1
    """
    outputs = []
    for start in range(0, len(pictures), AT_ONCE):
        outputs.append(board.outputs(pictures[start : start + AT_ONCE]))
        advance(min(start + AT_ONCE, len(pictures)))
    return compare(board.task, np.concatenate(outputs), float32.outputs(pictures), labels)


def compare(
    task: Task, got: NDArray[np.float32], exact: NDArray[np.float32], labels: NDArray[np.int8]
) -> RecognitionFigures:
    """F1, AUC and agreement of two sets of outputs [n, labels]; a label is called present above zero."""
    ours, theirs = recognition(got, labels, 0.0), recognition(exact, labels, 0.0)
    columns = zip(task.labels, labels.T, ours.f1, theirs.f1, ours.auc, theirs.auc, strict=True)
    return RecognitionFigures(
        pictures=len(labels),
        board_f1=ours.mean_f1,
        float_f1=theirs.mean_f1,
        board_auc=ours.mean_auc,
        float_auc=theirs.mean_auc,
        agreement=float(np.mean((got > 0) == (exact > 0))),
        probability_error=float(np.abs(task.probabilities(got) - task.probabilities(exact)).max()),
        labels=tuple(
            LabelFigures(name, int((truth == 1).sum()), _or_none(f1), _or_none(f2), _or_none(auc1), _or_none(auc2))
            for name, truth, f1, f2, auc1, auc2 in columns
        ),
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
