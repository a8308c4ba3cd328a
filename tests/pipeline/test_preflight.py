"""Preflight: a run that cannot end does not begin."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from policyport.core.errors import ConfigError, ToolError
from policyport.hil import qemu_board
from policyport.pipeline.recipe import read_recipe
from policyport.pipeline.run import run_recipe
from policyport.pipeline.stages import STAGES, Stage


@pytest.fixture(autouse=True)
def machines_asked_anew() -> Iterator[None]:
    """QEMU is asked once per process for its machines; here its absence must be seen, and forgotten after."""
    qemu_board.machines.cache_clear()
    yield
    qemu_board.machines.cache_clear()


def no_training(*_: Any) -> Any:
    raise AssertionError("training began")


def attempt(recipe_file: Callable[..., Path], folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "run", no_training)
    run_recipe(read_recipe(recipe_file(text)), folder, lambda _: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[deploy]\nboard = "nope"\n', "unknown board"),
        ('[flash]\nboard = "stm32f405"\n', "built for another board"),
        ('[deploy]\nboard = "mps2-an386"\n[flash]\nboard = "nope"\n', "unknown board"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused_before_training(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        attempt(recipe_file, tmp_path / "run", text, monkeypatch)


def test_photographs_that_cannot_be_judged_on_are_refused_before_training(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    for folder in ("trained", "tested"):
        (tmp_path / folder).mkdir()
        image.new("RGB", (170, 161), (1, 2, 3)).save(tmp_path / f"{folder}/one.png")
    named = f'[hil]\ntest_images = "{tmp_path / "tested"}"\n'
    codec = f'[train]\ntask = "codec"\nimages = "{tmp_path / "trained"}"\n[quantize]\nactivations = "int8"\n'
    for text, message in ((codec + named, "that the codec was trained on"), (named, "no image encoder")):
        with pytest.raises(ConfigError, match=message):
            attempt(recipe_file, tmp_path / "run", text, monkeypatch)
    (tmp_path / "tested/one.png").unlink()
    with pytest.raises(ConfigError, match="no pictures here"):
        attempt(recipe_file, tmp_path / "run", codec + named, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [('[deploy]\ntoolchain = "gcc"\n', "no ARM compiler"), ('[hil]\nemulator = "qemu"\n', "(?i)emulator|qemu")],
)
def test_a_missing_tool_is_told_before_training(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ToolError, match=message):
        attempt(recipe_file, tmp_path / "run", text, monkeypatch)


def test_what_is_done_needs_nothing_more(stubs: Any, recipe_file: Callable[..., Path]) -> None:
    refuses = "policyport.pipeline.preflight:deploy"
    run_recipe(read_recipe(recipe_file(""), stubs.stages), Path("runs/job"), lambda _: None)
    stages = tuple(dataclasses.replace(stage, preflight=refuses) for stage in stubs.stages)
    run_recipe(read_recipe(recipe_file(""), stages), Path("runs/job"), lambda _: None)
    with pytest.raises(ConfigError, match="unknown board"):
        run_recipe(
            read_recipe(recipe_file('[deploy]\nboard = "nope"\n'), stages),
            Path("runs/job"),
            lambda _: None,
        )


def test_the_stages_of_the_recipes_name_their_preflight() -> None:
    assert [stage.name for stage in STAGES if stage.preflight] == ["deploy", "flash", "hil"]
