"""Quantization-aware training of a quantized network on observations and targets, without an environment.

The integers of post-training quantization are the start. Weights, biases and step sizes then follow the gradient of
a loss through the integer network itself (:mod:`policyport.quantize.fake`); a policy's targets are the outputs of its
float network (distillation), a classifier's may be labels. What comes out is the best seen on held-out observations,
the start included.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import cos, inf, isfinite, pi
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ObservationError, ToolError
from policyport.core.install import pip_install
from policyport.core.progress import progress
from policyport.core.task import Task
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.nodes import Floats

Tensor = Any  # torch carries no types that a strict checker is shown here

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs [n, outputs] and targets to a number."""

HELD_OUT = 5
"""Of so many observations one is held out, the last ones, which are of other episodes than most."""

STALE = 1e-3
"""By what share a held-out loss must fall to count as better for the patience."""


@dataclass(frozen=True)
class QatSettings:
    """How long, and how fast."""

    epochs: int = 100
    """Passes over the observations at the most."""

    patience: int = 30
    """Passes without a better held-out loss after which training ends."""

    batch: int = 128
    learning_rate: float = 1e-3
    """Of Adam, falling to zero over the passes (cosine)."""

    learn_steps: bool = True
    """Whether the step sizes are learned (LSQ), or stay as calibration chose them."""

    seed: int = 0
    """Of the order of the observations."""


@dataclass(frozen=True)
class Finetuned:
    """What came of it."""

    network: QuantizedNetwork
    losses: tuple[float, ...]
    """On held-out observations: of the start, then after each pass."""

    @property
    def best(self) -> int:
        """The pass whose network this is; 0 is the start."""
        return int(np.argmin(self.losses))


@dataclass(frozen=True)
class Objective:
    """The loss, by kind of output."""

    kind: Literal["choices", "bits", "values", "labels"]
    """Distillation of choices (one or several groups), of bits, of real values; or cross-entropy to labels."""

    sizes: tuple[int, ...] = ()
    """Of the groups of choices; empty for one group of all outputs."""

    scale: float = 1.0
    """What outputs are divided by: the targets' own spread, so that losses of different networks compare."""

    @classmethod
    def of(cls, task: Task, targets: Floats) -> Objective:
        """For a policy.

        :param targets: [n, outputs], the float network's outputs
        """
        centred = np.asarray(targets, np.float64)
        centred = centred - centred.mean(axis=1 if task.action_rule == "argmax" else 0, keepdims=True)
        scale = float(np.sqrt(np.mean(np.square(centred)))) or 1.0
        if task.action_rule == "threshold":
            return cls("bits", (), scale)
        return cls("choices" if task.discrete else "values", task.action_sizes, scale)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the observations.

        :param outputs: [n, outputs]
        :param targets: [n, outputs]; for labels [n], integers
        """
        from torch.nn import functional

        if self.kind == "labels":
            return functional.cross_entropy(outputs, targets)
        ours, theirs = outputs.double() / self.scale, targets.double() / self.scale
        if self.kind == "values":
            return (ours - theirs).square().mean()
        if self.kind == "bits":
            return functional.binary_cross_entropy_with_logits(ours, theirs.sigmoid())
        sizes = self.sizes or (outputs.shape[1],)
        groups = zip(ours.split(sizes, 1), theirs.split(sizes, 1), strict=True)
        each = [
            functional.kl_div(a.log_softmax(1), b.log_softmax(1), reduction="batchmean", log_target=True)
            for a, b in groups
        ]
        return sum(each) / len(each)


def finetune(
    network: QuantizedNetwork,
    observations: Floats,
    targets: NDArray[Any],
    objective: Objective,
    settings: QatSettings | None = None,
    state: Path | None = None,
) -> Finetuned:
    """Train a quantized network; the same inputs and settings give the same integers.

    :param observations: [n, inputs] or [n, *shape], float32, as the environment gives them, in their order
    :param targets: [n, outputs] float32, or for labels [n] integers
    :param state: a file that keeps the training after each pass; one of the same training is gone on from, and
        it is removed at the end
    :raises ObservationError: fewer than 10 observations, or another number of targets
    :raises UnsupportedModelError: an accumulator could overflow
    :raises ToolError: torch is not installed
    """
    settings = settings or QatSettings()
    if len(observations) < 2 * HELD_OUT or len(targets) != len(observations):
        expected = f"{2 * HELD_OUT} observations or more, and as many targets"
        got = f"{len(observations)} and {len(targets)}"
        raise ObservationError("too few to train on", expected=expected, got=got)
    try:
        import torch  # noqa: F401 -- only to see that it is there
    except ImportError as error:
        raise ToolError("quantization-aware training needs torch", got=error, cure=pip_install("[train]")) from error
    cut = len(observations) - len(observations) // HELD_OUT
    training = _Training(network, objective, settings)
    key = _key(network, observations, targets, objective, settings)
    if state is not None:
        training.recall(state, key)
    with progress("train the integers", settings.epochs) as advance:
        if not training.losses:
            training.judge(observations[cut:], targets[cut:])
        while not training.finished:
            training.epoch(observations[:cut], targets[:cut])
            training.judge(observations[cut:], targets[cut:])
            if state is not None:
                training.keep(state, key)
            advance(len(training.losses) - 1, f"held-out loss {training.losses[-1]:.2e}")
    if state is not None:
        state.unlink(missing_ok=True)
    return Finetuned(training.best_network(), tuple(training.losses))


class _Training:
    """The module under training, and the best that it was."""

    def __init__(self, network: QuantizedNetwork, objective: Objective, settings: QatSettings) -> None:
        import torch
        from policyport.quantize.fake import FakeQuantized

        self.module = FakeQuantized(network, learn_steps=settings.learn_steps)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=settings.learning_rate)
        self.objective, self.settings = objective, settings
        self.losses: list[float] = []
        self.best: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether all passes are done, or the last ones bettered nothing."""
        if len(self.losses) > self.settings.epochs:
            return True
        lowest, since = inf, 0
        for loss in self.losses:
            lowest, since = (loss, 0) if loss < lowest * (1 - STALE) else (lowest, since + 1)
        return since >= self.settings.patience

    def epoch(self, observations: Floats, targets: NDArray[Any]) -> None:
        """One pass in an order of its own."""
        import torch

        done, settings = len(self.losses) - 1, self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + cos(pi * done / settings.epochs))
        order = np.random.default_rng([settings.seed, done]).permutation(len(observations))
        for batch in _parts(order, settings.batch):
            outputs = self.module(torch.from_numpy(observations[batch]))
            loss = self.objective(outputs, torch.from_numpy(targets[batch]))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def judge(self, observations: Floats, targets: NDArray[Any]) -> None:
        """Append the held-out loss, and keep the parameters where it is the lowest."""
        import torch

        total = 0.0
        with torch.no_grad():
            for batch in _parts(np.arange(len(observations)), self.settings.batch):
                outputs = self.module(torch.from_numpy(observations[batch]))
                total += float(self.objective(outputs, torch.from_numpy(targets[batch]))) * len(batch)
        loss = total / len(observations)
        loss = loss if isfinite(loss) else inf
        if not self.losses or loss < min(self.losses):
            self.best = {name: value.clone() for name, value in self.module.state_dict().items()}
        self.losses.append(loss)

    def best_network(self) -> QuantizedNetwork:
        """The network of the lowest held-out loss."""
        self.module.load_state_dict(self.best)
        return self.module.network()

    def keep(self, state: Path, key: str) -> None:
        """Write everything that going on needs, whole or not at all."""
        import torch

        fresh = state.with_name(f".{state.name}.{os.getpid()}")
        state.parent.mkdir(parents=True, exist_ok=True)
        parts = {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict(), "best": self.best}
        torch.save({"key": key, "losses": self.losses, **parts}, fresh)
        fresh.replace(state)

    def recall(self, state: Path, key: str) -> None:
        """Go on from a file of the same training, where there is one."""
        import torch

        if not state.is_file():
            return
        found = torch.load(state, weights_only=True)
        if found["key"] != key:
            return
        self.module.load_state_dict(found["module"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.losses, self.best = found["losses"], found["best"]


def _parts(order: NDArray[np.intp], size: int) -> Sequence[NDArray[np.intp]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _key(
    network: QuantizedNetwork, observations: Floats, targets: NDArray[Any], objective: Objective, settings: QatSettings
) -> str:
    """What a training is known by: its start, its data and its settings."""
    digest = hashlib.sha256(repr((asdict(objective), asdict(settings))).encode())
    arrays = [observations, targets]
    for layer in network.layers:
        arrays += [layer.weights, layer.weight_scale, layer.bias]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr([(a.name, a.parameters, a.low, a.high) for a in network.activations.values()]).encode())
    return digest.hexdigest()
