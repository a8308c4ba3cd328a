"""Training, its resume, and the network that leaves it, on pictures that a few steps can learn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from policyport.core.artifact import open_artifact
from policyport.core.task import LABELS_FILE, Task
from policyport.train.faces.units import EMOTIONET

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from policyport.train.au.augment import augmented, network_input  # noqa: E402
from policyport.train.au.config import AuConfig  # noqa: E402
from policyport.train.au.data import LabelledFaces, joined  # noqa: E402
from policyport.train.au.export import logit, write_views  # noqa: E402
from policyport.train.au.learner import Recipe, learn, logits  # noqa: E402
from policyport.train.au.stage import train_au  # noqa: E402

LITTLE = Recipe(steps=12, relation_steps=6, evaluate_every=4, batch=8, view_weight=1.0, agreement_weight=1.0)


def bright_corners(n: int = 40, seed: int = 0) -> LabelledFaces:
    """Pictures whose two units are bright corners, each subject on four of them."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (n, 2)).astype(np.int8)
    images = generator.integers(60, 120, (n, 1, 32, 32))
    images[:, 0, :16, :16] += 100 * labels[:, :1, None]
    images[:, 0, 16:, 16:] += 100 * labels[:, 1:, None]
    return LabelledFaces(images.astype(np.uint8), labels, np.repeat(np.arange(n // 4), 4).astype(np.int32), (1, 2))


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_corners_are_learnt() -> None:
    faces = bright_corners(80)
    recipe = dataclasses.replace(LITTLE, steps=80, relation_steps=0, batch=16, evaluate_every=40)
    found = learn(recipe, faces, None, bright_corners(40, 1))
    assert found.curve[-1]["auc"] > 0.95


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policyport.train.au import learner

    faces, more, validation = bright_corners(), bright_corners(seed=2).unlabelled(), bright_corners(20, 1)
    recipe = dataclasses.replace(LITTLE, unlabelled_batch=4)
    whole = learn(recipe, faces, more, validation)
    taken, step = 0, learner._step

    def stop(*arguments: object) -> None:
        nonlocal taken
        taken += 1
        if taken in (7, 14):
            raise KeyboardInterrupt
        step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(learner, "_step", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            learn(recipe, faces, more, validation, tmp_path / "checkpoint.pt")
    resumed = learn(recipe, faces, more, validation, tmp_path / "checkpoint.pt")
    assert resumed.curve == whole.curve and equal(resumed.model, whole.model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_learns_what_a_processor_learns(tmp_path: Path) -> None:
    faces, validation = bright_corners(80), bright_corners(40, 1)
    recipe = dataclasses.replace(LITTLE, unlabelled_batch=4, device="cuda")
    found = learn(recipe, faces, faces.unlabelled(), validation, tmp_path / "checkpoint.pt")
    again = learn(recipe, faces, faces.unlabelled(), validation, tmp_path / "checkpoint.pt")
    assert found.model.device.type == "cpu" and equal(found.model, again.model)
    processor = learn(dataclasses.replace(recipe, device="cpu"), faces, faces.unlabelled(), validation)
    assert found.curve[0]["auc"] == pytest.approx(processor.curve[0]["auc"], abs=0.05)


def test_what_is_not_labelled_teaches_by_agreement_alone() -> None:
    faces, validation = bright_corners().unlabelled(), bright_corners(20, 1)
    recipe = dataclasses.replace(LITTLE, steps=4, relation_steps=0, view_weight=0.0, agreement_weight=0.0)
    before = learn(dataclasses.replace(recipe, steps=1, learning_rate=0.0), faces, None, validation)
    after = learn(recipe, faces, None, validation)
    weights = [dict(model.named_parameters()) for model in (before.model, after.model)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_early_stopping_skips_to_the_second_stage() -> None:
    recipe = dataclasses.replace(LITTLE, steps=400, relation_steps=8, evaluate_every=1, patience=2, learning_rate=0.0)
    found = learn(recipe, bright_corners(), None, bright_corners(20, 1))
    assert len(found.curve) < 20 and found.curve[-1]["steps"] > recipe.steps


@pytest.mark.parametrize("better", [False, True])
def test_relations_stay_where_they_help(better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from policyport.train.au import learner

    def scored(state: learner.State, validation: LabelledFaces) -> None:
        score = 0.6 if (state.model.first.relation is not None) == better else 0.5
        state.curve.append({"steps": state.step, "f1": 0.0, "auc": score})
        if score > state.best:
            state.best = score
            state.best_weights = {name: value.clone() for name, value in state.model.state_dict().items()}

    monkeypatch.setattr(learner, "_evaluate", scored)
    found = learn(LITTLE, bright_corners(), None, bright_corners(20, 1))
    assert (found.model.first.relation is not None) == better


@pytest.mark.parametrize(("kind", "count"), [("plain", 1), ("plain", 2), ("depthwise", 2), ("resnet34", 1)])
def test_the_exported_network_computes_what_was_trained(kind: str, count: int, tmp_path: Path) -> None:
    import onnxruntime

    faces = bright_corners()
    recipe = dataclasses.replace(LITTLE, backbone=kind, steps=2, relation_steps=1)  # type: ignore[arg-type]
    model = learn(recipe, faces, None, faces).model
    thresholds = np.array([0.2, 0.7])
    views = [model.first, model.second][:count]
    expected = logits(model, faces.images)[:count].mean(axis=0) - logit(thresholds)
    write_views(views, thresholds, 32, 1, tmp_path / "view.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "view.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"observation": faces.images.reshape(len(faces), -1).astype(np.float32)})
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_augmentation_keeps_the_picture_a_picture() -> None:
    images = torch.from_numpy(bright_corners().images)
    made = augmented(images, torch.Generator().manual_seed(0))
    assert made.shape == images.shape and made.min() >= -2 and made.max() <= 2
    assert torch.equal(made, augmented(images, torch.Generator().manual_seed(0)))
    assert network_input(torch.tensor([[0, 128, 255]], dtype=torch.uint8)).tolist() == [[-2.0, 0.0, 127 / 64]]


def test_splits_share_no_subject_and_lose_none() -> None:
    faces = bright_corners(80)
    parts = faces.split(0.5, 0.25, seed=3)
    assert [len(part) for part in parts] == [40, 20, 20]
    subjects = [set(part.subjects.tolist()) for part in parts]
    assert not (subjects[0] & subjects[1] or subjects[1] & subjects[2] or subjects[0] & subjects[2])
    both = joined(faces, bright_corners(8))
    assert len(both) == 88 and len(np.unique(both.subjects)) == 22


def test_the_stage_writes_what_the_next_one_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
    config = AuConfig(
        persons=6, images_per_person=4, side=32, steps=2, relation_steps=1, evaluate_every=1, batch=4,
        calibration_pictures=5, held_out_pictures=3, test_share=0.2, validation_share=0.2, last_layer=True,
    )  # fmt: skip
    made = train_au(config, tmp_path / "train")
    artifact = open_artifact(made.path, "train")
    assert artifact.manifest.figures["last_layer"] in (False, True)
    task = Task.read(artifact.file("task.json"))
    assert task.kind == "classifier" and task.labels == tuple(f"AU{unit}" for unit in EMOTIONET)
    with np.load(artifact.file("observations.npz")) as stored, np.load(artifact.file(LABELS_FILE)) as labels:
        assert stored["observations"].shape == (5, 1024) and stored["held_out"].shape == (3, 1024)
        assert labels["held_out"].shape == (3, len(EMOTIONET))
    figures = json.loads(artifact.file("recognition.json").read_text())
    assert set(figures["units"]) == set(task.labels) and figures["test_pictures"] == 4
    outputs = np.array([[0.0, 2.0, -2.0] + [0.0] * 9], np.float32)
    assert (task.probabilities(outputs)[0] > task.thresholds).tolist()[1:3] == [True, False]
    assert not (tmp_path / "train.partial").exists()
