"""A torch module, or a file of torch.export, is quantized as the network that torch computes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ArtifactError, ObservationError, UnsupportedModelError
from policyport.core.task import Task
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.onnx_reader import read_onnx
from policyport.quantize.stage import quantize
from policyport.quantize.torch_model import write_module

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.filterwarnings("ignore")
nn = torch.nn


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Linear(6 * 2 * 2, 3)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.first(x)
        x = nn.functional.avg_pool2d(torch.relu(self.second(x) + x), 4)
        return self.out(x.view(x.size(0), -1))


@pytest.fixture(scope="module")
def network():  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    return Residual().eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((60, 3, 8, 8), np.float32)


def outputs(network, images):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("labelled", [False, True])
def test_a_module_becomes_what_quantize_takes(network, images, labelled, tmp_path) -> None:
    classes = outputs(network, images[40:]).argmax(axis=1) if labelled else None
    path = write_module(network, tmp_path / "net", images[:40], images[40:], labels=classes)
    found = quantize(path, QuantizeConfig(activations="int8", weight_bits=4), tmp_path / "quantize")
    assert found.manifest.figures["sqnr_db"] > 15
    task = Task.read(path.with_name("task.json"))
    assert task.kind == ("classifier" if labelled else "policy") and task.observation_size == 3 * 8 * 8
    assert path.with_name("labels.npz").is_file() == labelled


@pytest.mark.parametrize("batch", ["any", 1])
def test_a_saved_program_is_read(network, images, batch, tmp_path) -> None:
    write_module(network, tmp_path, images[:40], images[40:])
    path = save(network, tmp_path / "saved.pt2", batch)
    assert np.allclose(read_onnx(path).evaluate(images.reshape(60, -1)), outputs(network, images), atol=1e-5)
    found = quantize(path, QuantizeConfig(activations="int8"), tmp_path / "quantize")
    assert np.allclose(
        read_onnx(found.file("float.onnx")).evaluate(images.reshape(60, -1)), outputs(network, images), atol=1e-5
    )


def test_a_batch_of_a_fixed_size_names_the_cure(network, tmp_path) -> None:
    with pytest.raises(UnsupportedModelError, match="fixed size") as error:
        read_onnx(save(network, tmp_path / "saved.pt2", 3))
    assert "dynamic_shapes" in str(error.value.cure)


@pytest.mark.parametrize("name", ["model.pt", "model.pth"])
def test_a_pickled_module_is_refused_unread(name, tmp_path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(UnsupportedModelError, match="pickled") as error:
        read_onnx(tmp_path / name)
    assert "torch.export.save" in str(error.value.cure)


def test_pickled_weights_in_a_program_are_refused(network, tmp_path) -> None:
    path = save(network, tmp_path / "saved.pt2", 1)
    changed = tmp_path / "changed.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("weights_config.json"):
                table = json.loads(content)
                next(iter(table["config"].values()))["use_pickle"] = True
                content = json.dumps(table).encode()
            new.writestr(name, content)
    with pytest.raises(ArtifactError, match="pickled parts") as error:
        read_onnx(changed)
    assert error.value.got == "first.0.weight"


@pytest.mark.parametrize("cut", [0, 100, 5_000])
def test_a_torn_program_is_one_clear_error(network, cut, tmp_path) -> None:
    path = save(network, tmp_path / "saved.pt2", 1)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match="torn"):
        read_onnx(path)


def test_an_archive_without_a_program_is_one_clear_error(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("note", "nothing of torch")
    with pytest.raises(ArtifactError, match="torch does not load it"):
        read_onnx(tmp_path / "other.pt2")


class Sorted(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return torch.sort(x, dim=1)[0]


def test_an_unsupported_operator_is_named(tmp_path) -> None:
    features = np.random.default_rng(0).random((20, 4), np.float32)
    with pytest.raises(UnsupportedModelError, match="TopK"):
        write_module(Sorted(), tmp_path, features[:10], features[10:])


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros(3, np.int64)},
        {"labels": np.full(20, 7)},
        {"held_out": np.zeros((20, 3, 8, 4), np.float32)},
        {"observations": np.zeros((0, 3, 8, 8), np.float32)},
    ],
)
def test_what_does_not_fit_is_refused(network, images, change, tmp_path) -> None:
    given = {"observations": images[:40], "held_out": images[40:], **change}
    with pytest.raises(ObservationError):
        write_module(network, tmp_path, **given)


def save(network, path: Path, batch: str | int) -> Path:  # type: ignore[no-untyped-def]
    shapes = ({0: torch.export.Dim("n")},) if batch == "any" else None
    example = torch.zeros(2 if batch == "any" else int(batch), 3, 8, 8)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), path)
    return path
