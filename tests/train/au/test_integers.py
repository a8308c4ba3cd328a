"""Networks that see action units, trained on as integers: what is deployed is what training computed."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.artifact import Artifact, open_artifact
from policyport.core.errors import ArtifactError, ConfigError
from policyport.core.recognition import Recognition, averaged_thresholds, recognition
from policyport.deploy.config import DeployConfig
from policyport.deploy.host import HostLibrary
from policyport.deploy.program import quantize_input, read_program
from policyport.deploy.stage import deploy
from policyport.quantize import QuantizeConfig, quantize
from policyport.quantize.rounding.methods import rounding
from policyport.quantize.simulate import predict, simulate
from policyport.quantize.source import Source, open_source
from policyport.quantize.trained import INTEGERS, read_trained

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from policyport.train.au import integers as module  # noqa: E402
from policyport.train.au import stage  # noqa: E402
from policyport.train.au.config import AuConfig  # noqa: E402
from policyport.train.au.data import LabelledFaces  # noqa: E402
from policyport.train.au.finished import FILES  # noqa: E402
from policyport.train.au.integers import IntegerRecipe, learn_integers, start_integers, with_thresholds  # noqa: E402
from policyport.train.au.stage import train_au  # noqa: E402

LITTLE = AuConfig(
    persons=8, images_per_person=4, side=32, steps=6, relations=False, evaluate_every=3, batch=8,
    calibration_pictures=8, held_out_pictures=4, test_share=0.2, validation_share=0.2, qat_steps=5, qat_batch=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where faces are rendered to once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYPORT_CACHE", str(cache))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from the nearest integers: integer least squares takes these networks a minute."""
    monkeypatch.setattr(module, "rounding", lambda method, refit_bias: rounding("nearest", refit_bias=refit_bias))


@pytest.fixture(scope="module")
def network(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLICYPORT_CACHE", str(cache))
        return train_au(LITTLE, tmp_path_factory.mktemp("float") / "train").path


@pytest.fixture
def parts(network: Path) -> tuple[Source, LabelledFaces, LabelledFaces]:
    """The network as the quantize stage opens it, training and validation pictures."""
    training, validation, *_ = stage.pictures_of(LITTLE)
    return open_source(network), training, validation


def trained(network: Path, out: Path, **more: Any) -> Artifact:
    return train_au(AuConfig(network=network, **{"qat_weights": 3, "qat_steps": 5, "qat_batch": 4, **more}), out)


@pytest.mark.parametrize(
    "more",
    [
        {"qat_weights": 3},
        {"qat_weights": 2, "backbone": "depthwise"},
        {"qat_weights": 8, "qat_activations": 16, "views": 2},
    ],
)
def test_the_deployed_integers_are_those_that_training_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on PATH")
    seen: list[dict[str, np.ndarray[Any, Any]]] = []
    settled = module.FakeQuantized.settled

    def look(self: Any, observations: np.ndarray[Any, Any]) -> Any:
        seen.append(self.integers(torch.from_numpy(observations)))
        return settled(self, observations)

    monkeypatch.setattr(module.FakeQuantized, "settled", look)
    monkeypatch.setattr(module, "with_thresholds", lambda network, validation: network)
    config = dataclasses.replace(LITTLE, **more)
    made = train_au(config, tmp_path / "train")
    pictures = stage.pictures_of(config)[1].observations[: module.COMPARED]

    source = open_source(made.path)
    assert source.integers is not None
    reference = simulate(read_trained(source.graph, source.integers), pictures).tensors
    deployed = deploy(quantize(made.path, QuantizeConfig(), tmp_path / "quantize").path, DeployConfig(), tmp_path / "d")
    program = read_program(deployed.path)
    with HostLibrary(deployed.path / "src") as host:
        layers = [host.trace(row) for row in quantize_input(program, pictures)]
    compared = 0
    for name, q in seen[0].items():
        np.testing.assert_array_equal(reference[name], q, err_msg=name)
    for index, layer in enumerate(program.layers):
        wanted = seen[0].get(layer.output.name)
        if wanted is not None and wanted[0].size == layer.output.size:  # deploy takes out dead channels
            found = np.array([row[index] for row in layers]).reshape(len(wanted), *layer.output.shape)
            compared += np.array_equal(np.sort(found, axis=None), np.sort(wanted, axis=None))
    assert compared >= 2
    last = program.layers[-1].output.name
    np.testing.assert_array_equal(np.array([row[-1] for row in layers]).reshape(len(pictures), -1), seen[0][last])


def test_a_finished_network_is_trained_on_and_stays(network: Path, tmp_path: Path) -> None:
    made = trained(network, tmp_path / "train")
    for name in FILES:
        assert made.file(name).read_bytes() == (network / name).read_bytes()
    with made.file("integers.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["steps"]) for row in rows] == [0, 1, 2, 3, 4, 5]
    assert set(made.manifest.inputs) == {"network", "quantize"}
    assert 0 <= made.manifest.figures["integers_f1"] <= 1
    source = open_source(made.path)
    assert source.integers is not None
    integers = read_trained(source.graph, source.integers)
    assert {layer.weight_bits for layer in integers.layers} == {3}


def test_an_interrupted_training_ends_as_one_that_was_not(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(network, tmp_path / "whole")
    taken, step = 0, module._step

    def stop(*arguments: Any) -> None:
        nonlocal taken
        taken += 1
        if taken in (3, 5):
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(module, "_step", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(network, tmp_path / "cut")
    cut = trained(network, tmp_path / "cut")
    assert cut.file("integers.csv").read_text() == whole.file("integers.csv").read_text()
    with np.load(cut.file(INTEGERS)) as ours, np.load(whole.file(INTEGERS)) as theirs:
        assert set(ours.files) == set(theirs.files)
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert not (tmp_path / "cut.partial").exists()


@pytest.mark.parametrize("best", [0, 2])
def test_the_best_of_a_training_is_kept_its_start_included(
    parts: tuple[Source, LabelledFaces, LabelledFaces], monkeypatch: pytest.MonkeyPatch, best: int
) -> None:
    source, training, validation = parts
    scores = iter(Recognition(np.zeros(1), np.array([0.9 if at == best else 0.5])) for at in range(5))
    seen: list[dict[str, np.ndarray[Any, Any]]] = []
    evaluate = module._evaluate

    def look(state: module.State, *rest: Any) -> None:
        seen.append(state.module.integers(torch.from_numpy(validation.observations)))
        evaluate(state, *rest)

    monkeypatch.setattr(module, "_evaluate", look)
    monkeypatch.setattr(module, "recognition", lambda *given: next(scores))
    monkeypatch.setattr(module, "with_thresholds", lambda network, validation: network)
    found = learn_integers(IntegerRecipe(3, steps=4, batch=4, learning_rate=0.01), source, training, validation)
    assert len(seen) == 5 and [row["auc"] for row in found.curve].index(0.9) == best
    for name, q in simulate(found.network, validation.observations).tensors.items():
        np.testing.assert_array_equal(q, seen[best][name], err_msg=name)
    name = found.network.output_name
    assert not np.array_equal(seen[0][name], seen[2][name])


@pytest.mark.parametrize("views", [1, 2])
def test_thresholds_become_the_zero_of_the_outputs(tmp_path: Path, views: Any) -> None:
    """What lies above a unit's best threshold is called present, but for rounding, and where nothing saturates."""
    config = dataclasses.replace(LITTLE, views=views)
    source, (faces, *_) = open_source(train_au(config, tmp_path / "train").path), stage.pictures_of(config)
    network = start_integers(source, IntegerRecipe(4))
    last = network.layers[-1]
    away = np.rint(6 * network.output.scale / last.bias_scale).astype(np.int64)
    aside = dataclasses.replace(last, bias=last.bias - away)
    network = dataclasses.replace(network, nodes=tuple(aside if node is last else node for node in network.nodes))
    outputs = predict(network, faces.observations)
    thresholds = averaged_thresholds(outputs, faces.labels, faces.subjects)
    tuned = predict(with_thresholds(network, faces), faces.observations)
    assert recognition(tuned, faces.labels, 0.0).mean_f1 > recognition(outputs, faces.labels, 0.0).mean_f1
    free = (outputs > outputs.min()) & (outputs < outputs.max()) & (faces.labels == 1).any(axis=0)
    equal = (tuned > 0) == (outputs > thresholds)
    assert free.sum() >= 40 and equal[free].mean() >= (0.98 if views == 1 else 0.9)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"qat_weights": None}, "nothing to train of it"),
        ({"backbone": "depthwise"}, "backbone"),
        ({"persons": 9}, "persons"),
    ],
)
def test_options_that_contradict_the_network_are_refused(
    network: Path, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        trained(network, tmp_path / "train", **more)


def test_a_network_of_other_pictures_is_refused(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures_of = stage.pictures_of

    def altered(config: AuConfig) -> Any:
        training, *rest = pictures_of(config)
        return dataclasses.replace(training, images=training.images ^ 1), *rest

    monkeypatch.setattr(stage, "pictures_of", altered)
    with pytest.raises(ArtifactError, match="not those that the network was trained on"):
        trained(network, tmp_path / "train")


def test_integers_that_took_a_network_are_no_network_to_take(network: Path, tmp_path: Path) -> None:
    made = trained(network, tmp_path / "train", qat_steps=0)
    with pytest.raises(ArtifactError, match="without --network"):
        trained(made.path, tmp_path / "again")


def test_the_key_knows_the_network_and_how_it_is_quantized(network: Path) -> None:
    assert stage.data_inputs(LITTLE) == {}
    found = stage.data_inputs(AuConfig(network=network, qat_weights=3))
    assert found["network"] == open_artifact(network).key and set(found) == {"network", "quantize"}
