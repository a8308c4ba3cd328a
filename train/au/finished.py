"""A finished train artifact whose network is taken: its options, its faces made anew, its files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from policyport.core.artifact import Artifact, ArtifactWriter, open_artifact
from policyport.core.errors import ArtifactError, ConfigError
from policyport.core.options import from_table
from policyport.core.task import LABELS_FILE, Task
from policyport.train.au.config import AuConfig

if TYPE_CHECKING:
    from policyport.train.au.data import LabelledFaces

ALGORITHM = "MLCR"
"""That the task of a network for action units names."""

FILES = ("policy.onnx", "task.json", "observations.npz", LABELS_FILE, "recognition.json", "curve.csv")
"""What is taken as it is."""

OWN = ("network", "qat_weights", "qat_activations", "qat_steps", "qat_batch", "qat_learning_rate")
OF_MACHINE = ("threads", "device", "processes")


def finished(config: AuConfig) -> tuple[Artifact, AuConfig]:
    """The artifact that ``network`` names, and the options that it was trained with, the integers' own as given.

    :raises ArtifactError: it is torn, or not of a network for action units
    :raises ConfigError: nothing is to be done with it, or an option is given that it was not trained with
    """
    assert config.network is not None
    if config.qat_weights is None:
        raise ConfigError(
            "a finished network, and nothing to train of it", where="network", expected="with qat_weights", got="none"
        )
    artifact = open_artifact(config.network, "train")
    algorithm = Task.read(artifact.file("task.json")).algorithm
    if algorithm != ALGORITHM or artifact.manifest.config.get("network"):
        raise ArtifactError(
            "no network that was trained to see action units",
            where=config.network,
            expected="what policyport train au wrote without --network",
            got=algorithm if algorithm != ALGORITHM else f"one that took {artifact.manifest.config['network']}",
        )
    recorded = from_table(AuConfig, artifact.manifest.config, str(config.network))
    for field in dataclasses.fields(AuConfig):
        given, trained = getattr(config, field.name), getattr(recorded, field.name)
        if field.name not in (*OWN, *OF_MACHINE) and given not in (field.default, trained):
            raise ConfigError(
                "an option that the network was not trained with",
                where=f"{field.name}, network {config.network}",
                expected=trained,
                got=given,
                cure=f"leave {field.name} out: the network's own options are taken",
            )
    chosen = {name: getattr(config, name) for name in (*OWN, *OF_MACHINE)}
    return artifact, dataclasses.replace(recorded, **chosen)


def take(artifact: Artifact, training: LabelledFaces, test: LabelledFaces, writer: ArtifactWriter) -> None:
    """Copy the files of an artifact whose pictures were made anew.

    :raises ArtifactError: they are not those that it was trained on
    """
    with np.load(artifact.file("observations.npz")) as stored:
        recorded = {name: stored[name] for name in ("observations", "held_out")}
    for name, pictures in (("observations", training), ("held_out", test)):
        chosen = some(len(pictures), len(recorded[name]), artifact.manifest.config["seed"])
        if not np.array_equal(recorded[name], pictures.take(chosen).observations):
            raise ArtifactError(
                "the pictures are not those that the network was trained on",
                where=artifact.path,
                expected=f"the {name} of its observations.npz",
                got=f"others, out of {len(pictures)} pictures",
                cure="train anew with this version, on these pictures",
            )
    for name in FILES:
        writer.copy(artifact.file(name))
    writer.figures.update(artifact.manifest.figures)


def some(count: int, wanted: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """At most `wanted` of `count` indices, drawn without order lost."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:wanted])
