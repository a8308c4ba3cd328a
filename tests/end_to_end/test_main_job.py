"""The main job on the emulated board, from training to report, and what it must reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from policyport.core.errors import ToolError
from policyport.deploy.board import board_names, load_board
from policyport.hil.rig import choose_emulator
from policyport.pipeline.cli import main

PEER = {"instructions": 65_491, "flash_bytes": 37_496 + 10_352, "ram_bytes": 2_036 + 736}
"""TensorFlow Lite Micro with CMSIS-NN, the same 4-64-64-2 network with tanh at int8 on a Cortex-M4, recorded."""


def result(runs: Path, name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((runs / name / "hil" / "result.json").read_text())
    return table


@pytest.mark.parametrize("name", ["int16", "int8"])
def test_board_equals_the_reference(runs: Path, name: str) -> None:
    parity = result(runs, name)["parity"]
    assert parity["equal"] and parity["observations"] == 16 and len(parity["layers"]) == 3


@pytest.mark.parametrize("name", ["int16", "int8"])
def test_a_fraction_of_the_peer(runs: Path, name: str) -> None:
    found = result(runs, name)
    assert found["latency"]["inference"]["max"] < PEER["instructions"] / 4
    assert found["footprint"]["policy_flash_bytes"] <= PEER["flash_bytes"] / 4
    ram = found["footprint"]["policy_ram_bytes"] + found["memory"]["stack_used_bytes"]
    assert ram <= PEER["ram_bytes"] / 2


def test_page_stands_alone(runs: Path) -> None:
    page = (runs / "int16" / "report" / "report.html").read_text()
    assert "<svg" in page
    assert "src=" not in page and "<link" not in page and "@import" not in page


def test_second_run_has_nothing_to_do(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (runs / "int16" / "hil" / "manifest.json").stat().st_mtime_ns
    assert main(["run", str(runs / "int16.toml"), "--out", str(runs / "int16")]) == 0
    assert (runs / "int16" / "hil" / "manifest.json").stat().st_mtime_ns == before
    out, err = capsys.readouterr()
    assert (out + err).count("skipped") == 6


def measure(runs: Path, name: str, out: Path, *more: str) -> int:
    image, board = str(runs / name / "deploy"), str(runs / name / "flash")
    flags = ("--episodes", "0", "--latency-observations", "8", "--parity-observations", "2", "-q")
    return main(["hil", image, board, "--out", str(out), *flags, *more])


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
def test_both_emulators_count_alike(runs: Path, tmp_path: Path) -> None:
    counts = []
    for emulator in ("qemu", "unicorn"):
        assert measure(runs, "int16", tmp_path / emulator, "--emulator", emulator) == 0
        latency = json.loads((tmp_path / emulator / "result.json").read_text())["latency"]
        counts.append((latency["inference"], latency["layers"]))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("board", [name for name in board_names() if name != "mps2-an386"])
def test_other_boards_run_the_same_policy(runs: Path, tmp_path: Path, board: str) -> None:
    try:
        choose_emulator(load_board(board), "auto")
    except ToolError as error:
        pytest.skip(error.what)
    built, flashed = tmp_path / "deploy", tmp_path / "flash"
    assert main(["deploy", str(runs / "int8" / "quantize"), "--board", board, "--out", str(built), "-q"]) == 0
    assert main(["flash", str(built), "--out", str(flashed), "-q"]) == 0
    flags = ("--episodes", "0", "--parity-observations", "4", "--latency-observations", "8", "-q")
    assert main(["hil", str(built), str(flashed), "--out", str(tmp_path / "hil"), *flags]) == 0


def test_a_bare_file_is_measured_without_an_environment(runs: Path, tmp_path: Path, capsys: Any) -> None:
    built, flashed, measured = (tmp_path / name for name in ("deploy", "flash", "hil"))
    model = shutil.copy(runs / "int8" / "deploy" / "policy.tflite", tmp_path / "alone.tflite")
    assert main(["deploy", str(model), "--board", "mps2-an386", "--out", str(built), "-q"]) == 0
    assert main(["flash", str(built), "--out", str(flashed), "-q"]) == 0
    flags = ["hil", str(built), str(flashed), "--out", str(measured), "--latency-observations", "2", "-q"]
    assert main([*flags, "--min-return", "100"]) == 2
    assert "belongs to no environment" in capsys.readouterr().err
    assert main(flags) == 0
    result = json.loads((measured / "result.json").read_text())
    assert result["loop"] is None and result["parity"]["equal"] and result["latency"]["inference"]["p50"] > 1000
    assert main(["report", str(measured), "--out", str(tmp_path / "report"), "-q"]) == 0
