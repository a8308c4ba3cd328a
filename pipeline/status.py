"""``policyport status``: how each stage of a run stands, and precisely why one is not done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.artifact import open_artifact, read_manifest
from policyport.core.errors import UsageError
from policyport.core.options import from_table
from policyport.pipeline.assess import Standing
from policyport.pipeline.recipe import Recipe, read_recipe
from policyport.pipeline.run import RECIPE_COPY, same_stages, standings
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
    recipe = _recipe(target, stages)
    if recipe is None:
        configs = {stage.name: _own_config(target / stage.name, stage) for stage in stages}
        return target, _lines("", standings(target, configs, stages))
    folder = recipe.folder if target.is_file() else target
    found = standings(folder, recipe.configs, recipe.stages)
    lines = _lines("", found)
    for variant in recipe.variants:
        same = same_stages(recipe, variant)
        shared = {name: open_artifact(folder / name) for name in same if found[name].state == "done"}
        rest = standings(folder / variant.name, variant.configs, variant.stages, shared)
        lines += _lines(f"{variant.name}/", {name: stand for name, stand in rest.items() if name not in same})
    return folder, lines


def _lines(prefix: str, found: Mapping[str, Standing]) -> list[StageStatus]:
    return [StageStatus(prefix + name, standing) for name, standing in found.items()]


def _recipe(target: Path, stages: tuple[Stage, ...]) -> Recipe | None:
    """The recipe that a run is compared with; None where each artifact is compared with its own configuration."""
    for path in (target, target / RECIPE_COPY):
        if path.is_file():
            return read_recipe(path, stages)
    if target.is_dir() and any((target / stage.name).exists() for stage in stages):
        return None
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
