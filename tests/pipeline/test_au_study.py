"""The study of MLCR's losses: its grid, its cells, its tables, on trainings of a few steps."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import au_study
from policyport.pipeline.au_study import AuCell, AuResult, gain, grid, markdown, rows_of, run_au_study, units_markdown
from policyport.pipeline.cli import main


def test_unlabelled_pictures_count_only_where_they_teach() -> None:
    cells = grid(("labels", "+cr", "+gcn", "all"), ("same",), (5,), (0, 9), (0, 1), 10, 4)
    settings = {(cell.variant, cell.unlabelled, cell.relation_steps) for cell in cells}
    assert settings == {
        ("labels", 0, 0), ("+gcn", 0, 4), ("+cr", 0, 0), ("+cr", 9, 0), ("all", 0, 4), ("all", 9, 4),
    }  # fmt: skip
    assert len(cells) == 12 and len({cell.name for cell in cells}) == 12


def test_gains_are_paired_by_seed() -> None:
    found = []
    for variant, scores in (("labels", (0.4, 0.5)), ("all", (0.45, 0.53))):
        for seed, f1 in enumerate(scores):
            cell = AuCell(variant, "gap", 5, 0, seed, 1, 0 if variant == "labels" else 2)
            units = {"AU1": {"f1_at_half": f1 - 0.1, "f1": f1, "auc": 0.8}}
            found.append((cell, AuResult(f1, 0.8, f1, 0.8, seed == 1, units)))
    rows = rows_of(found)
    assert gain(rows[0], rows) is None
    mean, spread = gain(rows[1], rows) or (0.0, 0.0)
    assert mean == pytest.approx(0.04) and spread == pytest.approx(0.0141, abs=1e-3)
    table = markdown(rows)
    assert "| gap | 5 / 0 | all 400 50 | 1 + 2 | 0.490 ± 0.057 |" in table and "| 1 of 2 | +0.040 ± 0.014 |" in table
    assert "| AU1 | 0.350 ± 0.071 | 0.450 ± 0.071 | 0.800 ± 0.000 |" in units_markdown(rows[0])
    longer = dataclasses.replace(rows[1], setting=dataclasses.replace(rows[1].setting, steps=9))
    assert gain(longer, [rows[0], longer]) is None
    for other in ({"shared_augmentation": True}, {"selective": True}):
        setting = dataclasses.replace(rows[1].setting, **other)
        assert gain(dataclasses.replace(rows[1], setting=setting), [rows[0], rows[1]]) is None
        assert setting.name != rows[1].setting.name


@pytest.mark.parametrize("flag", [False, True])
def test_what_is_not_a_loss_reaches_the_training(flag: bool) -> None:
    pytest.importorskip("torch")
    cell = AuCell("all", "same", 1, 1, 0, 8, 1, shared_augmentation=flag, selective=flag)
    recipe = au_study._recipe(cell)
    assert (recipe.separate_augmentation, recipe.selective) == (not flag, flag)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such regime"):
        run_au_study([AuCell("all", "odd", 1, 0, 0, 1, 0)], tmp_path, 1, lambda *_: None)


def test_a_study_is_written_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("numba")
    monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(au_study, "VALIDATION", 2)
    monkeypatch.setattr(au_study, "TEST", 2)
    line = ["study", "au", "--variants", "labels", "all", "--regimes", "gap", "--labelled", "1", "--unlabelled", "1"]
    line += ["--steps", "2", "--relation-steps", "1", "--seeds", "0", "1", "--out", str(tmp_path / "study")]
    assert main(line) == 0
    assert capsys.readouterr().out.count("mean F1") == 4
    cells = sorted((tmp_path / "study/cells").glob("*.json"))
    assert len(cells) == 4 and not list((tmp_path / "study/checkpoints").iterdir())
    with (tmp_path / "study/study.csv").open() as stream:
        assert {row["variant"] for row in csv.DictReader(stream)} == {"labels", "all"}
    assert "F1 gained" in (tmp_path / "study/study.html").read_text()
    table = json.loads(cells[0].read_text())
    cells[0].write_text(json.dumps(table | {"result": table["result"] | {"f1": 0.123456}}))
    assert main([*line, "-q"]) == 0
    assert "0.123456" in (tmp_path / "study/study.csv").read_text()
    assert main([*line, "--shared-augmentation", "--selective", "-q"]) == 0
    again = [path for path in (tmp_path / "study/cells").glob("*.json") if path not in cells]
    assert len(again) == 4 and all("-shared-selective-" in path.name for path in again)
