"""The training of a network that sees action units, as the train stage: the artifact that later stages take."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from policyport.core.artifact import (
    Artifact,
    code_version,
    input_key,
    open_artifact,
    partial_folder,
    sha256_file,
    sha256_json,
    stage_key,
    write_artifact,
)
from policyport.core.errors import ConfigError, ToolError
from policyport.core.install import pip_install
from policyport.core.options import to_table
from policyport.core.task import LABELS_FILE, Environment, Task
from policyport.train.au.config import AuConfig
from policyport.train.au.finished import ALGORITHM, finished, some, take

if TYPE_CHECKING:
    from policyport.train.au.data import LabelledFaces
    from policyport.train.au.learner import Recipe, Trained

_ROOT = Path(__file__).resolve().parents[1]
CODE = (
    *(_ROOT / name for name in ("au", "faces", "last_layer.py", "onnx_writer.py", "rollouts.py")),
    *(_ROOT.parent / name for name in ("core", "quantize/last_layer.py")),
)
"""Source that the stage's key depends on."""


def train_au(config: AuConfig, out: Path) -> Artifact:
    """Train two views on labelled and unlabelled faces, and export what is deployed.

    Writes ``policy.onnx``, ``task.json``, ``observations.npz`` with the test pictures' labels beside them,
    ``recognition.json`` (F1 and AUC of each unit) and ``curve.csv``; ``integers.npz`` and ``integers.csv`` too, where
    what is deployed was trained on as integers. Interrupted, it leaves ``<out>.partial`` and goes on from there.

    :raises ArtifactError: labelled data that do not read as their format, or a network whose pictures are others
    :raises ConfigError: options that contradict each other, or a GPU that torch does not see
    :raises ParityError: the trained integers are not those that training computed
    :raises ToolError: torch or numba is not installed
    """
    _require(config.device)
    import torch
    from policyport.train.au.learner import learn

    code, inputs = code_version(*CODE), data_inputs(config)
    partial = partial_folder(out, stage_key("train", inputs, to_table(config), code))
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        artifact, own = (None, config) if config.network is None else finished(config)
        training, validation, test, unlabelled = pictures_of(own)
        trained = None
        if artifact is None:
            trained = learn(recipe_of(config), training, unlabelled, validation, partial / "checkpoint.pt")
        with write_artifact(out, "train", inputs=inputs, config=to_table(config), code=code) as writer:
            if trained is not None:
                writer.figures.update(_export(config, trained, (training, validation, test), writer.path))
            elif artifact is not None:
                take(artifact, training, test, writer)
            if own.qat_weights is not None:
                parts = training, validation, test
                writer.figures.update(_train_integers(own, parts, writer.path, partial / "integers.pt"))
    finally:
        torch.set_num_threads(threads)
    shutil.rmtree(partial.parent, ignore_errors=True)
    return open_artifact(out, "train")


def data_inputs(config: AuConfig) -> dict[str, str]:
    """Hashes of the folders that are trained on: every file's path, size and time, and what text files hold.

    Of a finished network that is taken its key, and of the source of quantization, where integers are trained.
    """
    more = {} if config.qat_weights is None else {"quantize": code_version(_ROOT.parent / "quantize")}
    if config.network is not None:
        more["network"], (_, config) = input_key(config.network), finished(config)
    folders = {"labelled": config.labelled, "unlabelled": config.unlabelled}
    found = {name: _folder_hash(folder) for name, folder in folders.items() if folder is not None and folder.is_dir()}
    return found | more


def _folder_hash(folder: Path) -> str:
    listed = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat, text = path.stat(), path.suffix.lower() in (".txt", ".csv")
        name = path.relative_to(folder).as_posix()
        listed[name] = sha256_file(path) if text else f"{stat.st_size} {stat.st_mtime_ns}"
    return sha256_json(listed)


def recipe_of(config: AuConfig) -> Recipe:
    """The learner's part of the options."""
    from policyport.train.au.learner import Recipe

    return Recipe(
        backbone=config.backbone,
        view_weight=config.view_weight,
        agreement_weight=config.agreement_weight,
        relation_steps=config.relation_steps if config.relations else 0,
        steps=config.steps,
        batch=config.batch,
        unlabelled_batch=config.unlabelled_batch,
        learning_rate=config.learning_rate,
        separate_augmentation=config.separate_augmentation,
        selective=config.selective,
        evaluate_every=config.evaluate_every,
        patience=config.patience,
        last_layer=config.last_layer,
        seed=config.seed,
        device=config.device,
    )


def _require(device: str) -> None:
    try:
        import numba  # noqa: F401 -- only to see that it is there
        import torch
    except ImportError as error:
        raise ToolError(
            "a package that trains on faces is not installed", got=error, cure=pip_install("[au]")
        ) from error
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA GPU", where="device", expected="cpu", got=device, cure="--device cpu")


def pictures_of(config: AuConfig) -> tuple[LabelledFaces, LabelledFaces, LabelledFaces, LabelledFaces | None]:
    """Training, validation and test faces, no subject in two of them, and those without labels.

    :raises ConfigError: a format without a folder or the reverse, or a fold that the format does not have
    :raises ArtifactError: a folder that does not read as its format
    """
    from policyport.train.au.formats import READERS
    from policyport.train.au.photographs import photographs, subjects_of, unlabelled

    if (config.labelled is None) != (config.format == "rendered"):
        raise ConfigError(
            "a folder of labelled pictures goes with its format",
            where="labelled, format",
            expected="both, or neither for rendered faces",
            got=f"labelled {config.labelled}, format {config.format}",
        )
    listing = None if config.labelled is None else READERS[config.format](config.labelled)
    folds = () if listing is None else listing.folds
    if config.fold > len(folds):
        raise ConfigError(
            "no such published fold",
            where="fold",
            expected=f"{len(folds)} at the most of {config.format}",
            got=config.fold,
        )
    more = _rendered(config, config.persons, config.unlabelled_persons) if config.unlabelled_persons else None
    if config.unlabelled is not None:
        more = photographs(unlabelled(config.unlabelled), config.units, config.side, colour=config.colour)
    if listing is None:
        labelled, test = _rendered(config, 0, config.persons), None
    else:
        labelled = photographs(listing, config.units, config.side, colour=config.colour)
        tested = subjects_of(listing, labelled, folds[config.fold - 1]) if config.fold else None
        test = None if tested is None else labelled.take(tested)
        labelled = labelled if tested is None else labelled.take(~tested)
    test_share = 0.0 if test is not None else config.test_share
    training, validation, rest = labelled.split(
        1 - config.validation_share - test_share, config.validation_share, seed=config.seed
    )
    parts = training, validation, rest if test is None else test
    if not all(map(len, parts)):
        raise ConfigError(
            "too few subjects to train, to validate and to test",
            where="labelled",
            expected="subjects in each part",
            got=" / ".join(str(len(part)) for part in parts) + " pictures",
        )
    return *parts, None if more is None else more.unlabelled()


def _rendered(config: AuConfig, first: int, count: int) -> LabelledFaces:
    from policyport.train.au.data import rendered
    from policyport.train.faces.dataset import FaceSpec, faces

    spec = FaceSpec(count, config.images_per_person, config.side, config.seed, first)
    return rendered(faces(spec, config.processes), config.units, colour=config.colour)


def _export(
    config: AuConfig, trained: Trained, parts: tuple[LabelledFaces, LabelledFaces, LabelledFaces], folder: Path
) -> dict[str, Any]:
    from policyport.core.recognition import recognition, tuned_thresholds
    from policyport.train.au.export import write_views
    from policyport.train.au.learner import logits, sigmoid

    training, validation, test = parts
    kept = slice(0, config.views)

    def deployed(pictures: LabelledFaces) -> Any:
        return sigmoid(logits(trained.model, pictures.images)[kept].mean(axis=0))

    thresholds = np.clip(tuned_thresholds(deployed(validation), validation.labels), 0.01, 0.99)
    channels = test.images.shape[1]
    views = [trained.model.first, trained.model.second][kept]
    parameters = write_views(views, thresholds, config.side, channels, folder / "policy.onnx")
    _task(config, thresholds, channels).write(folder / "task.json")
    calibration = some(len(training), config.calibration_pictures, config.seed)
    held_out = some(len(test), config.held_out_pictures, config.seed)
    np.savez_compressed(
        folder / "observations.npz",
        observations=training.take(calibration).observations,
        held_out=test.take(held_out).observations,
    )
    np.savez_compressed(folder / LABELS_FILE, held_out=test.labels[held_out])
    fixed, tuned = (recognition(deployed(test), test.labels, limit) for limit in (0.5, thresholds))
    both = recognition(trained.probabilities(test.images), test.labels)
    names = [f"AU{unit}" for unit in config.units]
    mean = {"f1_at_half": fixed.mean_f1, "f1": tuned.mean_f1, "auc": tuned.mean_auc, "auc_both": both.mean_auc}
    table = {
        "test_pictures": len(test),
        "mean": mean,
        "units": {
            name: {"threshold": float(limit), "f1_at_half": float(half), "f1": float(f1), "auc": float(auc)}
            for name, limit, half, f1, auc in zip(names, thresholds, fixed.f1, tuned.f1, tuned.auc, strict=True)
        },
    }
    (folder / "recognition.json").write_text(json.dumps(table, indent=2) + "\n")
    _write_curve(trained.curve, folder / "curve.csv")
    made_by = {"relations": trained.related, **({"last_layer": trained.solved} if config.last_layer else {})}
    return {"parameters": parameters, "training_pictures": len(training), **made_by, **mean}


def _train_integers(
    config: AuConfig, parts: tuple[LabelledFaces, LabelledFaces, LabelledFaces], folder: Path, checkpoint: Path
) -> dict[str, Any]:
    """Train the exported network on as integers, and write these beside it."""
    from policyport.core.recognition import recognition
    from policyport.quantize.simulate import predict
    from policyport.quantize.source import open_source
    from policyport.quantize.trained import INTEGERS, write_trained
    from policyport.train.au.integers import IntegerRecipe, learn_integers

    training, validation, test = parts
    assert config.qat_weights is not None
    recipe = IntegerRecipe(
        weight_bits=config.qat_weights,
        activation_bits=config.qat_activations,
        steps=config.qat_steps,
        batch=config.qat_batch,
        learning_rate=config.qat_learning_rate,
        seed=config.seed,
        device=config.device,
    )
    found = learn_integers(recipe, open_source(folder / "policy.onnx"), training, validation, checkpoint)
    write_trained(found.network, folder / INTEGERS)
    _write_curve(found.curve, folder / "integers.csv")
    seen = recognition(predict(found.network, test.observations), test.labels, 0.0)
    return {"integers_f1": seen.mean_f1, "integers_auc": seen.mean_auc}


def _write_curve(curve: list[dict[str, float]], path: Path) -> None:
    with path.open("w", newline="") as stream:
        rows = csv.DictWriter(stream, list(curve[0]))
        rows.writeheader()
        rows.writerows(curve)


def _task(config: AuConfig, thresholds: Any, channels: int) -> Task:
    from importlib.metadata import version

    size = channels * config.side**2
    return Task(
        kind="classifier",
        name=f"AU-{config.backbone}-{config.side}",
        environment=Environment(config.format, {}, {name: version(name) for name in ("torch", "numpy", "onnx")}),
        observation_size=size,
        observation_low=(0.0,) * size,
        observation_high=(255.0,) * size,
        output_size=len(config.units),
        action_rule="threshold",
        action_shape=(len(config.units),),
        algorithm=ALGORITHM,
        labels=tuple(f"AU{unit}" for unit in config.units),
        thresholds=tuple(float(value) for value in thresholds),
    )
