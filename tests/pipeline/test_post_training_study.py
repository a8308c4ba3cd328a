"""The study of the step in a training: points where they are asked for, gains as images judge them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import post_training_study
from policyport.pipeline.cli import main
from policyport.pipeline.post_training_study import DuringRequest, DuringRow, study_during, table

pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of one short training."""
    out = tmp_path_factory.mktemp("study") / "during"
    page = out.parent / "page.md"
    page.write_text("a\n<!-- figures:last-layer-during -->\nold\n<!-- /figures:last-layer-during -->\nz\n")
    flags = ["--epochs", "20", "--during", "0.1", "1", "--out", str(out), "--page", str(page), "-q"]
    assert main(["study", "last-layer", *flags]) == 0
    return out


def test_early_much_is_gained_and_late_little(studied: Path) -> None:
    early, late = json.loads((studied / "during.json").read_text())["rows"]
    with (studied / "during.csv").open() as stream:
        assert [row["gained"] for row in csv.DictReader(stream)] == [str(early["gained"]), str(late["gained"])]
    page = (studied / "during.html").read_text()
    assert page.count("<svg") == 1 and "src=" not in page
    assert (early["share"], early["epoch"], late["share"], late["epoch"]) == (0.1, 2, 1.0, 20)
    assert early["taken"] and early["accuracy_after"] > early["accuracy_before"] + 5
    assert early["loss_after"] < 0.5 * early["loss_before"]
    assert abs(late["accuracy_after"] - late["accuracy_before"]) < 3
    text = (studied.parent / "page.md").read_text()
    assert "old" not in text and "| mlp | 10% | 1 | 1 |" in text and text.endswith("-->\nz\n")


def test_nothing_is_measured_twice(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(post_training_study, "_measured")
    request = DuringRequest(studied, ("mlp",), epochs=20, shares=(1.0, 0.1))
    assert [row.share for row in study_during(request, lambda _: None)] == [0.1, 1.0]
    more = DuringRequest(studied, epochs=20, shares=(0.1, 1.0), measured_only=True)
    assert {row.network for row in study_during(more, lambda _: None)} == {"mlp"}


def test_a_line_sums_up_its_trainings() -> None:
    rows = [
        DuringRow("mlp", 0, 0.1, 6, True, 80.0, 90.0, 0.5, 0.25, 80, 10),
        DuringRow("mlp", 1, 0.1, 6, True, 90.0, 89.0, 0.4, 0.35, 1, 8),
        DuringRow("mlp", 0, 1.0, 60, False, 97.0, 97.0, 0.1, 0.1, 0, 0),
    ]
    _, early, late = table(rows)
    assert early == ["mlp", "10%", "2", "2", "85.0", "+4.5 (-1.0 to +10.0)", "0.450", "0.300", "1, 1"]
    assert late == ["mlp", "100%", "1", "0", "97.0", "+0.0 (+0.0 to +0.0)", "0.100", "0.100", "0, 0"]


@pytest.mark.parametrize("wrong", [{"networks": ("vgg",)}, {"shares": (0.0,)}, {"shares": (1.5,)}])
def test_what_is_not_there_is_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        study_during(DuringRequest(tmp_path, **wrong), lambda _: None)
    with pytest.raises(ConfigError, match="nothing is measured"):
        study_during(DuringRequest(tmp_path, measured_only=True), lambda _: None)
