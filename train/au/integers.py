"""The deployed network trained on as integers, on every training picture, augmented anew in each batch.

Integer least squares is the start. The integers then learn from the labels, and follow the float network's outputs,
through the integer network itself (:mod:`policyport.quantize.fake`, bit for bit, step sizes learned). At the end each
unit's threshold is tuned anew on the validation persons, averaged over sets of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.progress import progress
from policyport.core.recognition import averaged_thresholds, recognition, tuned_thresholds
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.decided import moved_outputs
from policyport.quantize.fake import FakeQuantized
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict
from policyport.quantize.source import Source
from policyport.train.au.augment import CENTRE, SPAN, augmented
from policyport.train.au.checkpoint import load, restore, save
from policyport.train.au.data import LabelledFaces
from policyport.train.au.export import logit
from policyport.train.au.losses import UNKNOWN
from policyport.train.rollouts import onnx_outputs
from torch import Tensor
from torch.nn import functional

log = logging.getLogger(__name__)

EVALUATIONS = 10
"""Of a training, each also a checkpoint."""

EVALUATION_BATCH = 256

COMPARED = 32
"""Validation pictures on which the integers are held against those that training computed."""


@dataclass(frozen=True)
class IntegerRecipe:
    """How a network is trained on as integers."""

    weight_bits: int
    activation_bits: int = 8
    steps: int = 2000
    batch: int = 64
    learning_rate: float = 2e-3
    """Of Adam, falling to zero (cosine)."""

    seed: int = 0
    device: str = "cpu"


@dataclass
class State:
    """How far a training has come: everything that a resumed one needs."""

    module: FakeQuantized
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    best: float = -np.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainedIntegers:
    """The integers of the best AUC on the validation persons, and how training went."""

    network: QuantizedNetwork
    curve: list[dict[str, float]]
    """Batches, and on the validation persons: divergence from the float network, F1 at tuned thresholds, AUC."""


def learn_integers(
    recipe: IntegerRecipe,
    source: Source,
    training: LabelledFaces,
    validation: LabelledFaces,
    checkpoint: Path | None = None,
) -> TrainedIntegers:
    """Train a network on as integers; the same recipe and pictures give the same ones, interrupted or not.

    A checkpoint is written at each evaluation, and one that is there is gone on from.

    :param source: the float network, and the pictures that ranges and integer least squares go by
    :raises UnsupportedModelError: an accumulator could overflow
    :raises ParityError: the integers are not those that training computed
    """
    if checkpoint is not None and checkpoint.is_file():
        state = _restore(recipe, checkpoint)
    else:
        state = _begin(recipe, start_integers(source, recipe))
        _evaluate(state, source, validation)
    lesson = _Lesson.of(source, training)
    between = max(1, -(-recipe.steps // EVALUATIONS))
    with progress(f"train {recipe.weight_bits}-bit integers", max(1, recipe.steps)) as advance:
        while state.step < recipe.steps:
            _step(state, recipe, lesson)
            state.step += 1
            if state.step % between == 0 or state.step == recipe.steps:
                _evaluate(state, source, validation)
                advance(state.step, f"AUC {state.curve[-1]['auc']:.3f}, F1 {state.curve[-1]['f1']:.3f}")
                if checkpoint is not None:
                    save(state, "module", checkpoint, start=state.module.start)
    state.module.load_state_dict(state.best_weights)
    network = state.module.cpu().settled(validation.observations[:COMPARED])
    return TrainedIntegers(with_thresholds(network, validation), state.curve)


def start_integers(source: Source, recipe: IntegerRecipe) -> QuantizedNetwork:
    """The integers that training begins with: integer least squares, layer by layer.

    :raises UnsupportedModelError: a layer too wide for 32-bit accumulators
    """
    config = QuantizeConfig(weight_bits=recipe.weight_bits)
    method = rounding("lattice", refit_bias=True)
    return quantize_graph(source.graph, source.observations, config, recipe.activation_bits, method)


def with_thresholds(network: QuantizedNetwork, validation: LabelledFaces) -> QuantizedNetwork:
    """The network with each unit's threshold, where its output is called present, tuned anew and moved to zero.

    :raises UnsupportedModelError: an accumulator could overflow
    """
    outputs, labels = predict(network, validation.observations), validation.labels
    thresholds = averaged_thresholds(outputs, labels, validation.subjects)
    # What becomes zero, and so is not called present, is the last integer below a threshold.
    scale, known = network.output.scale, (labels == 1).any(axis=0)
    moved = moved_outputs(network, np.where(known, -scale * (np.ceil(thresholds / scale) - 1), 0.0))
    assert moved is not None, "a network of one view ends in a layer, one of two in a sum"
    return moved


@dataclass(frozen=True)
class _Lesson:
    """What is learned from: pictures, their labels, and what the float network makes of a picture."""

    images: Tensor
    labels: Tensor
    offset: Tensor
    """What thresholds took from each output, [units]: with it an output is the logit of a probability."""

    teacher: Callable[[NDArray[Any]], NDArray[np.float32]]

    @classmethod
    def of(cls, source: Source, training: LabelledFaces) -> _Lesson:
        pictures = torch.from_numpy(training.images), torch.from_numpy(training.labels)
        offset = torch.from_numpy(logit(np.array(source.task.thresholds)))
        return cls(*pictures, offset, onnx_outputs(source.model))


def _begin(recipe: IntegerRecipe, start: QuantizedNetwork) -> State:
    module = FakeQuantized(start, learn_steps=True).to(recipe.device)
    optimizer = torch.optim.Adam(module.parameters(), recipe.learning_rate)
    return State(module, optimizer, torch.Generator().manual_seed(recipe.seed))


def _step(state: State, recipe: IntegerRecipe, lesson: _Lesson) -> None:
    chosen = torch.randint(len(lesson.images), (recipe.batch,), generator=state.generator)
    pixels = (augmented(lesson.images[chosen], state.generator) * SPAN + CENTRE).clamp(0, 255).flatten(1)
    targets = torch.from_numpy(lesson.teacher(pixels.numpy()))
    outputs = state.module(pixels.to(recipe.device)).double().cpu()
    loss = divergence(outputs, targets) + _label_loss(outputs + lesson.offset, lesson.labels[chosen])
    for group in state.optimizer.param_groups:
        group["lr"] = 0.5 * recipe.learning_rate * (1 + float(np.cos(np.pi * state.step / recipe.steps)))
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()


def divergence(outputs: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence from a unit's presence by the targets to that by the outputs, in nats, mean over all.

    :param outputs: and `targets`: logits [n, units]
    """
    given, exact = outputs.double(), targets.double()
    presence = exact.sigmoid()
    own, cross = (functional.binary_cross_entropy_with_logits(by, presence) for by in (exact, given))
    return cross - own


def _label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the labels that are known."""
    known = labels != UNKNOWN
    if not known.any():
        return logits.sum() * 0.0
    return functional.binary_cross_entropy_with_logits(logits[known], labels[known].double())


def _outputs(module: FakeQuantized, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    device = module.offset.device
    with torch.no_grad():
        batches = torch.from_numpy(images).split(EVALUATION_BATCH)
        return torch.cat([module(batch.flatten(1).float().to(device)).cpu() for batch in batches]).numpy()


def _evaluate(state: State, source: Source, validation: LabelledFaces) -> None:
    outputs, labels = _outputs(state.module, validation.images), validation.labels
    exact = onnx_outputs(source.model)(validation.observations)
    away = float(divergence(torch.from_numpy(outputs), torch.from_numpy(exact)))
    found = recognition(outputs, labels, tuned_thresholds(outputs, labels))
    state.curve.append({"steps": state.step, "divergence": away, "f1": found.mean_f1, "auc": found.mean_auc})
    log.info("step %d: mean F1 %.3f, AUC %.3f", state.step, found.mean_f1, found.mean_auc)
    if found.mean_auc > state.best:
        state.best = found.mean_auc
        state.best_weights = {name: value.clone() for name, value in state.module.state_dict().items()}


def _restore(recipe: IntegerRecipe, path: Path) -> State:
    fields = load(path)
    state = _begin(recipe, fields.pop("start"))
    restore(state, "module", fields)
    return state
