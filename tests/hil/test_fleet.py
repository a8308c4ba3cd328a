"""Several boards at once: emulated, behind a socket, not there; one table, and nobody lost by another's failure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from policyport.core.errors import BoardError
from policyport.deploy import FlashConfig, flash
from policyport.deploy.board import load_board
from policyport.hil import HilConfig
from policyport.hil.rack.places import Place
from policyport.hil.result import Result
from policyport.hil.rig import EmulatedRig
from policyport.pipeline.cli import main
from policyport.pipeline.fleet import Job, Outcome, measure_all, measure_one
from policyport.pipeline.hil_boards_command import PRESETS
from policyport.pipeline.hil_boards_tables import COLUMNS, print_table
from tiny import Built

SMALL = ("--parity-observations", "3", "--latency-observations", "4", "--timeout-s", "1")


def test_a_board_that_is_missing_loses_no_other(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EmulatedRig(load_board("mps2-an386"), built.image.file("firmware.bin"), link="socket") as rig:
        boards = f"mps2-an386,far={rig.url},gone=socket://127.0.0.1:9"
        code = main(["hil", "parity", str(built.image.path), "--board", boards, *SMALL, "--out", str(tmp_path)])
    out, err = capsys.readouterr()
    assert code == 3 and "policyport: gone: this port does not open" in err and err.count("policyport: ") == 1
    assert "3 boards, " in out
    emulated, far, gone = json.loads((tmp_path / "boards.json").read_text())
    assert (gone["result"], gone["exit_code"], emulated["error"], far["error"]) == (None, 3, None, None)
    results = [Result.read(Path(row["result"])) for row in (emulated, far)]
    assert [result.board.emulated for result in results] == [True, False]
    assert all(result.parity.equal and result.parity.observations == 3 for result in results)
    compared = sum(layer.compared for layer in results[0].parity.layers)
    assert compared > 0 and out.count(f"{compared} of {compared}") == 2
    assert all(result.loop is None and result.firmware == results[0].firmware for result in results)


class Deadly(Place):
    """A board whose process ends as it is told of it."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


def test_a_process_that_dies_is_one_boards_failure(built: Built, tmp_path: Path) -> None:
    config = HilConfig(episodes=0, parity_observations=1, latency_observations=1)
    jobs = [
        Job(place, built.image.path, config, tmp_path / place.name)
        for place in (Deadly("deadly", "mps2-an386"), Place("well", "mps2-an386"))
    ]
    told: list[str] = []
    deadly, well = measure_all(jobs, 2, lambda outcome: told.append(outcome.name))
    assert isinstance(deadly.error, BoardError) and deadly.measured is None
    assert well.error is None and well.result() is not None
    assert sorted(told) == ["deadly", "well"]


def test_a_failed_gate_is_told_each_time_and_measured_once(built: Built, tmp_path: Path) -> None:
    config = HilConfig(episodes=1, parity_observations=1, latency_observations=1, min_return=1e6)
    job = Job(Place("x", "mps2-an386"), built.image.path, config, tmp_path / "x")
    first, second = measure_one(job), measure_one(job)
    for outcome in (first, second):
        assert outcome.error is not None and outcome.error.exit_code == 1
        assert outcome.result() is not None and outcome.result().gate == "failed"  # type: ignore[union-attr]
    assert second.seconds < first.seconds


def test_a_real_board_that_runs_the_image_is_not_programmed(built: Built, tmp_path: Path) -> None:
    made = flash(built.image.path, FlashConfig(port="socket://rack:1", runner="none"), tmp_path / "flash")
    assert (made.manifest.figures["runner"], made.manifest.figures["port"]) == ("none", "socket://rack:1")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--board", "mps2-an385"), "no image for this board"),
        (("--board", "nothing"), "unknown board"),
        (("--board", "../x=socket://rack:1"), "no name of a board"),
        (("--board", "mps2-an386,mps2-an386", "--port", "socket://rack:1"), "one port for several boards"),
        (("--jobs", "0"), "no board can be measured"),
    ],
)
def test_a_wrong_choice_measures_nothing(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert main(["hil", "bench", str(built.image.path), *flags, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_every_verb_has_its_table(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = built.run(tmp_path / "hil").path
    outcomes = [Outcome("one", measured, None, 1.0), Outcome("gone", None, BoardError("not there"), 0.1)]
    shown = {}
    for verb in PRESETS:
        print_table(verb, outcomes)
        shown[verb] = capsys.readouterr().out
    assert set(COLUMNS) | {"trace"} == set(PRESETS)
    result = Result.read(measured / "result.json")
    assert all(row.name in shown["trace"] and f"{row.count:,}" in shown["trace"] for row in result.latency.layers)
    assert f"{result.latency.inference.p50:,}" in shown["bench"] and "not there" in shown["bench"]
    assert result.loop is not None and f"{result.loop.steps:,}" in shown["loop"]
