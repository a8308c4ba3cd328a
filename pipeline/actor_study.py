"""``policyport study actors``: speed and learning curves of collection by quantized actors, beside the plain learner.

QuaRL (Krishnan et al., arXiv 1910.01055) calls it ActorQ.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from policyport.pipeline.precision_study import Measured, measured, study_config

if TYPE_CHECKING:
    from policyport.train.config import TrainConfig

PLAIN = "learner alone"

Way = tuple[str, int, str]
"""A name, the number of actors, what they compute in."""


def ways_of(actors: Sequence[int]) -> tuple[Way, ...]:
    """The plain learner, then each number of actors in float32 and int8."""
    numbered = [
        (f"{count} actor{'s' * (count > 1)}, {kind}", count, kind) for count in actors for kind in ("float32", "int8")
    ]
    return ((PLAIN, 0, "int8"), *numbered)


def study_actors(
    out: Path,
    widths: Sequence[int],
    seeds: Sequence[int],
    steps: int,
    actors: Sequence[int],
    said: Callable[[Measured], None],
) -> list[Measured]:
    """Train every width in every way, for every seed; what is measured already is kept.

    :param out: a file below ``cells/`` for each training
    :param said: is told of each
    """
    found = []
    for width in widths:
        for seed in seeds:
            for name, count, kind in ways_of(actors):
                config = _config(width, seed, steps, count, kind)
                found.append(measured(config, out / "cells", name))
                said(found[-1])
    return found


def _config(width: int, seed: int, steps: int, actors: int, kind: str) -> TrainConfig:
    plain = study_config(width, seed, "float32", steps, "cpu")
    return replace(plain, actors=actors, actor_precision=kind)  # type: ignore[arg-type]


def to_markdown(found: Sequence[Measured]) -> str:
    """Speed and returns of each width and way: means over the seeds."""
    lines = [
        "| hidden layers | collection | steps per second | times | learner's CPU seconds per 1,000 steps "
        "| mean return by steps |",
        "|---|---|---:|---:|---:|---|",
    ]
    first: dict[int, float] = {}
    for width, way in dict.fromkeys((one.width, one.precision) for one in found):
        group = [one for one in found if (one.width, one.precision) == (width, way)]
        steps = sum(one.steps for one in group)
        rate, cpu = steps / sum(one.seconds for one in group), sum(one.cpu_seconds for one in group) / steps
        plain = first.setdefault(width, rate)
        curves = zip(*(one.curve for one in group), strict=True)
        shown = ", ".join(f"{c[0][0]:,}: {sum(r for _, r in c) / len(c):.0f}" for c in curves)
        figures = f"{rate:,.0f} | {rate / plain:.2f} | {1000 * cpu:.2f}"
        lines.append(f"| 2 x {width} | {way} | {figures} | {shown} |")
    seeds = len({one.seed for one in found})
    return "\n".join(lines) + (
        f"\n\nDQN on CartPole-v1, {seeds} seed{'s' * (seeds > 1)}, evaluations and the start of the actors included, "
        f"on a machine of {os.cpu_count()} cores.\n"
    )
