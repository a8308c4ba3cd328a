"""The staged run: train, quantize, deploy, flash, hil, report into one folder; what is done is skipped.

A stage is done when its key (hash of inputs, configuration and code) is the one wanted and its files are
intact. An interrupted stage goes on from its ``.partial`` folder. A gate that fails does not stop the run:
the report is written, and the failure raised at the end.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policyport.core.artifact import MANIFEST, Artifact, open_artifact
from policyport.core.errors import GateError, UsageError
from policyport.core.options import to_table
from policyport.pipeline.assess import Standing, Wanted, assess
from policyport.pipeline.recipe import Recipe
from policyport.pipeline.stages import STAGES, Stage

RECIPE_COPY = "recipe.toml"
"""The recipe as it was last run, in the run's folder."""


@dataclass(frozen=True)
class Event:
    """What the run says of a stage."""

    stage: str
    what: str
    """``running``, ``skipped`` or ``done``"""

    because: str
    """Why it runs; empty otherwise."""

    seconds: float
    artifact: Artifact | None


Say = Callable[[Event], None]


@dataclass(frozen=True)
class Asked:
    """What of a run is asked for."""

    force: str | None = None
    """Run this stage, and all after it, though they be done; None forces nothing."""

    until: str | None = None
    """The last stage to run; None for all."""


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    artifacts: dict[str, Artifact]
    gate_error: GateError | None
    """The gate that failed, in this run or when the skipped measurement was made."""


def wanted(stage: Stage, inputs: Mapping[str, Path], keys: Mapping[str, str | None], config: Any) -> Wanted:
    """What the stage's artifact would say if it ran now.

    :param inputs: path of each input, by name
    :param keys: stage to the key of its artifact, None where it is not up to date
    """
    made_of = {name: keys[source] for name, source in stage.inputs.items()}
    made_of |= stage.config_inputs(config, inputs)
    return Wanted(stage.kind, made_of, to_table(config), stage.code_version())


def run_variants(recipe: Recipe, folder: Path, done: Outcome, say: Say, asked: Asked) -> dict[str, Outcome]:
    """Bring the variants of a recipe up to date, each from its first stage that differs on.

    :param done: the recipe's own run
    :raises PolicyportError: as :func:`run_recipe`
    """
    outcomes = {}
    for variant in recipe.variants:
        same = same_stages(recipe, variant)
        shared = {name: artifact for name, artifact in done.artifacts.items() if name in same}

        def told(event: Event, name: str = variant.name) -> None:
            say(replace(event, stage=f"{name}/{event.stage}"))

        forced = asked.force if asked.force not in same else None
        outcomes[variant.name] = run_recipe(variant, folder / variant.name, told, replace(asked, force=forced), shared)
    return outcomes


def same_stages(recipe: Recipe, variant: Recipe) -> tuple[str, ...]:
    """The stages before the first that the variant changes."""
    names = [stage.name for stage in recipe.stages]
    changed = [name for name in names if recipe.configs[name] != variant.configs[name]]
    return tuple(names[: names.index(changed[0])]) if changed else tuple(names)


def standings(
    folder: Path,
    configs: Mapping[str, Any],
    stages: tuple[Stage, ...] = STAGES,
    shared: Mapping[str, Artifact] | None = None,
) -> dict[str, Standing]:
    """How each stage of a run's folder stands.

    :param configs: stage to the configuration that it is compared with
    :param shared: stage to its artifact, for stages that another run has done; they are left out
    """
    keys: dict[str, str | None] = {name: artifact.key for name, artifact in (shared or {}).items()}
    found = {}
    for stage in stages:
        if stage.name in (shared or {}):
            continue
        inputs = {name: _place(folder, source, shared or {}) for name, source in stage.inputs.items()}
        standing = assess(folder / stage.name, wanted(stage, inputs, keys, configs[stage.name]))
        keys[stage.name] = standing.manifest.key if standing.state == "done" and standing.manifest else None
        found[stage.name] = standing
    return found


def _place(folder: Path, stage: str, shared: Mapping[str, Artifact]) -> Path:
    """Where the artifact of a stage lies."""
    return shared[stage].path if stage in shared else folder / stage


def run_recipe(
    recipe: Recipe, folder: Path, say: Say, asked: Asked | None = None, shared: Mapping[str, Artifact] | None = None
) -> Outcome:
    """Bring every stage of a recipe up to date, in order.

    :param folder: the run's folder; one subfolder per stage
    :param say: is told of each stage as it starts and ends
    :param shared: stage to its artifact, for stages that another run has done
    :raises UsageError: another run is at work in the folder
    :raises PolicyportError: whatever a stage raises, but a gate that failed: that is in the outcome
    """
    asked, stages = asked or Asked(), recipe.stages
    names = [stage.name for stage in stages]
    forced = names[names.index(asked.force) :] if asked.force else []
    last = names.index(asked.until) if asked.until else len(names) - 1
    artifacts: dict[str, Artifact] = dict(shared or {})
    own = tuple(stage for stage in stages[: last + 1] if stage.name not in artifacts)
    gate_error: GateError | None = None
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".lock", folder, "another run is at work in this folder"):
        (folder / RECIPE_COPY).write_bytes(recipe.path.read_bytes())
        standing = standings(folder, recipe.configs, stages, shared)
        for stage in own:
            if stage.name in forced or standing[stage.name].state != "done":
                stage.require(recipe.configs)
        for stage in own:
            try:
                artifacts[stage.name] = _bring_up_to_date(
                    stage, artifacts, recipe.configs[stage.name], folder, stage.name in forced, say
                )
            except GateError as error:
                gate_error = error
                artifacts[stage.name] = open_artifact(folder / stage.name, stage.name)
                say(Event(stage.name, "done", "", 0.0, artifacts[stage.name]))
    return Outcome(artifacts, gate_error or _recorded_gate(artifacts))


def _bring_up_to_date(
    stage: Stage, artifacts: Mapping[str, Artifact], config: Any, folder: Path, forced: bool, say: Say
) -> Artifact:
    keys = {name: artifact.key for name, artifact in artifacts.items()}
    inputs = {name: artifacts[source].path for name, source in stage.inputs.items()}
    return run_stage(stage, inputs, keys, config, folder / stage.name, say, force=forced)


def run_stage(
    stage: Stage,
    inputs: Mapping[str, Path],
    keys: Mapping[str, str | None],
    config: Any,
    out: Path,
    say: Say,
    *,
    force: bool = False,
) -> Artifact:
    """Run one stage, unless what it would write is there already.

    :param inputs: path of each input, by name
    :param keys: stage to the key of its artifact
    :param force: begin from scratch, though it be done or half done
    :raises UsageError: ``out`` is a folder that no stage wrote, or another process is writing it
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out.with_name(f".{out.name}.lock"), out, "another process is writing this artifact"):
        return _run_alone(stage, inputs, keys, config, out, say, force)


def _run_alone(
    stage: Stage,
    inputs: Mapping[str, Path],
    keys: Mapping[str, str | None],
    config: Any,
    out: Path,
    say: Say,
    force: bool,
) -> Artifact:
    standing = assess(out, wanted(stage, inputs, keys, config))
    because = ("forced" if force else standing.because) or _why_not_done(stage, config, out)
    if standing.state == "done" and not because:
        artifact = open_artifact(out, stage.kind)
        say(Event(stage.name, "skipped", "", 0.0, artifact))
        return artifact
    _protect(out, standing)
    if force:
        shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)
    say(Event(stage.name, "running", because, 0.0, None))
    start = time.monotonic()
    artifact = stage.run(inputs, config, out)
    say(Event(stage.name, "done", "", time.monotonic() - start, artifact))
    return artifact


def _why_not_done(stage: Stage, config: Any, out: Path) -> str:
    """What the artifact alone cannot know, such as what a board runs by now; empty where all is well."""
    return stage.check(config, out) if (out / MANIFEST).is_file() else ""


def _protect(out: Path, standing: Standing) -> None:
    """Refuse to replace what no stage wrote.

    :raises UsageError: a folder with something else in it, or a file
    """
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "this is no artifact, and it would be replaced", where=out, cure="give another --out, or remove it"
        )
    if standing.manifest is not None and standing.reasons and standing.reasons[0].startswith("this folder holds"):
        raise UsageError(standing.reasons[0], where=out, cure="give another --out, or remove it")


def _recorded_gate(artifacts: Mapping[str, Artifact]) -> GateError | None:
    """The gate that failed when the measurement was made, though it is skipped now."""
    measured = artifacts.get("hil")
    if measured is None or "result.json" not in measured.manifest.files:
        return None
    from policyport.hil.gates import require_passed
    from policyport.hil.result import Result

    path = measured.file("result.json")
    try:
        require_passed(Result.read(path).gates, path)
    except GateError as error:
        return error
    return None


@contextlib.contextmanager
def _alone(lock_path: Path, folder: Path, refusal: str) -> Iterator[None]:
    """Hold a folder against a second process.

    :raises UsageError: it is held already; the holder is named
    """
    from policyport.core.lock import NamedLock

    lock = NamedLock(lock_path)
    holder = lock.acquire()
    if holder:
        raise UsageError(refusal, where=folder, got=f"held by {holder}", cure="wait for it, or give another --out")
    try:
        yield
    finally:
        lock.release()
