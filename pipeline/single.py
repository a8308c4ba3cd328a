"""One stage from the command line: its inputs, its options and its folder, from flags over a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyport.core.artifact import MANIFEST, Artifact, input_key
from policyport.core.errors import ArtifactError, ConfigError
from policyport.core.options import from_arguments
from policyport.pipeline.board_cost import with_board
from policyport.pipeline.recipe import RUNS, Recipe, read_recipe
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import POLICY, STAGES, Stage


def run_single(stage: Stage, arguments: argparse.Namespace, say: Say, stages: tuple[Stage, ...] = STAGES) -> Artifact:
    """Run one stage as parsed flags ask, unless it is done.

    :param stages: all stages: a recipe is checked whole
    :raises ConfigError: a flag or recipe key that does not hold
    :raises ArtifactError: an input that is not there
    """
    recipe = read_recipe(arguments.recipe, stages) if arguments.recipe else None
    task = getattr(arguments, "task", recipe.task if recipe else POLICY)
    if recipe and recipe.task != task:
        raise ConfigError(
            "the recipe trains for another task",
            where=recipe.path,
            expected=f"[train] task = {task!r}",
            got=repr(recipe.task),
            cure=f"policyport train {recipe.task} --recipe {recipe.path}",
        )
    config = from_arguments(stage.config_type(), arguments, recipe.tables[stage.name] if recipe else None)
    if recipe and stage.name == "quantize" and "deploy" in recipe.configs:
        config = with_board(config, recipe.configs["deploy"])
    inputs: dict[str, Path] = {}
    for name in stage.inputs:
        inputs[name] = _input(stage, name, getattr(arguments, name), inputs, recipe)
    keys = {source: input_key(inputs[name]) for name, source in stage.inputs.items()}
    out = arguments.out or _out(stage, inputs, config, recipe)
    return run_stage(stage, inputs, keys, config, out, say, force=arguments.force)


def _input(stage: Stage, name: str, given: Path | None, before: Mapping[str, Path], recipe: Recipe | None) -> Path:
    """The path that was given, else what lies beside the input before it, or of the first that of the recipe's run."""
    source = stage.inputs[name]
    if given is None and recipe is None and not before:
        raise ConfigError(f"no {name} given", where=f"policyport {stage.name}", expected=stage.takes[name])
    run = next((path.resolve().parent for path in before.values()), recipe.folder if recipe else RUNS)
    path = run / source if given is None else given
    if not path.exists():
        of_recipe = recipe is not None and given is None and run == recipe.folder.resolve()
        cure = f"policyport {source} --recipe {recipe.path}" if recipe and of_recipe else None
        if given is None and before:
            cure = cure or f"policyport {source} {next(iter(before.values()))} makes it"
        raise ArtifactError(f"no such {name}", where=path, expected=stage.takes[name], cure=cure)
    return path


def _out(stage: Stage, inputs: dict[str, Path], config: Any, recipe: Recipe | None) -> Path:
    """Where the artifact goes when nothing is said: beside what it is made from."""
    if recipe is not None:
        return recipe.folder / stage.name
    if not inputs:
        return RUNS / config.run_name / stage.name
    first = next(iter(inputs.values())).resolve()
    return first.parent / stage.name if (first / MANIFEST).is_file() else RUNS / first.stem / stage.name
