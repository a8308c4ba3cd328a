"""Training: each view learns from labels, both from each other; then the relations between units join in."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from policyport.core.progress import progress
from policyport.core.recognition import Recognition, recognition
from policyport.train.au.augment import augmented, network_input
from policyport.train.au.checkpoint import load, restore, save
from policyport.train.au.data import LabelledFaces
from policyport.train.au.last_layer import solve_last_layers
from policyport.train.au.losses import agreement_loss, label_loss, selected, view_loss
from policyport.train.au.networks import Backbone, TwoViews
from policyport.train.au.relations import normalized, relations
from torch import Tensor

log = logging.getLogger(__name__)

PAPER_SHARES: dict[tuple[int, ...], tuple[float, ...]] = {
    (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43): (0.2, 0.3, 0.2, 0.2, 0.5, 0.2, 0.5, 0.2, 0.1, 0.5, 0.2, 0.3),
    (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24): (0.3, 0.3, 0.5, 0.3, 0.3, 0.5, 0.3, 0.5, 0.3, 0.3, 0.3, 0.3),
}
"""Shares of positives that the paper's code asks of a batch, of EmotioNet's and of BP4D's units."""

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """How two views are trained; the weights of the losses are the paper's, each loss is off at 0.

    The same seed draws the same batches on any `device` of torch's; the weights may differ in rounding.
    """

    backbone: Backbone = "plain"
    view_weight: float = 400.0
    agreement_weight: float = 100.0
    relation_steps: int = 0
    steps: int = 2000
    batch: int = 96
    unlabelled_batch: int = 0
    learning_rate: float = 1e-3
    separate_augmentation: bool = True
    selective: bool = True
    evaluate_every: int = 200
    patience: int = 5
    last_layer: bool = False
    seed: int = 0
    device: str = "cpu"


@dataclass
class State:
    """How far a training has come: everything that a resumed one needs."""

    model: TwoViews
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    best: float = -np.inf
    waited: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    before_relations: tuple[float, dict[str, Tensor]] | None = None
    """The best score and weights of the first stage, once it is over."""

    solved: bool = False
    """Whether the first stage ended with its classifiers solved anew."""

    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """Two views at their best, relation networks in place where they were better, and the curve of the training."""

    model: TwoViews
    curve: list[dict[str, float]]
    related: bool = False
    """Whether relations made the classifiers."""

    solved: bool = False
    """Whether its classifiers are those solved anew at the end of a stage."""

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean of the two views' probabilities, [n, units]."""
        return sigmoid(logits(self.model, images)).mean(axis=0)


def learn(
    recipe: Recipe,
    labelled: LabelledFaces,
    unlabelled: LabelledFaces | None,
    validation: LabelledFaces,
    checkpoint: Path | None = None,
) -> Trained:
    """Train two views and return them as they were at their best on the validation pictures.

    First the features with every loss but without relations; then, for `relation_steps`, with the relation network
    between the classifiers (the paper's two stages); the better stage is kept. With `last_layer` the classifiers are
    solved anew at the end of each stage, and taken where that betters the best score. A checkpoint is written at each
    evaluation, and one that is there is gone on from; the same recipe and data give the same weights, interrupted or
    not.
    """
    torch.manual_seed(recipe.seed)
    state = _start(recipe, labelled)
    if checkpoint is not None and checkpoint.is_file():
        _restore(state, recipe, labelled, checkpoint)
    total = recipe.steps + recipe.relation_steps
    pictures = torch.from_numpy(labelled.images), torch.from_numpy(labelled.labels)
    more = torch.from_numpy(unlabelled.images) if unlabelled is not None and recipe.unlabelled_batch else None
    shares = _shares(labelled)
    with progress(f"train {recipe.backbone} views", total) as advance:
        while state.step < total:
            if state.step == recipe.steps and state.model.first.relation is None:
                _begin_relations(state, recipe, labelled, validation)
            _step(state, recipe, pictures, more, shares)
            state.step += 1
            if state.step % recipe.evaluate_every == 0 or state.step in (recipe.steps, total):
                _evaluate(state, validation)
                advance(state.step, f"AUC {state.curve[-1]['auc']:.3f}, F1 {state.curve[-1]['f1']:.3f}")
                if checkpoint is not None:
                    save(state, "model", checkpoint)
                if state.waited >= recipe.patience:
                    _skip(state, recipe)
    trained = _best(state)
    better = _post_trained(trained.model, labelled, validation) if recipe.last_layer else None
    return trained if better is None else dataclasses.replace(trained, model=better[0], solved=True)


def logits(model: TwoViews, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each view's logits, [2, n, units]."""
    model.eval()
    with torch.no_grad():
        batches = torch.from_numpy(images).split(EVALUATION_BATCH)
        parts = [torch.stack(model(network_input(batch).to(model.device))).cpu() for batch in batches]
    return torch.cat(parts, dim=1).numpy()


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-values))


def _start(recipe: Recipe, labelled: LabelledFaces) -> State:
    _, channels, side, _ = labelled.images.shape
    model = TwoViews(recipe.backbone, channels, side, len(labelled.units)).to(recipe.device)
    # Depthwise convolutions take a third less time so; torch's types do not know the argument.
    model = cast(Any, model).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(recipe.seed)
    return State(model, torch.optim.Adam(model.parameters(), recipe.learning_rate), generator)


def _shares(labelled: LabelledFaces) -> Tensor:
    """Shares of positives asked of a batch: the paper's for its two sets of units, else each unit's own share."""
    published = PAPER_SHARES.get(labelled.units)
    known = np.maximum((labelled.labels != -1).sum(axis=0), 1)
    own = (labelled.labels == 1).sum(axis=0) / known
    return torch.tensor(published if published is not None else own, dtype=torch.float32)


def _begin_relations(state: State, recipe: Recipe, labelled: LabelledFaces, validation: LabelledFaces) -> None:
    """Begin the second stage with the best weights of the first."""
    state.model.load_state_dict(state.best_weights)
    better = _post_trained(state.model, labelled, validation) if recipe.last_layer else None
    if better is not None:
        state.best, state.best_weights, state.solved = better[1], better[0].state_dict(), True
        state.model.load_state_dict(state.best_weights)
    state.before_relations = state.best, state.best_weights
    state.waited, state.best = 0, -np.inf
    _relate(state, recipe, labelled)


def _relate(state: State, recipe: Recipe, labelled: LabelledFaces) -> None:
    adjacency = normalized(relations(labelled.labels))
    for view in (state.model.first, state.model.second):
        view.relate(adjacency)
    state.optimizer = torch.optim.Adam(state.model.parameters(), recipe.learning_rate)


def _best(state: State) -> Trained:
    """The weights of the best score on the validation pictures, with relations or without."""
    model = state.model
    if state.before_relations is not None and state.before_relations[0] >= state.best:
        model.first.relation = model.second.relation = None
        model.load_state_dict(state.before_relations[1])
    else:
        model.load_state_dict(state.best_weights)
    related = model.first.relation is not None
    return Trained(model.cpu().eval(), state.curve, related, state.solved and not related)


def _post_trained(model: TwoViews, labelled: LabelledFaces, validation: LabelledFaces) -> tuple[TwoViews, float] | None:
    """The views with their classifiers solved anew, and their score on the validation pictures where it is better."""
    solved = solve_last_layers(model, labelled, validation).eval()
    before, after = (_scored(views, validation).mean_auc for views in (model, solved))
    log.info("AUC %.4f, with the last layer solved anew %.4f", before, after)
    return (solved, after) if after > before else None


def _skip(state: State, recipe: Recipe) -> None:
    """End this stage of the training: what comes next starts from the best weights so far."""
    state.step = recipe.steps if state.step < recipe.steps else recipe.steps + recipe.relation_steps
    state.model.load_state_dict(state.best_weights)
    state.waited = 0


def _rate(step: int, recipe: Recipe) -> float:
    """The learning rate falls along half a cosine in each of the two stages."""
    within, length = (step, recipe.steps) if step < recipe.steps else (step - recipe.steps, recipe.relation_steps)
    return 0.5 * recipe.learning_rate * (1 + float(np.cos(np.pi * within / max(1, length))))


def _step(state: State, recipe: Recipe, pictures: tuple[Tensor, Tensor], more: Tensor | None, shares: Tensor) -> None:
    images, labels = pictures
    model, generator = state.model.train(), state.generator
    chosen = torch.randint(len(images), (recipe.batch,), generator=generator)
    batch, target = images[chosen], labels[chosen]
    if more is not None:
        extra = torch.randint(len(more), (recipe.unlabelled_batch,), generator=generator)
        batch = torch.cat([batch, more[extra]])
    inputs = augmented(batch, generator).to(recipe.device)
    first = model.first(inputs)
    second = model.second(augmented(batch, generator).to(recipe.device) if recipe.separate_augmentation else inputs)
    weights = selected(target, shares, generator) if recipe.selective else (target != -1).float()
    n, target, weights = len(target), target.to(recipe.device), weights.to(recipe.device)
    loss = (label_loss(first[:n], target, weights) + label_loss(second[:n], target, weights)) / 2
    if recipe.view_weight:
        loss = loss + recipe.view_weight * view_loss(model.first.rows(), model.second.rows())
    if recipe.agreement_weight:
        loss = loss + recipe.agreement_weight * agreement_loss(first, second)
    for group in state.optimizer.param_groups:
        group["lr"] = _rate(state.step, recipe)
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()


def _scored(model: TwoViews, validation: LabelledFaces) -> Recognition:
    """Of the mean of the two views' probabilities."""
    return recognition(sigmoid(logits(model, validation.images)).mean(axis=0), validation.labels)


def _evaluate(state: State, validation: LabelledFaces) -> None:
    found = _scored(state.model, validation)
    state.curve.append({"steps": state.step, "f1": found.mean_f1, "auc": found.mean_auc})
    log.info("step %d: mean F1 %.3f, AUC %.3f", state.step, found.mean_f1, found.mean_auc)
    if found.mean_auc > state.best:
        state.best, state.waited = found.mean_auc, 0
        state.best_weights = {name: value.clone() for name, value in state.model.state_dict().items()}
    else:
        state.waited += 1


def _restore(state: State, recipe: Recipe, labelled: LabelledFaces, path: Path) -> None:
    fields = load(path)
    if any("relation" in name for name in fields["model"]):
        _relate(state, recipe, labelled)
    restore(state, "model", fields)
