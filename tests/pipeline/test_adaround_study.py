"""The study of AdaRound's variants: every answer in its table, nothing measured twice, what cannot be is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import adaround_study
from policyport.pipeline.adaround_study import (
    AdaRoundRequest,
    AdaRoundRow,
    study_adaround,
    tables,
    to_markdown,
    variants,
)
from policyport.pipeline.cells import cell
from policyport.pipeline.cli import main

pytest.importorskip("torch")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of few iterations."""
    out = tmp_path_factory.mktemp("study") / "adaround"
    flags = ["--bits", "2", "--samples", "3", "--iterations", "5", "--epochs", "1"]
    assert main(["study", "adaround", *flags, "--out", str(out), "-q"]) == 0
    return out


def test_every_variant_is_measured_and_written(studied: Path) -> None:
    rows = json.loads((studied / "adaround.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == list(variants())
    draws = {row["variant"]: len(set(row["sqnr_db"])) for row in rows}
    assert draws.pop("stochastic") == 3 and set(draws.values()) == {1}
    by_name = {row["variant"]: row["sqnr_db"][0] for row in rows}
    assert by_name["nearest"] > max(by_name["floor"], by_name["ceil"])
    lines = list(csv.DictReader((studied / "adaround.csv").read_text().splitlines()))
    assert len(lines) == len(rows) + 2
    page = (studied / "adaround.html").read_text()
    assert "<svg" in page and "best of 3 by chance" in page and "sigmoid, its temperature annealed" in page
    text = (studied / "adaround.md").read_text()
    assert all(f"| {question} | mlp w2: dB, % |" in text for question in ("Rounding", "Grid", "Reconstruction"))


def test_nothing_is_measured_twice(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(adaround_study, "_measure")
    seen: list[AdaRoundRow] = []
    rows = study_adaround(AdaRoundRequest(studied, bits=(2,), samples=3, iterations=5, epochs=1), seen.append)
    assert len(rows) == len(seen) == len(variants())
    with pytest.raises(NameError):
        study_adaround(AdaRoundRequest(studied, bits=(2,), samples=3, iterations=6, epochs=1), seen.append)


def test_what_is_there_can_be_summed_up(studied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A width of which nothing, or not all, is measured is left out."""
    torn = tmp_path / "adaround"
    shutil.copytree(studied, torn)
    whole = (studied / "adaround.md").read_text()
    for file in (studied / "cells").glob("*.json"):
        if "floor" not in file.name:
            shutil.copy(file, torn / "cells" / file.name.replace("w2", "w3"))
    flags = ["--bits", "3", "2", "--samples", "3", "--iterations", "5", "--epochs", "1", "--measured-only"]
    assert main(["study", "adaround", *flags, "--out", str(torn), "-q"]) == 0
    assert (torn / "adaround.md").read_text() == whole
    assert main(["study", "adaround", *flags, "--out", str(tmp_path / "none")]) == 2
    assert "nothing is measured" in capsys.readouterr().err


def test_trainings_are_counted_by_network_and_width() -> None:
    rows = [AdaRoundRow("mlp", bits, 0, name, (20.0,), (90.0,)) for bits in (4, 3) for name in variants()]
    assert to_markdown(rows).endswith("1 training of each network.\n")
    rows += [AdaRoundRow("mlp", 4, 1, name, (20.0,), (90.0,)) for name in variants()]
    assert to_markdown(rows).endswith("trainings: mlp w4 2, mlp w3 1.\n")


def test_what_chance_does_is_told_as_mean_best_and_share() -> None:
    rows = [AdaRoundRow("mlp", 4, seed, name, (20.0,), (90.0,)) for seed in (0, 1) for name in variants()]
    rows = [row for row in rows if row.variant != "stochastic"]
    rows += [AdaRoundRow("mlp", 4, seed, "stochastic", (19.0, 21.0 + seed), (88.0, 90.0)) for seed in (0, 1)]
    lines = {line[0]: line[1] for line in dict(tables(rows))["Rounding"]}
    assert lines["by chance"] == "20.2 ± 1.5, 89.0 ± 1.2"
    assert lines["best of 2 by chance"] == "21.5, 90.0"
    assert lines["of these better than nearest"] == "50%, 0%"


@pytest.mark.parametrize("wrong", [{"networks": ("vgg",)}, {"bits": (5,)}, {"samples": 0}])
def test_what_is_not_there_is_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        study_adaround(AdaRoundRequest(tmp_path, **wrong), lambda _: None)


def test_a_cell_is_measured_again_where_its_file_is_torn_or_of_another(tmp_path: Path) -> None:
    measured = iter([{"x": 1}, {"x": 2}, {"x": 3}])
    first = cell(tmp_path, "a", {"bits": 4}, lambda: next(measured))
    assert first == cell(tmp_path, "a", {"bits": 4}, lambda: next(measured)) == {"x": 1}
    assert cell(tmp_path, "a", {"bits": 3}, lambda: next(measured)) == {"x": 2}
    (tmp_path / "a.json").write_text('{"key": "torn')
    assert cell(tmp_path, "a", {"bits": 3}, lambda: next(measured)) == {"x": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
