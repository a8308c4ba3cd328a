"""The study of few levels: every cell measured once, by integers of the widths that were asked for."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.pipeline import levels_digits, quarl_cell
from policyport.pipeline.cli import main
from policyport.pipeline.levels_study import LevelsRequest, LevelsRow, study_levels, table
from policyport.pipeline.quarl_methods import outputs_of
from policyport.pipeline.speak import silent
from policyport.quantize.source import open_source

PAGE = "# Page\n\n<!-- figures:levels-agents -->\n<!-- /figures:levels-agents -->\n"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of an untrained agent."""
    from stable_baselines3 import PPO

    folder = tmp_path_factory.mktemp("levels")
    (folder / "zips/ppo/CartPole-v1").mkdir(parents=True)
    zipped = folder / "zips/ppo/CartPole-v1/CartPole-v1"
    PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, seed=0).save(zipped)
    (folder / "page.md").write_text(PAGE)
    given = ["--agents", str(folder / "zips"), "--bits", "3", "--input-bits", "16", "2", "--methods", "lattice"]
    more = ["--episodes", "3", "--page", str(folder / "page.md"), "--out", str(folder / "study"), "-q"]
    assert main(["study", "levels", *given, *more]) == 0
    return folder


def test_every_width_of_observations_is_measured(studied: Path) -> None:
    rows = json.loads((studied / "study/levels.json").read_text())["rows"]
    with (studied / "study/levels.csv").open() as stream:
        assert [row["mean"] for row in csv.DictReader(stream)] == [str(row["mean"]) for row in rows]
    page = (studied / "study/levels.html").read_text()
    assert page.count("<svg") == len({row["group"] for row in rows}) and "src=" not in page
    assert [(row["method"], row["bits"], row["input_bits"]) for row in rows] == [
        ("float32", 32, 16),
        ("lattice", 3, 16),
        ("lattice", 3, 2),
    ]
    assert rows[0]["against"]["difference"] == 0 and rows[0]["runs"] == 1
    lines = [line for line in (studied / "page.md").read_text().splitlines() if line.startswith("|")]
    assert lines[0] == "| trainings | weights / activations | method | float32 | input 16 | input 2 |"
    assert len(lines) == 3 and lines[2].startswith("| 1 x PPO CartPole-v1 | 3 / 3 | integer least squares |")


def test_nothing_is_measured_twice(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(quarl_cell, "measure")
    seen: list[LevelsRow] = []
    request = LevelsRequest(studied / "study", (), studied / "zips", (), (), (3,), (16, 2), ("lattice",), episodes=3)
    rows = study_levels(request, silent, seen.append)
    assert rows == seen and len(table(rows)) == 2


def test_networks_are_rounded_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(levels_digits, "EPOCHS", 10)
    request = LevelsRequest(tmp_path, ("mlp",), bits=(2,), input_bits=(4,), seeds=(0, 1))
    rows = study_levels(request, silent, lambda _: None)
    assert [(row.method, row.bits, row.input_bits, row.runs) for row in rows] == [
        ("float32", 32, 16, 2),
        ("lattice", 2, 4, 2),
        ("qat", 2, 4, 2),
    ]
    assert rows[0].mean > 50 and rows[2].mean >= rows[1].mean
    monkeypatch.delattr(levels_digits, "_right")
    assert study_levels(request, silent, lambda _: None) == rows
    (tmp_path / "cells/mlp-seed1.qat.2.input4.json").unlink()
    there = study_levels(replace(request, measured_only=True), silent, lambda _: None)
    assert there == rows[:2]


def test_the_policy_has_the_levels_of_its_widths(studied: Path) -> None:
    (agent,) = (path for path in (studied / "study/agents").iterdir() if (path / "policy.onnx").is_file())
    source = open_source(agent)
    found = [len(set(map(tuple, outputs_of(source, "lattice", 3, 3, taken)(source.held_out)))) for taken in (16, 2)]
    assert found[0] > found[1] and found[1] <= 4**4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bits": (5,)}, "width"),
        ({"input_bits": (9,)}, "width"),
        ({"methods": ("gptq",)}, "method"),
        ({"networks": ("vgg",)}, "network"),
        ({"episodes": 1}, "episodes"),
    ],
)
def test_what_cannot_be_studied_is_refused(tmp_path: Path, more: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        study_levels(LevelsRequest(tmp_path, **more), silent, lambda _: None)  # type: ignore[arg-type]
