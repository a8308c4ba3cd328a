"""Recipes: one TOML file per experiment, a table per stage, every key checked before anything runs.

::

    name = "cartpole"

    [train]
    environment = "CartPole-v1"

    [deploy]
    board = "mps2-an386"

    [variants.4bit.quantize]
    weight_bits = 4

A variant is run after the recipe, from its first stage that differs on. A key left out has its default;
``policyport <stage> --help`` names them all. Paths in a recipe are relative to the working directory, as on a
command line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.errors import ConfigError
from policyport.core.options import from_table
from policyport.pipeline.board_cost import with_board
from policyport.pipeline.stages import POLICY, STAGES, TRAINERS, Stage, stages_for

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

RUNS = Path("runs")
"""Where runs lie, under the working directory."""


@dataclass(frozen=True)
class Recipe:
    """A checked recipe."""

    path: Path
    name: str
    """Name of the run's folder under ``runs/``; the file's own name where the recipe gives none."""

    tables: dict[str, dict[str, Any]]
    """Stage to the keys that the recipe states."""

    configs: dict[str, Any]
    """Stage to its configuration, defaults included."""

    task: str
    """What is trained: ``policy``, or another of the train stage's tasks."""

    stages: tuple[Stage, ...]
    """The stages of its run."""

    variants: tuple[Recipe, ...] = ()
    """The same with some keys changed, named after the variant; each has a folder of its own in the run's."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return RUNS / self.name


def read_recipe(path: Path, stages: tuple[Stage, ...] = STAGES) -> Recipe:
    """Read and check a recipe.

    :raises ConfigError: no such file, not TOML, an unknown table or key, a value that is not allowed
    """
    table = _parse(path)
    name = table.pop("name", path.stem)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError("name is no name for a folder", where=path, expected="letters, digits, . _ -", got=repr(name))
    changes = _changes(table.pop("variants", {}), stages, path)
    tables = {stage.name: _stage_table(table.pop(stage.name, {}), stage.name, path) for stage in stages}
    _refuse_unknown(table, (stage.name for stage in stages), path)
    task = _task(tables.get("train", {}), path)
    stages = stages_for(task, stages)
    configs = _configs(stages, tables, f"of {path}")
    variants = tuple(_variant(path, name, task, stages, tables, changed) for name, changed in changes.items())
    return Recipe(path, name, tables, configs, task, stages, variants)


def _changes(variants: Any, stages: tuple[Stage, ...], path: Path) -> dict[str, dict[str, Any]]:
    """Name of each variant to its tables."""
    if not isinstance(variants, Mapping):
        raise ConfigError("variants is a table of tables", where=path, expected="[variants.NAME.STAGE]", got=variants)
    names = {stage.name for stage in stages}
    for name, changed in variants.items():
        if not NAME.fullmatch(name) or name in names:
            raise ConfigError("no name for a variant", where=path, expected="a name of no stage", got=repr(name))
        if not isinstance(changed, Mapping):
            raise ConfigError("a variant is a table", where=path, expected=f"[variants.{name}.STAGE]", got=changed)
        _refuse_unknown({key: {} for key in changed if key not in names}, names, path)
    return dict(variants)


def _variant(
    path: Path,
    name: str,
    task: str,
    stages: tuple[Stage, ...],
    tables: dict[str, dict[str, Any]],
    changed: Mapping[str, Any],
) -> Recipe:
    merged = {stage: table | _stage_table(changed.get(stage, {}), stage, path) for stage, table in tables.items()}
    configs = _configs(stages, merged, f"of variant {name} of {path}")
    return Recipe(path, name, merged, configs, task, stages)


def _configs(stages: tuple[Stage, ...], tables: Mapping[str, dict[str, Any]], where: str) -> dict[str, Any]:
    """Stage to its configuration; a budget without a board is that of the one that is deployed to."""
    configs = {
        stage.name: from_table(stage.config_type(), tables[stage.name], f"[{stage.name}] {where}") for stage in stages
    }
    if {"quantize", "deploy"} <= configs.keys():
        configs["quantize"] = with_board(configs["quantize"], configs["deploy"])
    return configs


def _task(table: dict[str, Any], path: Path) -> str:
    """What ``[train]`` trains, taken out of its table."""
    task = table.pop("task", POLICY)
    if task not in (POLICY, *TRAINERS):
        raise ConfigError(
            "no such task", where=f"[train] task of {path}", expected=", ".join((POLICY, *TRAINERS)), got=repr(task)
        )
    return str(task)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        found = sorted(str(p) for p in Path("recipes").glob("*.toml"))
        cure = f"recipes here: {', '.join(found)}" if found else "give the path of a TOML file"
        raise ConfigError("no such recipe", where=path, cure=cure) from error
    except IsADirectoryError as error:
        raise ConfigError("a recipe is a file, this is a folder", where=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the recipe is not text", where=path, expected="TOML in UTF-8", got=error) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("the recipe is not TOML", where=path, got=error) from error


def _stage_table(value: Any, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is a table", where=path, expected=f"[{name}]", got=f"{name} = {value!r}")
    return dict(value)


def _refuse_unknown(rest: Mapping[str, Any], stages: Iterable[str], path: Path) -> None:
    allowed = ["name", "variants", *stages]
    for key, value in rest.items():
        near = difflib.get_close_matches(key, allowed, 1)
        raise ConfigError(
            f"unknown table [{key}]" if isinstance(value, Mapping) else f"unknown key {key!r} outside of any table",
            where=path,
            expected=f"name, {', '.join(f'[{table}]' for table in allowed[1:])}",
            cure=f"did you mean {near[0]!r}?" if near else None,
        )
