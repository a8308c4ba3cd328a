"""The staged run: what is done is skipped, what changed runs again, what was interrupted goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from policyport.core.artifact import open_artifact
from policyport.core.errors import ConfigError, GateError, UsageError
from policyport.pipeline.recipe import read_recipe
from policyport.pipeline.run import Asked, Event, Outcome, run_recipe, run_stage, run_variants
from policyport.pipeline.status import status

ALL = ["train", "deploy", "flash", "hil"]
FOLDER = Path("runs/job")


class Job:
    """A recipe of stub stages that can be edited and run again."""

    def __init__(self, stubs: Any, write: Callable[..., Path]) -> None:
        self.stubs = stubs
        self.write = write
        self.events: list[Event] = []
        write("")

    def run(self, text: str = "", asked: Asked | None = None) -> list[str]:
        """Run, and say which stages ran."""
        self.outcome(text, asked)
        return list(self.stubs.calls)

    def outcome(self, text: str = "", asked: Asked | None = None) -> Outcome:
        self.stubs.calls.clear()
        self.events.clear()
        self.recipe = read_recipe(self.write(text), self.stubs.stages)
        return run_recipe(self.recipe, self.recipe.folder, self.events.append, asked)

    def states(self, target: Path = FOLDER) -> list[str]:
        return [line.standing.state for line in status(target, self.stubs.stages)[1]]

    def reasons(self, stage: str, target: Path = FOLDER) -> tuple[str, ...]:
        return next(line.standing.reasons for line in status(target, self.stubs.stages)[1] if line.stage == stage)

    def because(self, stage: str) -> str:
        return next(event.because for event in self.events if event.stage == stage and event.what == "running")


@pytest.fixture
def job(stubs: Any, recipe_file: Callable[..., Path]) -> Job:
    return Job(stubs, recipe_file)


def test_every_stage_runs_once_and_then_none(job: Job) -> None:
    assert job.run() == ALL
    assert [event.what for event in job.events] == ["running", "done"] * 4
    assert job.run() == []
    assert [event.what for event in job.events] == ["skipped"] * 4
    assert job.states() == ["done"] * 4


def test_a_changed_key_runs_its_stage_and_those_after(job: Job) -> None:
    job.run()
    assert job.run("[deploy]\noptimize = 'speed'\n") == ["deploy", "flash", "hil"]
    assert job.because("deploy") == "configuration key optimize changed from 'size' to 'speed'"
    assert "input image changed from" in job.because("hil")


def test_changed_code_runs_everything(job: Job) -> None:
    job.run()
    (job.stubs.source / "code.py").write_text("version = 2")
    assert job.reasons("train") == ("code changed",)
    assert job.run() == ALL


@pytest.mark.parametrize(
    ("damage", "state", "reason"),
    [
        (lambda path: (path / "deploy.txt").write_text("other"), "altered", "deploy.txt is not what was written"),
        (lambda path: (path / "deploy.txt").unlink(), "altered", "deploy.txt is missing"),
        (lambda path: (path / "manifest.json").write_text("{"), "altered", "does not parse"),
    ],
)
def test_a_damaged_artifact_is_made_again(job: Job, damage: Callable[[Path], Any], state: str, reason: str) -> None:
    job.run()
    damage(FOLDER / "deploy")
    assert job.states() == ["done", state, "stale", "stale"]
    assert reason in job.reasons("deploy")[0]
    assert job.reasons("hil") == ("input image is not up to date", "input board is not up to date")
    assert job.run() == ["deploy"]  # the same again, so what was made from it still holds


def test_force_runs_a_stage_and_all_after_it(job: Job) -> None:
    job.run()
    assert job.run(asked=Asked(force="flash")) == ["flash", "hil"]
    assert job.because("flash") == "forced"
    assert job.run() == []


def test_until_stops_after_a_stage(job: Job) -> None:
    assert job.run(asked=Asked(until="deploy")) == ["train", "deploy"]
    assert job.states() == ["done", "done", "missing", "missing"]
    assert job.reasons("flash") == ("not run yet",)


def test_an_interrupted_stage_goes_on(job: Job) -> None:
    job.stubs.fail["deploy"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        job.run()
    assert job.states() == ["done", "partial", "missing", "missing"]
    job.stubs.fail.clear()
    assert job.run() == ["deploy", "flash", "hil"]
    assert job.because("deploy") == "unfinished; goes on from there"


def test_a_forced_run_that_was_interrupted_goes_on_though_the_old_artifact_holds(job: Job) -> None:
    job.run()
    job.stubs.fail["deploy"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        job.run(asked=Asked(force="deploy"))
    open_artifact(FOLDER / "deploy", "deploy")
    job.stubs.fail.clear()
    assert job.run() == ["deploy"]


def test_force_begins_from_scratch(job: Job) -> None:
    job.stubs.fail["deploy"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        job.run()
    (FOLDER / "deploy.partial" / "half").write_text("x")
    job.stubs.fail.clear()
    job.stubs.fail["deploy"] = ConfigError("again")
    with pytest.raises(ConfigError):
        job.run(asked=Asked(force="deploy"))
    assert not (FOLDER / "deploy.partial" / "half").exists()


def test_what_was_interrupted_under_another_configuration_starts_afresh(job: Job) -> None:
    job.stubs.fail["train"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        job.run()
    path = job.write("[train]\nseed = 4\n")
    assert job.reasons("train", path) == ("unfinished, and changed since: starts afresh",)


def test_a_failed_stage_keeps_those_before_it(job: Job) -> None:
    job.stubs.fail["flash"] = ConfigError("no such board")
    with pytest.raises(ConfigError):
        job.run()
    assert job.stubs.calls == ["train", "deploy", "flash"]
    job.stubs.fail.clear()
    assert job.run() == ["flash", "hil"]


def test_a_failed_gate_is_told_after_the_run(job: Job) -> None:
    job.stubs.fail_gate = True
    outcome = job.outcome()
    assert isinstance(outcome.gate_error, GateError)
    assert set(outcome.artifacts) == set(ALL)


def test_a_file_that_the_configuration_names_is_an_input(job: Job, tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_text("one")
    text = "[train]\nagent = 'agent.zip'\n"
    job.run(text)
    assert job.run(text) == []
    (tmp_path / "agent.zip").write_text("two")
    assert job.run(text)[0] == "train"
    assert "input agent changed" in job.because("train")


def test_what_an_artifact_cannot_know_runs_its_stage(job: Job) -> None:
    job.run()
    job.stubs.stale = "the board runs another firmware"
    assert job.run() == ["flash"]
    assert job.because("flash") == "the board runs another firmware"


def test_a_folder_that_no_stage_wrote_is_not_replaced(job: Job) -> None:
    mine = FOLDER / "train" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match="no artifact"):
        job.run()
    assert mine.read_text() == "mine" and job.stubs.calls == []


def test_another_stages_artifact_is_not_replaced(job: Job) -> None:
    job.run()
    (FOLDER / "train").rename(FOLDER / "kept")
    (FOLDER / "deploy").rename(FOLDER / "train")
    with pytest.raises(UsageError, match="holds a deploy artifact"):
        job.run()


def test_two_runs_in_one_folder_are_one_too_many(job: Job) -> None:
    def again(_: Event) -> None:
        with pytest.raises(UsageError, match=f"another run is at work[\\s\\S]*held by pid {os.getpid()}: "):
            run_recipe(job.recipe, FOLDER, job.events.append)
        job.stubs.calls.append("tried")

    job.recipe = read_recipe(job.write(""), job.stubs.stages)
    run_recipe(job.recipe, FOLDER, again, Asked(until="train"))
    assert "tried" in job.stubs.calls


def test_two_processes_on_one_artifact_are_one_too_many(job: Job) -> None:
    stage = job.stubs.stages[0]

    def again(_: Event) -> None:
        with pytest.raises(UsageError, match=f"another process is writing[\\s\\S]*held by pid {os.getpid()}: "):
            run_stage(stage, {}, {}, config, FOLDER / stage.name, job.events.append)
        job.stubs.calls.append("tried")

    config = read_recipe(job.write(""), job.stubs.stages).configs[stage.name]
    run_stage(stage, {}, {}, config, FOLDER / stage.name, again)
    assert "tried" in job.stubs.calls


def test_status_of_a_recipe_is_against_the_recipe_as_it_is_now(job: Job) -> None:
    job.run()
    path = job.write("[train]\nseed = 9\n")
    assert job.states() == ["done"] * 4
    assert job.states(path) == ["stale"] * 4
    assert job.reasons("train", path) == ("configuration key seed changed from 0 to 9",)


def test_status_of_a_folder_without_a_recipe_is_against_its_own_configuration(job: Job) -> None:
    job.run("[train]\nseed = 5\n")
    (FOLDER / "recipe.toml").unlink()
    assert job.states() == ["done"] * 4


def test_status_of_nothing_says_so(job: Job, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run here"):
        job.states(tmp_path / "source")


def test_status_changes_nothing(job: Job) -> None:
    job.run()
    (FOLDER / "deploy" / "deploy.txt").write_text("other")
    before = sorted((path, path.read_bytes()) for path in FOLDER.rglob("*") if path.is_file())
    job.states()
    assert sorted((path, path.read_bytes()) for path in FOLDER.rglob("*") if path.is_file()) == before


VARIANT = 'name = "job"\n[variants.other.deploy]\noptimize = "speed"\n'


def test_a_variant_runs_from_its_first_difference_on(job: Job) -> None:
    job.recipe = read_recipe(job.write(VARIANT), job.stubs.stages)
    done = run_recipe(job.recipe, FOLDER, job.events.append)
    job.stubs.calls.clear()
    told: list[Any] = []
    outcomes = run_variants(job.recipe, FOLDER, done, told.append, Asked())
    assert job.stubs.calls == ["deploy", "flash", "hil"]
    assert [event.stage for event in told if event.what == "done"] == ["other/deploy", "other/flash", "other/hil"]
    artifacts = outcomes["other"].artifacts
    assert artifacts["train"].path == done.artifacts["train"].path
    assert artifacts["deploy"].manifest.config["optimize"] == "speed"
    assert artifacts["deploy"].manifest.inputs == done.artifacts["deploy"].manifest.inputs
    job.stubs.calls.clear()
    run_variants(job.recipe, FOLDER, done, told.append, Asked())
    assert job.stubs.calls == [] and (FOLDER / "other/hil").is_dir()


def test_the_status_tells_of_variants(job: Job) -> None:
    path = job.write(VARIANT)
    job.recipe = read_recipe(path, job.stubs.stages)
    run_recipe(job.recipe, FOLDER, job.events.append)
    _, lines = status(path, job.stubs.stages)
    states = {line.stage: line.standing.state for line in lines}
    assert states["deploy"] == "done" and states["other/deploy"] != "done" and "other/train" not in states


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[variants]\ntrain = {}\n", "no name for a variant"),
        ("variants = 3\n", "variants is a table"),
        ("[variants]\na = 3\n", "a variant is a table"),
        ("[variants.a.deploi]\nboard = 'x'\n", "unknown table"),
        ("[variants.a.deploy]\nspeed = 'x'\n", "unknown key"),
    ],
)
def test_variants_that_are_none_are_refused(job: Job, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe(job.write(text), job.stubs.stages)
