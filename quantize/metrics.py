"""How far a quantized network is from the float one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.task import Task

PERFECT_DB = 200.0
"""What :func:`sqnr_db` says where there is no error at all."""


def sqnr_db(reference: NDArray[np.floating[Any]], got: NDArray[np.floating[Any]]) -> float:
    """Signal to quantization noise in dB, at most :data:`PERFECT_DB`; both of the same shape."""
    signal = float(np.sum(np.square(np.asarray(reference, np.float64))))
    noise = float(np.sum(np.square(np.asarray(got, np.float64) - np.asarray(reference, np.float64))))
    if noise == 0:
        return PERFECT_DB
    if signal == 0:
        return 0.0
    return min(PERFECT_DB, 10 * float(np.log10(signal / noise)))


def action_agreement(task: Task, reference: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Share of equal actions, for discrete actions; outputs [n, outputs] float32."""
    return float(np.mean(task.action(reference) == task.action(got)))


def action_error(task: Task, reference: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Mean absolute action error as a share of the action range, for continuous actions.

    An unbounded range is taken from the reference's own actions.
    """
    exact = task.action(reference).reshape(len(reference), -1)
    difference = np.abs(task.action(got).reshape(len(got), -1) - exact)
    span = np.subtract(task.action_high, task.action_low, dtype=np.float64).reshape(-1)
    seen = np.maximum(exact.max(axis=0) - exact.min(axis=0), 1e-9)
    return float(np.mean(difference / np.where(np.isfinite(span) & (span > 0), span, seen)))


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
    discrete = task.action_rule == "argmax"
    return Closeness(
        action_agreement(task, reference, got) if discrete else None,
        None if discrete else action_error(task, reference, got),
        sqnr_db(reference, got),
    )
