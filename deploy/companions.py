"""What belongs beside a quantized model file, made where another tool wrote the model alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from policyport.core.errors import ArtifactError
from policyport.core.task import Environment, Task
from policyport.deploy.program import Program

logger = logging.getLogger(__name__)

NAMES = ("task.json", "observations.npz")

RANDOM_INPUTS = 32
"""Inputs of each kind that are made for a model file that comes without any."""


def check_companions(model: Path) -> None:
    """A model file has both companions or neither.

    :raises ArtifactError: one of them alone
    """
    missing = [name for name in NAMES if not (model.parent / name).is_file()]
    if len(missing) == 1:
        raise ArtifactError(
            f"no {missing[0]} beside the model",
            where=model.parent,
            expected=f"both {' and '.join(NAMES)}, or neither",
            cure="put the task's description and recorded observations beside it, as policyport train writes them",
        )


def add_companions(program: Program, name: str, folder: Path) -> None:
    """Write a task and observations into a folder that has none: random inputs over the range of the input's integers.

    They show that every layer is exact and what it costs; they say nothing of the network's use.

    :param name: of the task
    """
    if (folder / NAMES[0]).is_file():
        return
    logger.warning("%s has no task.json beside it: random inputs stand in for its observations", name)
    tensor = program.input
    generator = np.random.default_rng(0)
    q = generator.integers(tensor.low, tensor.high, (2, RANDOM_INPUTS, tensor.size), endpoint=True)
    seen, held_out = ((q - tensor.zero_point) * tensor.scale).astype(np.float32)
    np.savez(folder / NAMES[1], observations=seen, held_out=held_out)
    low, high = (float(edge) for edge in (min(seen.min(), held_out.min()), max(seen.max(), held_out.max())))
    bounds = (low,) * tensor.size, (high,) * tensor.size
    task = Task("policy", name, Environment(""), tensor.size, *bounds, program.output.size, "argmax")
    task.write(folder / NAMES[0])
