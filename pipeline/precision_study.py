"""``policyport study precision``: what mixed precision does to the speed of training and to what is learned, by width.

QuaRL (Krishnan et al., arXiv 1910.01055) trains Pong with mixed precision, by networks of three widths, A, B and C.
Here the same algorithm learns CartPole, with networks of three widths.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from policyport.core.artifact import code_version, sha256_json
from policyport.core.options import to_table
from policyport.train.config import Precision, TrainConfig
from policyport.train.stage import CODE

if TYPE_CHECKING:
    import torch

WIDTHS = (64, 256, 1024)
"""Of both hidden layers."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "fp16")

Device = Literal["cpu", "cuda"]

_DQN = {
    **{"learning_rate": 5e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 500, "gamma": 0.98},
    **{"target_update_interval": 100, "train_freq": 8, "gradient_steps": 4, "exploration_fraction": 0.3},
}


@dataclass(frozen=True)
class Measured:
    """A training."""

    width: int
    precision: str
    """Or another thing that tells it from others."""

    seed: int
    steps: int
    """Of the environment."""

    seconds: float
    """By the clock, evaluations included."""

    cpu_seconds: float
    """Of this process: it does not count the time that other processes took from it."""

    curve: tuple[tuple[int, float], ...]
    """(environment steps, mean return) of each evaluation."""

    device: str
    """What it ran on, in words."""


def study_precision(
    out: Path, widths: Sequence[int], seeds: Sequence[int], steps: int, device: Device, said: Callable[[Measured], None]
) -> list[Measured]:
    """Train every width in every precision, for every seed; what is measured already is kept.

    :param out: a file below ``cells/`` for each training
    :param said: is told of each
    """
    found = []
    for width in widths:
        for seed in seeds:
            for precision in PRECISIONS:
                found.append(measured(study_config(width, seed, precision, steps, device), out / "cells", precision))
                said(found[-1])
    return found


def study_config(width: int, seed: int, precision: Precision, steps: int, device: Device) -> TrainConfig:
    """A training of DQN on CartPole-v1, to its last step."""
    return TrainConfig(
        environment="CartPole-v1",
        algorithm="DQN",
        seed=seed,
        total_steps=steps,
        target_return=float("inf"),
        network=(width, width),
        activation="relu",
        hyperparameters=_DQN,
        precision=precision,
        device=device,
        eval_every_steps=max(1, steps // 4),
        eval_episodes=5,
    )


def measured(config: TrainConfig, folder: Path, way: str) -> Measured:
    """A training, timed; out of its file where it was done before, by the same code.

    :param way: what tells it from others of its width and seed
    """
    name = f"{config.network[0]}.{way.replace(' ', '-').replace(',', '')}.{config.seed}"
    key = sha256_json({"config": {**to_table(config), "target_return": None}, "code": code_version(*CODE)})
    path = folder / f"{name}.json"
    if path.is_file():
        table = json.loads(path.read_text())
        if table.pop("key") == key:
            return Measured(**{**table, "curve": tuple((int(s), float(r)) for s, r in table["curve"])})
    found = replace(_train(config, folder / f"{name}.partial"), precision=way)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{name}.{os.getpid()}"
    fresh.write_text(json.dumps({"key": key, **asdict(found)}, indent=1) + "\n")
    fresh.rename(path)
    return found


def _train(config: TrainConfig, partial: Path) -> Measured:
    import shutil

    from policyport.train.learner import learn, require_stable_baselines, torch_threads

    require_stable_baselines()
    # A training that was interrupted has no whole time: it begins again.
    shutil.rmtree(partial, ignore_errors=True)
    with torch_threads(config.threads):
        clock, cpu = time.perf_counter(), time.process_time()
        learner = learn(config, partial, "timed")
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    shutil.rmtree(partial, ignore_errors=True)
    steps, device = learner.model.num_timesteps, _described(learner.model.device)
    curve = tuple(learner.curve)
    return Measured(config.network[0], config.precision, config.seed, steps, clock, cpu, curve, device)


def _described(device: torch.device) -> str:
    """A torch device as its maker names it."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"one thread of a CPU with {capability}"


def to_json(found: Sequence[Measured]) -> str:
    """The trainings as JSON."""
    return json.dumps({"schema": 1, "trainings": [asdict(one) for one in found]}, indent=1) + "\n"


def to_markdown(found: Sequence[Measured]) -> str:
    """Speed and returns of each width and precision: means over the seeds.

    On a CPU the time of the process is what counts; on a GPU, which that leaves out, the clock.
    """
    lines = [
        "| hidden layers | precision | steps per CPU second | times float32 | by the clock | mean return by steps |",
        "|---|---|---:|---:|---:|---|",
    ]
    first: dict[int, tuple[float, float]] = {}
    for width, precision in dict.fromkeys((one.width, one.precision) for one in found):
        group = [one for one in found if (one.width, one.precision) == (width, precision)]
        steps = sum(one.steps for one in group)
        rate, clock = steps / sum(one.cpu_seconds for one in group), steps / sum(one.seconds for one in group)
        plain, plain_clock = first.setdefault(width, (rate, clock))
        curves = zip(*(one.curve for one in group), strict=True)
        shown = ", ".join(f"{c[0][0]:,}: {sum(r for _, r in c) / len(c):.0f}" for c in curves)
        by_clock = f"{clock / plain_clock:.2f}"
        lines.append(f"| 2 x {width} | {precision} | {rate:,.0f} | {rate / plain:.2f} | {by_clock} | {shown} |")
    devices = ", ".join(sorted({one.device for one in found}))
    return "\n".join(lines) + f"\n\nDQN on CartPole-v1, evaluations included, on {devices}.\n"
