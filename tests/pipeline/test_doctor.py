"""doctor: what is missing is said with its cure, and the exit code says whether the main job can run."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from policyport.core.errors import ToolError
from policyport.pipeline import cli, doctor, speak
from policyport.pipeline.finding import Finding, State


def test_this_machine_can_run_the_main_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for what in ("Python", "numpy", "torch", "ARM cross compiler", "board emulator", "TFLite runtime"):
        assert what in text
    assert "missing" not in text
    assert text.endswith("the main job can run on this machine\n")


def test_json_holds_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert {"what", "state", "found", "cures", "code"} == set(table[0])


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        ([("optional", 2)], 0),
        ([("missing", 2)], 2),
        ([("missing", 3)], 3),
        ([("missing", 3), ("missing", 2)], 2),
    ],
)
def test_the_exit_code_is_of_what_is_missing(states: list[tuple[Any, int]], code: int) -> None:
    assert doctor.exit_code([Finding("x", state, "", code=number) for state, number in states]) == code


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.metadata, "version", missing)


ARM: tuple[str, str, State] = ("ARM cross compiler", "arm-none-eabi-gcc", "missing")


@pytest.mark.parametrize("look", [lambda: doctor._cross_compiler(*ARM), doctor._emulator], ids=["compiler", "emulator"])
def test_a_missing_tool_is_missing_with_its_cure(monkeypatch: pytest.MonkeyPatch, look: Callable[[], Finding]) -> None:
    nothing_installed(monkeypatch)
    finding = look()
    assert finding.state == "missing" and finding.cures[0].endswith('"policyport[rig]"') and len(finding.cures) > 1


def test_a_program_that_does_not_run_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "arm-none-eabi-gcc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(broken))
    assert doctor._program("arm-none-eabi-gcc") == ""


def test_the_wheels_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor._cross_compiler(*ARM).found.startswith("zig cc")
    assert doctor._emulator().found.startswith("unicorn")


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(monkeypatch)
    finding = doctor._package("torch", "[train]", "train")
    assert finding.state == "missing" and finding.cures[0].endswith('"policyport[train]"')
    assert finding.found == "not installed; of the stages, train alone needs it"


def test_a_package_that_does_not_import_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert "does not import" in doctor._package("torch", "[train]", "train").found


def test_a_runtime_that_imports_and_builds_no_interpreter_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ToolError("numpy.core.multiarray failed to import")

    monkeypatch.setattr("policyport.deploy.exports.tflite_interpreter", fails)
    finding = doctor._tflite()
    assert finding.state == "optional" and "multiarray" in finding.found and finding.cures


def test_a_cure_is_printed_once_unbroken_on_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "pip install " + "a-long-name " * 20
    cures = (command, "b")
    speak.print_findings(
        [Finding("x", "missing", "none", cures), Finding("y", "optional", "none", cures)], as_json=False
    )
    text = capsys.readouterr().out
    assert f"\nfor x, y, one of:\n  {command}\n  b\n" in text
    assert text.endswith("missing for the main job: x\n")
