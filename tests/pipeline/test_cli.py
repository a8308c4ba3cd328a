"""The command line: help that is quick and complete, exit codes, streams, the modules as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import policyport
import pytest
from policyport.core import errors
from policyport.core.options import add_arguments
from policyport.pipeline import cli
from policyport.pipeline.run import Outcome
from policyport.pipeline.stages import STAGES

COMMANDS = ("run", "train", "quantize", "deploy", "flash", "hil", "report", "status", "doctor")
HEAVY = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "gymnasium",
    "stable_baselines3",
    "matplotlib",
    "rich",
    "serial",
    "unicorn",
    "jinja2",
    "elftools",
)


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


@pytest.mark.parametrize(
    "arguments", [[], ["boards"], *([command] for command in COMMANDS)], ids=lambda words: "".join(words)
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from policyport.pipeline.cli import main\n"
        f"try: main({[*arguments, '--help']!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"found = sorted(set({HEAVY!r}) & set(sys.modules)); assert not found, found"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: policyport")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_help_of_a_stage_names_every_flag_and_default(stage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    text = help_of(stage.name, capsys)
    parser = argparse.ArgumentParser()
    add_arguments(parser, stage.config_type())
    for action in parser._actions:
        assert (action.option_strings or [action.dest])[0] in text
    _, flags = text.split("options:", 1)
    assert flags.count("[default: ") >= len(parser._actions) - 1 + len(stage.inputs)


@pytest.mark.parametrize("command", ["run", "status", "boards", "doctor"])
def test_the_help_of_the_others_names_every_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = help_of(command, capsys).split("options:", 1)[1]
    assert flags.count("[default: ") == flags.count(" --") - flags.count("--help")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"policyport {policyport.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--sede", "3"], ["run"]])
def test_usage_errors_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: policyport" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GateError("gate"), 1),
        (errors.ConfigError("key"), 2),
        (errors.ToolError("compiler"), 2),
        (errors.BoardBusyError("busy"), 3),
        (errors.ParityError("differs"), 4),
    ],
)
def test_an_error_is_told_on_stderr_and_gives_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    monkeypatch.setattr(cli, "_doctor", _raiser(error))
    assert cli.main(["doctor"]) == code
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err == f"policyport: {error}\n"


def test_an_interruption_ends_with_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_run", _raiser(KeyboardInterrupt()))
    assert cli.main(["run", "my recipe.toml"]) == 130
    assert capsys.readouterr().err.rstrip().endswith("this goes on: policyport run 'my recipe.toml'")


def test_a_file_that_is_refused_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "_doctor", _raiser(PermissionError(13, "Permission denied", "/etc/rules")))
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr().err
    assert said == "policyport: this cannot be read or written (/etc/rules)\n  got:      Permission denied\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_doctor", _raiser(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def _raiser(error: BaseException) -> Callable[..., int]:
    def execute(_: Any) -> int:
        raise error

    return execute


def test_a_gate_that_failed_is_told_after_the_table(
    stubbed: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe_file: Callable[..., Path],
) -> None:
    failed = errors.GateError("1 of 1 gates failed; first: min_return")
    monkeypatch.setattr("policyport.pipeline.run.run_recipe", lambda *_, **__: Outcome({}, failed))
    assert cli.main(["run", str(recipe_file(""))]) == 1
    assert "min_return" in capsys.readouterr().err


@pytest.fixture
def stubbed(stubs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line with the stub stages in place of the real ones."""
    monkeypatch.setattr(cli, "STAGES", stubs.stages)
    return stubs


def test_a_stage_takes_its_recipe_and_flags_win(stubbed: Any, recipe_file: Callable[..., Path]) -> None:
    recipe = str(recipe_file("[train]\nseed = 3\n[deploy]\noptimize = 'speed'\n"))
    assert cli.main(["train", "--recipe", recipe, "--seed", "5"]) == 0
    assert cli.main(["deploy", "--recipe", recipe]) == 0
    manifests = {name: json.loads(Path(f"runs/job/{name}/manifest.json").read_text()) for name in ("train", "deploy")}
    assert manifests["train"]["config"]["seed"] == 5
    assert manifests["deploy"]["config"]["optimize"] == "speed"
    assert manifests["deploy"]["inputs"] == {"model": manifests["train"]["key"]}


def test_a_stage_that_is_done_is_skipped_unless_forced(stubbed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--out", "a"]) == cli.main(["train", "--out", "a"]) == 0
    assert stubbed.calls == ["train"]
    assert "skipped" in capsys.readouterr().out
    assert cli.main(["train", "--out", "a", "--force"]) == 0
    assert stubbed.calls == ["train", "train"]


def test_an_artifact_goes_beside_its_input(stubbed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["train", "--out", "somewhere/train"])
    assert cli.main(["deploy", "somewhere/train"]) == 0
    assert Path("somewhere/deploy/manifest.json").is_file()


def test_a_second_input_is_taken_from_beside_the_first(stubbed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["train", "--out", "somewhere/train"])
    cli.main(["deploy", "somewhere/train"])
    assert cli.main(["hil", "somewhere/deploy"]) == 2
    assert "no such board (" in capsys.readouterr().err
    assert cli.main(["flash", "somewhere/deploy"]) == 0
    assert cli.main(["hil", "somewhere/deploy"]) == 0
    inputs = json.loads(Path("somewhere/hil/manifest.json").read_text())["inputs"]
    keys = {
        name: json.loads(Path(f"somewhere/{name}/manifest.json").read_text())["key"] for name in ("deploy", "flash")
    }
    assert inputs == {"image": keys["deploy"], "board": keys["flash"]}


def test_a_second_input_is_beside_a_first_that_is_not_the_recipes(
    stubbed: Any, recipe_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(recipe_file(""))
    for stage in ("train", "deploy", "flash"):
        assert cli.main([stage, "--recipe", recipe]) == 0
    cli.main(["train", "--out", "somewhere/train"])
    cli.main(["deploy", "somewhere/train"])
    assert cli.main(["hil", "somewhere/deploy", "--recipe", recipe]) == 2
    assert "somewhere/flash" in capsys.readouterr().err
    cli.main(["flash", "somewhere/deploy"])
    assert cli.main(["hil", "somewhere/deploy", "--recipe", recipe]) == 0
    inputs = json.loads(Path("runs/job/hil/manifest.json").read_text())["inputs"]
    assert inputs["board"] == json.loads(Path("somewhere/flash/manifest.json").read_text())["key"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["deploy"], "no model given"),
        (["deploy", "nowhere"], "no such model"),
        (["deploy", "source"], "no artifact here"),
        (["train", "--recipe", "nowhere.toml"], "no such recipe"),
        (["train", "--seed", "-1", "--out", "a"], "out of range"),
        (["status", "nowhere"], "no run here"),
    ],
)
def test_what_cannot_be_done_as_asked_ends_with_2(
    stubbed: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    assert cli.main(arguments) == 2
    assert what in capsys.readouterr().err
    assert stubbed.calls == []


def test_json_is_alone_on_stdout(stubbed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["train", "--out", "a", "--json"])
    table = json.loads(capsys.readouterr().out)
    assert table["train"]["figures"] == {"mean_return": 500.0}


def test_quiet_says_nothing(stubbed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["train", "--out", "a", "-q"])
    assert capsys.readouterr() == ("", "")


def test_status_as_words_and_as_json(
    stubbed: Any, recipe_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(recipe_file(""))
    cli.main(["train", "--recipe", recipe, "--seed", "5", "-q"])
    assert cli.main(["status", recipe]) == 0
    assert "configuration key seed changed from 5 to 0" in capsys.readouterr().out
    assert cli.main(["status", recipe, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [line["state"] for line in table["stages"]] == ["stale", "missing", "missing", "missing"]


@pytest.mark.parametrize("module", ["", *(f".{command}" for command in COMMANDS if command != "run")])
def test_every_command_is_a_module(module: str, tmp_path: Path) -> None:
    done = python("-m", f"policyport{module}", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: policyport")


def test_a_module_gives_the_exit_code(tmp_path: Path) -> None:
    done = python("-m", "policyport.status", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and "no run here" in done.stderr


@pytest.mark.parametrize("module", ["flash", "report", "status", "doctor", "__main__"])
def test_importing_a_command_runs_nothing(module: str) -> None:
    assert python("-c", f"import policyport.{module}").stdout == ""
