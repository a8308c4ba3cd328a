"""The study of training by integers: every row there, nothing trained twice, what cannot be is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline.cli import main
from policyport.pipeline.qat_study import QatRequest, QatRow, study_qat, table
from policyport.pipeline.speak import silent

RECIPE = """
[train]
environment = "CartPole-v1"
algorithm = "PPO"
network = [8]
total_steps = 128
eval_every_steps = 64
eval_episodes = 1
calibration_steps = 64
evaluation_episodes = 2

[train.hyperparameters]
n_steps = 64
"""


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study and its recipe."""
    folder = tmp_path_factory.mktemp("qat")
    (folder / "little.toml").write_text(RECIPE)
    flags = ["--recipes", str(folder / "little.toml"), "--bits", "2", "--delays", "0", "1", "--episodes", "2"]
    assert main(["study", "qat", *flags, "--out", str(folder / "study"), "-q"]) == 0
    return folder


def test_every_way_to_integers_is_measured(studied: Path) -> None:
    rows = json.loads((studied / "study/qat.json").read_text())["rows"]
    assert [(row["method"], row["bits"], row["delay"]) for row in rows] == [
        ("float32", 32, None),
        ("lattice", 2, None),
        ("qat", 2, None),
        ("in-loop", 2, 0.0),
        ("in-loop", 2, 1.0),
    ]
    assert rows[0]["against"]["difference"] == 0
    lines = list(csv.reader((studied / "study/qat.md").read_text().splitlines(), delimiter="|"))
    assert len(lines) == 6 and "in the loop, delay 1" in lines[-1][2]
    assert "<svg" in (studied / "study/qat.html").read_text()
    trained = {path.name for path in (studied / "study/agents").iterdir() if path.is_dir()}
    assert trained == {"little-float32-seed0", "little-2-bits-0-seed0", "little-2-bits-1-seed0"}


def test_nothing_is_trained_or_measured_twice(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policyport.pipeline import quarl_cell
    from policyport.train import learner

    monkeypatch.delattr(learner, "learn")
    monkeypatch.delattr(quarl_cell, "measure")
    seen: list[QatRow] = []
    request = QatRequest(studied / "study", (studied / "little.toml",), (2,), (0.0, 1.0), episodes=2)
    rows = study_qat(request, silent, seen.append)
    assert rows == seen and len(table(rows)) == 5


def test_few_levels_are_trained_and_measured(studied: Path) -> None:
    request = QatRequest(studied / "few", (studied / "little.toml",), (2,), (1.0,), 3, 4, episodes=2)
    rows = study_qat(request, silent, lambda _: None)
    assert [row.method for row in rows] == ["float32", "lattice", "qat", "in-loop"]
    with np.load(studied / "few/agents/little-2-bits-3-4-1-seed0/integers.npz") as arrays:
        widths = [int(values[0]) for name, values in arrays.items() if name.startswith("tensor/")]
    assert sorted(widths) == [3, 4, 8, 8] and widths[0] == 4


@pytest.mark.parametrize(
    ("more", "said"), [({"bits": (5,)}, "width"), ({"delays": (1.5,)}, "delay"), ({"episodes": 1}, "episodes")]
)
def test_what_cannot_be_studied_is_refused(tmp_path: Path, more: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        study_qat(QatRequest(tmp_path, **more), silent, lambda _: None)  # type: ignore[arg-type]
