"""The study of the last layer: gains are measured as the product would gain them, and counted right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import last_layer_study
from policyport.pipeline.cli import main
from policyport.pipeline.last_layer_study import (
    HEADER,
    LastLayerRequest,
    LastLayerRow,
    note,
    study_last_layer,
    table,
    verdicts,
)

pytest.importorskip("torch")
pytest.importorskip("sklearn")
FLAGS = ["--networks", "mlp", "--bits", "2", "--methods", "nearest", "gptq", "--epochs", "15"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of one short training."""
    out = tmp_path_factory.mktemp("study") / "last-layer"
    (out.parent / "page.md").write_text("a\n<!-- figures:last-layer -->\nold\n<!-- /figures:last-layer -->\nz\n")
    assert main(["study", "last-layer", *FLAGS, "--out", str(out), "--page", str(out.parent / "page.md"), "-q"]) == 0
    return out


def test_every_cell_is_written_and_one_body_is_repaired(studied: Path) -> None:
    rows = json.loads((studied / "last-layer.json").read_text())["rows"]
    assert [(row["method"], row["bits"]) for row in rows] == [("nearest", 2), ("gptq", 2)]
    for found in rows:
        assert found["taken"] and found["sqnr_db_after"] > found["sqnr_db_before"] + 3
        assert found["gained"] - found["lost"] == pytest.approx(
            7.19 * (found["accuracy_after"] - found["accuracy_before"])
        )
        assert found["beyond_noise"] == "raised" and found["p_value"] < 0.01
    assert "| mlp | nearest | w2 | 1 |" in (studied / "last-layer.md").read_text()
    page = (studied.parent / "page.md").read_text()
    assert "old" not in page and (studied / "last-layer.md").read_text() in page and page.endswith("-->\nz\n")
    assert "<svg" in (studied / "last-layer.html").read_text()
    assert len((studied / "last-layer.csv").read_text().splitlines()) == 3


def test_nothing_is_measured_twice(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(last_layer_study, "_measured")
    request = LastLayerRequest(studied, ("mlp",), ("nearest", "gptq"), (2,), epochs=15)
    assert len(study_last_layer(request, lambda _: None)) == 2


def test_what_is_there_can_be_summed_up(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(last_layer_study, "_measured")
    request = LastLayerRequest(studied, ("mlp", "resnet"), bits=(2, 3), epochs=15, measured_only=True)
    assert {(row.network, row.method, row.bits) for row in study_last_layer(request, lambda _: None)} == {
        ("mlp", "nearest", 2),
        ("mlp", "gptq", 2),
    }
    with pytest.raises(ConfigError, match="nothing is measured"):
        study_last_layer(replace(request, epochs=14), lambda _: None)


def row(seed: int, gained: int, lost: int, *, taken: bool = True, noise: float = 1.0) -> LastLayerRow:
    """One of a thousand test images."""
    accuracy = 90.0 + (gained - lost) / 10
    return LastLayerRow("mlp", "nearest", 4, seed, taken, 90.0, accuracy, 20.0, 20.0 + noise, gained, lost)


def test_what_is_gained_and_lost_is_counted() -> None:
    rows = [row(0, 10, 0), row(1, 0, 5, noise=0.0), row(2, 3, 3, noise=-1.0), row(3, 0, 40, taken=False)]
    head, line, whole = table(rows)
    assert tuple(head) == HEADER and line[3:] == whole[3:]
    assert line[3:8] == ["4", "90.0", "-0.9 (-4.0 to +1.0)", "20.0", "+0.2 (-1.0 to +1.0)"]
    assert line[8:] == ["3", "1, 1, 1", "1, 0"]


def test_noise_is_told_apart_by_holm_among_those_that_are_taken() -> None:
    """Six to nothing is beyond noise once, not as one of many; what is not taken changes nothing."""
    assert verdicts([row(0, 0, 6), row(1, 6, 0, taken=False)]) == ["lowered", ""]
    assert verdicts([row(0, 0, 6), row(1, 3, 3)]) == ["", ""]
    assert verdicts([row(0, 20, 0), row(1, 0, 6), row(2, 0, 30)]) == ["raised", "lowered", "lowered"]
    assert "raised of 0 and lowered of 1." in note([row(0, 0, 6), row(1, 3, 3)])


@pytest.mark.parametrize("wrong", [{"networks": ("vgg",)}, {"bits": (8,)}, {"methods": ("qat",)}])
def test_what_is_not_there_is_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        study_last_layer(LastLayerRequest(tmp_path, **wrong), lambda _: None)
