"""The study of mixed precision: its cells are kept, its table compares with float32."""

import json
from pathlib import Path

import pytest
from policyport.pipeline import precision_study
from policyport.pipeline.cli import main
from policyport.pipeline.precision_study import Measured, to_markdown

pytest.importorskip("stable_baselines3")


def test_every_precision_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["study", "precision", "--widths", "8", "--train-steps", "600", "--out", str(tmp_path / "out"), "-q"]
    assert main(given) == 0
    written = (tmp_path / "out/precision.json").read_text()
    rows = json.loads(written)["trainings"]
    assert [row["precision"] for row in rows] == ["float32", "bf16", "fp16"]
    assert all(row["steps"] >= 600 and row["cpu_seconds"] > 0 and len(row["curve"]) == 4 for row in rows)

    def refuse(*_: object) -> Measured:
        raise AssertionError("trained again")

    monkeypatch.setattr(precision_study, "_train", refuse)
    assert main(given) == 0
    assert (tmp_path / "out/precision.json").read_text() == written


def test_the_table_sets_speeds_against_float32() -> None:
    def one(precision: str, seed: int, cpu_seconds: float) -> Measured:
        return Measured(64, precision, seed, 1000, 9.0, cpu_seconds, ((500, 20.0 * seed), (1000, 100.0)), "a core")

    found = [one("float32", 1, 1.0), one("bf16", 1, 2.0), one("float32", 2, 3.0), one("bf16", 2, 2.0)]
    lines = to_markdown(found).splitlines()
    assert lines[2] == "| 2 x 64 | float32 | 500 | 1.00 | 1.00 | 500: 30, 1,000: 100 |"
    assert lines[3].startswith("| 2 x 64 | bf16 | 500 | 1.00 | 1.00 |")
    assert lines[-1].endswith("on a core.")
