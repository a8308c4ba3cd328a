"""The study of few bits: its interval, its cells, its table, on a network of a few steps."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.core.recognition import recognition
from policyport.hil.robust import Interval
from policyport.pipeline import au_bits
from policyport.pipeline.au_bits import BitsRequest, BitsRow, run_au_bits, to_markdown
from policyport.pipeline.au_bootstrap import Counts, f1_difference
from policyport.pipeline.cli import main
from policyport.quantize.rounding.methods import rounding

PAGE = "<!-- figures:au-bits -->\n<!-- /figures:au-bits -->\n"


def drawn(persons: int, seed: int, wrong: float) -> tuple[Any, Any, Any]:
    """Calls of which a share is wrong, labels of which some are unknown, and who is on each of 6 pictures."""
    random = np.random.default_rng(seed)
    labels = random.choice(np.array([1, 0, -1], np.int8), (6 * persons, 3), p=(0.4, 0.5, 0.1))
    called = (labels == 1) ^ (random.random(labels.shape) < wrong)
    return called, labels, np.repeat(np.arange(persons, dtype=np.int32), 6)


def test_counts_make_the_f1_that_recognition_reports() -> None:
    called, labels, persons = drawn(20, 0, 0.2)
    counts = Counts.of(called, labels, persons)
    (found,) = counts.mean_f1(np.ones((1, 20), np.int64))
    assert found == pytest.approx(recognition(called.astype(float), labels, 0.5).mean_f1)
    weights = np.random.default_rng(1).integers(0, 3, (1, 20))
    pictures = np.repeat(np.arange(len(labels)), weights[0][persons])
    (found,) = counts.mean_f1(weights)
    assert found == pytest.approx(recognition(called[pictures].astype(float), labels[pictures], 0.5).mean_f1)


def test_a_unit_that_is_never_present_is_left_out() -> None:
    called, labels, persons = drawn(5, 0, 0.2)
    labels[:, 1] = 0
    assert not np.isnan(Counts.of(called, labels, persons).mean_f1(np.ones((1, 5), np.int64))).any()


def test_an_interval_is_of_the_difference_on_the_same_persons() -> None:
    called, labels, persons = drawn(60, 0, 0.2)
    ours = Counts.of(called, labels, persons)
    assert f1_difference(ours, ours) == Interval(0.0, 0.0, 0.0)
    worse = called ^ (np.random.default_rng(5).random(called.shape) < 0.2)
    found = f1_difference(Counts.of(worse, labels, persons), ours)
    assert found.low < found.value < found.high < 0
    half = f1_difference(*(Counts.of(part[:180], labels[:180], persons[:180]) for part in (worse, called)))
    assert 1.1 < (half.high - half.low) / (found.high - found.low) < 1.9  # about the root of 2


def test_a_row_says_how_much_and_how_sure() -> None:
    row = BitsRow("AU-x", 3, "qat", 1234, 96, 3, 0.64, 0.88, 0.632, 0.87, Interval(-0.008, -0.012, -0.004))
    table = to_markdown([row])
    assert "96 rendered faces of 3 persons" in table and "| AU-x | float32 |  |  | 0.6400 |  |  | 0.8800 |" in table
    words = (
        "| these, trained on, thresholds tuned anew | 1,234 | 0.6320 | -0.0080 (-0.0120 to -0.0040) | -1.2 | 0.8700 |"
    )
    assert f"| AU-x | 3 bits {words}" in table


@pytest.mark.parametrize(
    ("more", "words"), [({"methods": ("gptq",)}, "no such method"), ({"bits": (5,)}, "no such width")]
)
def test_unknown_choices_are_refused(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_au_bits(BitsRequest(tmp_path, **more), lambda *_: None, lambda _: None)


def test_a_study_is_written_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("numba")
    from policyport.quantize import choose
    from policyport.train.au import integers
    from policyport.train.au.config import AuConfig
    from policyport.train.au.stage import train_au

    monkeypatch.setenv("POLICYPORT_CACHE", str(tmp_path / "cache"))
    # Integer least squares takes this network a minute.
    monkeypatch.setattr(choose, "rounding", lambda *given, **more: rounding("nearest", refit_bias=True))
    monkeypatch.setattr(integers, "rounding", lambda method, refit_bias: rounding("nearest", refit_bias=refit_bias))
    config = AuConfig(
        persons=8, images_per_person=4, side=32, steps=6, relations=False, evaluate_every=6, batch=8,
        calibration_pictures=8, held_out_pictures=4, test_share=0.2, validation_share=0.2,
    )  # fmt: skip
    trained = train_au(config, tmp_path / "train").path
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text(PAGE)
    asked = ["study", "au", "--bits", "3", "--trained", str(trained), "--test-persons", "2", "--steps", "2"]
    assert main([*asked, "--out", str(out), "--page", str(page), "-q"]) == 0
    rows = json.loads((out / "bits.json").read_text())
    with (out / "bits.csv").open() as stream:
        assert [row["difference_low"] for row in csv.DictReader(stream)] == [str(r["difference"]["low"]) for r in rows]
    html = (out / "bits.html").read_text()
    assert html.count("<svg") == len({row["network"] for row in rows}) and "src=" not in html
    assert [row["method"] for row in rows] == ["float", "lattice", "thresholds", "qat"]
    assert {(row["pictures"], row["persons"]) for row in rows} == {(64, 2)}
    assert [row["bits"] for row in rows] == [32, 3, 3, 3] and rows[0]["auc"] == rows[0]["float_auc"]
    assert all(row["difference"]["value"] == pytest.approx(row["f1"] - row["float_f1"]) for row in rows)
    assert "| AU-plain-32 | 3 bits | integer least squares |" in page.read_text()

    def never(*_: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(au_bits.Judge, "measured", never)
    monkeypatch.setattr(integers, "learn_integers", never)
    assert main([*asked, "--out", str(out), "-q"]) == 0
    assert json.loads((out / "bits.json").read_text()) == rows
    assert main([*asked, "--methods", "qat", "--measured-only", "--out", str(out), "-q"]) == 0
    assert json.loads((out / "bits.json").read_text()) == [rows[0], rows[3]]
    with pytest.raises(ConfigError, match="no cell"):
        run_au_bits(BitsRequest(tmp_path, (trained,), measured_only=True), lambda *_: None, lambda _: None)


def test_networks_of_photographs_are_refused(tmp_path: Path) -> None:
    from policyport.core.artifact import Artifact, Manifest

    given: dict[str, Any] = {"kind": "train", "key": "k", "files": {}, "inputs": {}, "code": "c"}
    artifact = Artifact(tmp_path, Manifest(**given, config={"format": "bp4d"}))
    with pytest.raises(ConfigError, match="photographs"):
        _ = au_bits.Judge(artifact, 1).faces
