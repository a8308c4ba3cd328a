"""How far a quantized network is from the float one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.task import Task

PERFECT_DB = 200.0
"""What is said where there is no error at all."""


class Noise:
    """Signal and quantization noise, summed over batches."""

    def __init__(self) -> None:
        self.signal, self.noise = 0.0, 0.0

    def update(self, reference: NDArray[np.floating[Any]], got: NDArray[np.floating[Any]]) -> None:
        """Add a batch; both of the same shape."""
        exact = np.asarray(reference, np.float64)
        self.signal += float(np.sum(np.square(exact)))
        self.noise += float(np.sum(np.square(np.asarray(got, np.float64) - exact)))

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise in dB, at most :data:`PERFECT_DB`."""
        if self.noise == 0:
            return PERFECT_DB
        if self.signal == 0:
            return 0.0
        return min(PERFECT_DB, 10 * float(np.log10(self.signal / self.noise)))


def sqnr_db(reference: NDArray[np.floating[Any]], got: NDArray[np.floating[Any]]) -> float:
    """Signal to quantization noise in dB, at most :data:`PERFECT_DB`; both of the same shape."""
    noise = Noise()
    noise.update(reference, got)
    return noise.sqnr_db


def action_errors(task: Task, reference: NDArray[np.float32], got: NDArray[np.float32]) -> NDArray[np.float64]:
    """[n]: 1 where an observation's action is another choice, else 0; or its mean absolute error as a share of the
    action range, where actions are continuous.

    An unbounded range is taken from the reference's own actions.

    :param reference: outputs [n, outputs] float32, and so ``got``
    """
    exact, actions = (task.action(outputs).reshape(len(outputs), -1) for outputs in (reference, got))
    if task.discrete:
        return (exact != actions).any(axis=1).astype(np.float64)
    span = np.subtract(task.action_high, task.action_low, dtype=np.float64).reshape(-1)
    seen = np.maximum(exact.max(axis=0) - exact.min(axis=0), 1e-9)
    share = np.abs(actions - exact) / np.where(np.isfinite(span) & (span > 0), span, seen)
    return np.asarray(share.mean(axis=1), np.float64)


@dataclass(frozen=True)
class Closeness:
    """How close a quantized network is to the float one on a set of observations."""

    action_agreement: float | None
    """Share of equal actions; None for continuous actions."""

    action_error: float | None
    """Mean action error as a share of the action range; None for discrete actions."""

    sqnr_db: float
    """Of the outputs."""


def closeness(task: Task, reference: NDArray[np.float32], got: NDArray[np.float32]) -> Closeness:
    """Every figure that the task's kind of action has; outputs [n, outputs] float32."""
    errors = action_errors(task, reference, got)
    agreement = float(np.mean(errors == 0)) if task.discrete else None
    return Closeness(agreement, None if task.discrete else float(errors.mean()), sqnr_db(reference, got))
