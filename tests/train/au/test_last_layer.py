"""Classifiers of action units solved anew: for each unit where validation gains, at the end of each stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from policyport.train.au import learner  # noqa: E402
from policyport.train.au.data import LabelledFaces  # noqa: E402
from policyport.train.au.last_layer import solve_last_layers  # noqa: E402
from policyport.train.au.learner import Recipe, learn, logits  # noqa: E402
from policyport.train.au.networks import TwoViews  # noqa: E402
from policyport.train.au.relations import normalized, relations  # noqa: E402

LITTLE = Recipe(steps=12, relation_steps=6, evaluate_every=4, batch=8, view_weight=1.0, last_layer=True)


def bright_corners(n: int = 40, seed: int = 0) -> LabelledFaces:
    """Pictures of noise whose two units are bright corners; one label in five is unknown."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (n, 2)).astype(np.int8)
    images = generator.integers(0, 150, (n, 1, 32, 32))
    images[:, 0, :16, :16] += 60 * labels[:, :1, None]
    images[:, 0, 16:, 16:] += 60 * labels[:, 1:, None]
    labels[generator.random((n, 2)) < 0.2] = -1
    return LabelledFaces(images.astype(np.uint8), labels, np.arange(n).astype(np.int32), (1, 2))


def cross_entropy(model: TwoViews, faces: LabelledFaces) -> np.ndarray:
    """[views, units], mean over the pictures whose label is known."""
    z, known = logits(model, faces.images), faces.labels != -1
    each = np.logaddexp(0, z) - z * (faces.labels == 1)
    return (each * known).sum(axis=1) / known.sum(axis=0)


@pytest.mark.parametrize("related", [False, True])
def test_no_unit_loses_on_the_validation_pictures(related: bool) -> None:
    labelled, validation = bright_corners(120), bright_corners(60, 1)
    torch.manual_seed(0)
    model = TwoViews("plain", 1, 32, 2).eval()
    if related:
        for view in (model.first, model.second):
            view.relate(normalized(relations(labelled.labels)))
            with torch.no_grad():
                view.relation.first.weight.mul_(3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    solved = solve_last_layers(model, labelled, validation)
    losses = [cross_entropy(each, validation) for each in (model, solved)]
    assert (losses[1] <= losses[0] + 1e-6).all() and (losses[1] < losses[0]).any()
    assert (model.first.relation is not None) == related and solved.first.relation is None
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    features = {name: value for name, value in solved.state_dict().items() if ".features." in name}
    assert features and all(torch.equal(value, before[name]) for name, value in features.items())


@pytest.mark.parametrize("gains", [False, True])
def test_each_stage_takes_what_scores_better(gains: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the relation network folded away where it is solved behind."""
    asked: list[bool] = []

    def solve(model: TwoViews, *_: object) -> TwoViews:
        found = solve_last_layers(model, bright_corners(120), bright_corners(60, 1))
        asked.append(model.first.relation is not None)
        for view in (found.first, found.second):
            with torch.no_grad():
                view.classifier.weight.mul_(1.0 if gains else -1.0)
                view.classifier.bias.mul_(1.0 if gains else -1.0)
        return found

    faces, validation = bright_corners(), bright_corners(60, 1)
    plain = learn(dataclasses.replace(LITTLE, last_layer=False), faces, None, validation)
    monkeypatch.setattr(learner, "solve_last_layers", solve)
    found = learn(LITTLE, faces, None, validation)
    scores = [learner._scored(each.model, validation).mean_auc for each in (plain, found)]
    assert len(asked) == 2 and not asked[0]
    if gains:
        assert found.solved and found.model.first.relation is None and scores[1] > scores[0]
    else:
        assert not found.solved and scores[1] == scores[0] and found.curve == plain.curve


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces, validation = bright_corners(), bright_corners(20, 1)
    whole = learn(LITTLE, faces, None, validation)
    taken, step = 0, learner._step

    def stop(*arguments: object) -> None:
        nonlocal taken
        taken += 1
        if taken == 14:
            raise KeyboardInterrupt
        step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(learner, "_step", stop)
    with pytest.raises(KeyboardInterrupt):
        learn(LITTLE, faces, None, validation, tmp_path / "checkpoint.pt")
    resumed = learn(LITTLE, faces, None, validation, tmp_path / "checkpoint.pt")
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert resumed.curve == whole.curve and all(torch.equal(a, b) for a, b in pairs)
