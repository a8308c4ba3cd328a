"""``policyport status``: how each stage of a run stands, and precisely why one is not done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.artifact import read_manifest
from policyport.core.errors import UsageError
from policyport.core.options import from_table
from policyport.pipeline.assess import Standing
from policyport.pipeline.recipe import Recipe, read_recipe
from policyport.pipeline.run import RECIPE_COPY, standings
from policyport.pipeline.stages import STAGES, Stage


@dataclass(frozen=True)
class StageStatus:
    """One line of the status."""

    stage: str
    standing: Standing

    def as_table(self) -> dict[str, Any]:
        """JSON form."""
        key = self.standing.manifest.key if self.standing.manifest else None
        return {"stage": self.stage, "state": self.standing.state, "reasons": list(self.standing.reasons), "key": key}


def status(target: Path, stages: tuple[Stage, ...] = STAGES) -> tuple[Path, list[StageStatus]]:
    """How the stages of a run stand.

    :param target: a recipe, compared as it is now; or a run's folder, compared with the recipe it was last
        run with, or, where it has none, with each artifact's own configuration
    :returns: the run's folder, and a line per stage
    :raises UsageError: neither a recipe nor a run's folder
    """
    folder, configs, stages = _target(target, stages)
    found = standings(folder, configs, stages)
    return folder, [StageStatus(name, standing) for name, standing in found.items()]


def _target(target: Path, stages: tuple[Stage, ...]) -> tuple[Path, dict[str, Any], tuple[Stage, ...]]:
    if target.is_file() or (target / RECIPE_COPY).is_file():
        recipe: Recipe = read_recipe(target if target.is_file() else target / RECIPE_COPY, stages)
        return recipe.folder if target.is_file() else target, recipe.configs, recipe.stages
    if target.is_dir() and any((target / stage.name).exists() for stage in stages):
        return target, {stage.name: _own_config(target / stage.name, stage) for stage in stages}, stages
    raise UsageError(
        "no run here",
        where=target,
        expected=f"a recipe, or a folder with {', '.join(stage.name for stage in stages)}",
        cure="policyport run RECIPE.toml makes one",
    )


def _own_config(out: Path, stage: Stage) -> Any:
    """The configuration that the artifact was made with; the default where there is none that reads."""
    try:
        return from_table(stage.config_type(), read_manifest(out).config, str(out))
    except UsageError:  # none, torn, or written by a version with other options
        return stage.config_type()()
