"""Tables of the page on action units: networks side by side, rows of the study that stay."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from policyport.core.artifact import write_artifact
from policyport.core.errors import UsageError
from policyport.pipeline.au_figures import (
    RECIPES,
    Measured,
    block_of,
    measured,
    note,
    results_table,
    units_table,
    with_kept_rows,
)
from policyport.pipeline.au_study import AuCell, AuResult, markdown, rows_of
from policyport.pipeline.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[2]


def result(model: str, board_f1: float) -> dict[str, Any]:
    label = {"name": "AU1", "positives": 7, "float_f1": 0.75, "board_f1": board_f1}
    unseen = {"name": "AU2", "positives": 0, "float_f1": None, "board_f1": None}
    return {
        "model": model,
        "board": {"name": "mps2-an386", "core": "cortex-m4f", "emulator": "qemu 7"},
        "recognition": {
            "float_f1": 0.75, "board_f1": board_f1, "board_auc": 0.9, "agreement": 0.98, "pictures": 512,
            "labels": [label, unseen],
        },
        "parity": {"equal": True},
        "latency": {"inference": {"p50": 1234567}},
        "footprint": {"flash_bytes": 70000, "policy_flash_bytes": 60000, "arena_bytes": 9000},
    }  # fmt: skip


def two_networks() -> list[Measured]:
    return [
        Measured(f"{model}.toml", parameters, bits, result(model, f1))
        for model, parameters, bits, f1 in (
            ("plain", 114000, 8, 0.74),
            ("plain", 114000, 4, 0.7),
            ("deep", 47000, 8, 0.6),
        )
    ]


def test_networks_stand_side_by_side() -> None:
    found = two_networks()
    table = results_table(found)
    assert "| plain | 114,000 of 4 bits | 0.750 | 0.700 | 0.900 | 98.00 % | every layer equal | 1,234,567 |" in table
    assert table.count("\n") == 4 and "| deep | 47,000 of 8 bits |" in table
    units = units_table(found).splitlines()
    assert units[0] == "| unit | pictures | plain float32 | plain 8 bits | plain 4 bits | deep float32 | deep 8 bits |"
    assert units[2:] == ["| AU1 | 7 | 0.750 | 0.740 | 0.700 | 0.750 | 0.600 |", "| AU2 | 0 |  |  |  |  |  |"]
    assert note(found).startswith("By recipes/plain.toml and recipes/deep.toml, 512 rendered pictures")


def test_recipes_of_the_page_measure_each_network_at_both_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recipes = [read_recipe(path) for path in RECIPES]
    assert [recipe.configs["train"].backbone for recipe in recipes] == ["plain", "depthwise"]
    for recipe in recipes:
        widths = [one.configs["quantize"].weight_bits for one in (recipe, *recipe.variants)]
        losses = [one.configs["hil"].max_f1_loss for one in (recipe, *recipe.variants)]
        assert widths == [8, 4] and losses == [0.005, 0.015]


def test_figures_are_read_from_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recipe = read_recipe(RECIPES[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Recipe, "folder", property(lambda one: tmp_path / one.name))
    with write_artifact(tmp_path / "au/train", "train", inputs={}, config={}, code="") as writer:
        writer.figures["parameters"] = 5
    for folder, f1 in (("au/hil", 0.6), ("au/4bit/hil", 0.5)):
        with write_artifact(tmp_path / folder, "hil", inputs={}, config={}, code="") as writer:
            (writer.path / "result.json").write_text(json.dumps(result("plain", f1)))
    found = measured(recipe)
    assert [(one.parameters, one.weight_bits, one.result["recognition"]["board_f1"]) for one in found] == [
        (5, 8, 0.6),
        (5, 4, 0.5),
    ]
    with pytest.raises(UsageError, match="no recipe for action units"):
        measured(dataclasses.replace(recipe, task="policy"))


def test_a_setting_that_was_not_measured_keeps_its_row(tmp_path: Path) -> None:
    def table(*settings: tuple[str, str, int, float]) -> str:
        return markdown(
            rows_of(
                (AuCell(variant, regime, labelled, 0, 0, 9, 0), AuResult(f1, 0.5, f1, 0.5, False, {}))
                for variant, regime, labelled, f1 in settings
            )
        )

    before = table(("labels", "same", 5, 0.1), ("labels", "noise", 5, 0.2), ("+mv", "same", 5, 0.3))
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n<!-- figures:au-study -->\n{before}\n<!-- /figures:au-study -->\n")
    fresh = table(("labels", "noise", 4, 0.7), ("labels", "same", 5, 0.9))
    rows = with_kept_rows(fresh, block_of(page, "au-study")).splitlines()[2:]
    assert [tuple(cell.strip() for cell in row.split("|")[1:6:2]) for row in rows] == [
        ("same", "labels", "0.900 ± 0.000"),
        ("same", "+mv 400", "0.300 ± 0.000"),
        ("noise", "labels", "0.700 ± 0.000"),
        ("noise", "labels", "0.200 ± 0.000"),
    ]
    assert block_of(page, "other") == "" and with_kept_rows(fresh, "").count("\n") == 3
