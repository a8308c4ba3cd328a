"""Energy between two moments: the integral, the drivers, and the whole stage with a recording that is replayed."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import tty
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import BoardError, ConfigError, ToolError
from policyport.deploy import FlashConfig, flash
from policyport.deploy.board import load_board
from policyport.hil.energy import find_driver, joules_between
from policyport.hil.power_lines import MeterLines
from policyport.hil.power_recording import Recording
from policyport.hil.power_replay import Replay
from policyport.hil.report.comparison import comparison
from policyport.hil.report.data import gather
from policyport.hil.result import Result
from policyport.hil.rig import EmulatedRig
from tiny import SHORT, Built

WATTS = st.lists(st.floats(0, 10, width=32), min_size=2, max_size=30)


@given(WATTS, st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)))
def test_the_integral_adds_up(watts: list[float], moments: tuple[float, float, float]) -> None:
    times = np.linspace(0.0, 1.0, len(watts))
    recording = Recording(times, np.array(watts))
    first, middle, last = sorted(moments)
    parts = joules_between(recording, first, middle) + joules_between(recording, middle, last)
    whole = joules_between(recording, first, last)
    assert parts == pytest.approx(whole, abs=1e-9)
    assert -1e-9 <= whole <= max(watts) * (last - first) + 1e-9


@given(st.floats(0.1, 5), st.floats(-3, 3), st.floats(0.05, 0.45), st.floats(0.5, 0.95))
def test_a_linear_power_is_integrated_exactly(at_begin: float, slope: float, begin: float, end: float) -> None:
    times = np.sort(np.random.default_rng(1).uniform(0, 1, 40))
    times[[0, -1]] = 0.0, 1.0
    expected = at_begin * (end - begin) + slope * (end**2 - begin**2) / 2
    assert joules_between(Recording(times, at_begin + slope * times), begin, end) == pytest.approx(expected)


def recording_file(path: Path, seconds: float, watts: float = 0.25, step_s: float = 0.002) -> Path:
    """A supply that takes as much all the time."""
    times = np.arange(0, seconds, step_s)
    path.write_text("seconds,watts\n" + "".join(f"{t:.6f},{watts}\n" for t in times))
    return path


def test_a_replay_begins_when_it_is_started(tmp_path: Path) -> None:
    meter = Replay(str(recording_file(tmp_path / "power.csv", 10.0)))
    before = time.monotonic()
    meter.start(10.0)
    time.sleep(0.1)
    recording = meter.stop()
    after = time.monotonic()
    assert before <= recording.times_s[0] <= recording.times_s[-1] <= after
    assert 0.09 < recording.times_s[-1] - recording.times_s[0] < after - before


@pytest.mark.parametrize("text", ["", "watts\n1\n", "seconds,watts\n0,much\n", "seconds,watts\n1,1\n0,1\n"])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "power.csv"
    path.write_text(text)
    if not text:
        path.unlink()
    with pytest.raises(ConfigError, match="recording"):
        Replay(str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals do not exist on Windows")
def test_lines_of_a_serial_meter() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with MeterLines(f"{os.ttyname(slave)}@9600") as meter:
        meter.start(10.0)
        os.write(master, b"0.5\r\nnoise\r\n0.2")
        time.sleep(0.2)
        os.write(master, b"5\r\n")
        time.sleep(0.2)
        recording = meter.stop()
    os.close(master)
    os.close(slave)
    assert recording.watts.tolist() == [0.5, 0.25]
    assert recording.times_s[1] - recording.times_s[0] > 0.1


def test_a_serial_meter_that_is_not_there() -> None:
    with pytest.raises(BoardError, match="does not open"):
        MeterLines("/dev/no-such-meter")
    with pytest.raises(ConfigError, match="no rate"):
        MeterLines("/dev/no-such-meter@fast")


def test_a_joulescope_that_is_not_there() -> None:
    installed = importlib.util.find_spec("joulescope") is not None
    with pytest.raises(BoardError if installed else ToolError, match="joulescope" if not installed else "Joulescope"):
        find_driver("joulescope")("")


def test_a_lab_registers_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_meter.py").write_text("from policyport.hil.power_replay import Replay as Meter\n")
    (tmp_path / "lab_meter-1.dist-info").mkdir()
    (tmp_path / "lab_meter-1.dist-info" / "METADATA").write_text("Name: lab-meter\nVersion: 1\n")
    (tmp_path / "lab_meter-1.dist-info" / "entry_points.txt").write_text(
        "[policyport.power_meters]\nshunt = lab_meter:Meter\n"
    )
    with pytest.raises(ConfigError, match="unknown power meter"):
        find_driver("shunt")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_driver("shunt") is Replay


@pytest.fixture
def board_url(built: Built) -> Iterator[str]:
    """An emulated board behind a network port, which the stage takes for a real one."""
    with EmulatedRig(load_board("mps2-an386"), built.image.file("firmware.bin"), link="socket") as rig:
        yield rig.url


def measured(built: Built, url: str, recording: Path, out: Path) -> Path:
    flash(built.image.path, FlashConfig(port=url, runner="none"), out / "flash")
    config = replace(SHORT, port=url, power_meter=f"replay:{recording}", energy_s=1.0, episodes=1)
    return built.run(out / "hil", config, out / "flash").path


def test_the_stage_measures_energy(built: Built, board_url: str, tmp_path: Path) -> None:
    out = measured(built, board_url, recording_file(tmp_path / "power.csv", 120.0), tmp_path)
    energy = Result.read(out / "result.json").energy
    assert energy is not None and energy.inferences > 10 and energy.seconds >= 1.0
    assert energy.joules == pytest.approx(0.25 * energy.seconds) and energy.idle_watts == pytest.approx(0.25)
    assert energy.per_inference_j == pytest.approx(energy.joules / energy.inferences)
    assert energy.above_idle_j == pytest.approx(0.0, abs=1e-9)
    assert energy.samples == pytest.approx(energy.seconds / 0.002, abs=2)
    assert energy.largest_gap_s == pytest.approx(0.002) and energy.busy_s > 0
    (group,) = (group for group in comparison(gather(out)) if group.title.startswith("Energy"))
    assert [row.label for row in group.rows] == ["per inference", "above idle", "inferences"]
    with np.load(out / "power.npz") as arrays:
        assert arrays["times_s"][0] < arrays["idle_s"] < 0 < arrays["end_s"] < arrays["times_s"][-1]
    assert json.loads((out / "result.json").read_text())["energy"]["meter"].startswith("replay:")


def test_a_recording_that_ends_too_early_is_refused(built: Built, board_url: str, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="do not enclose"):
        measured(built, board_url, recording_file(tmp_path / "power.csv", 0.5), tmp_path)


def test_a_recording_with_a_gap_is_refused(built: Built, board_url: str, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="have a gap"):
        measured(built, board_url, recording_file(tmp_path / "power.csv", 120.0, step_s=0.09), tmp_path)


def test_an_emulated_board_has_no_supply(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no supply"):
        built.run(tmp_path / "hil", replace(SHORT, power_meter="replay:x.csv"))
