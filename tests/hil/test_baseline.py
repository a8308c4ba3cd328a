"""A result beside its baseline: which figures fail, which results are refused, what accepting writes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import GateError, UsageError
from policyport.hil.config import HilConfig
from policyport.hil.rack.baseline import Compared, Tolerances, compare, describe, require_held
from policyport.hil.result import Result
from policyport.pipeline.cli import main
from results import coding_figures, loop_figures, result

LOOP = loop_figures([200.0, 220.0], [210.0, 220.0], 0.99)
BASE: Result = result(LOOP, HilConfig())


def with_latency(result: Result, p50: int) -> Result:
    inference = replace(result.latency.inference, p50=p50)
    return replace(result, latency=replace(result.latency, inference=inference))


def with_return(result: Result, mean: float) -> Result:
    assert result.loop is not None
    return replace(result, loop=replace(result.loop, board=replace(result.loop.board, mean=mean)))


CHANGES: dict[str, tuple[Callable[[Result, float], Result], float]] = {
    "instructions p50": (lambda r, n: with_latency(r, int(n)), 910),
    "flash, B": (lambda r, n: replace(r, footprint={"flash_bytes": int(n)}), 9000),
    "stack used, B": (lambda r, n: replace(r, memory=replace(r.memory, stack_used_bytes=int(n))), 500),
}
"""Figure to how it is set and what it is in the baseline; more of each is worse."""


def violated(result: Result, tolerances: Tolerances | None = None) -> list[str]:
    return [one.name for one in compare(BASE, result, tolerances or Tolerances()) if not one.held]


@pytest.mark.parametrize("name", CHANGES)
def test_a_figure_fails_beyond_its_tolerance_and_not_before(name: str) -> None:
    change, before = CHANGES[name]
    wide = Tolerances(10, 10, 10, 10, 10)
    assert violated(change(BASE, before * 1.1), wide) == []
    assert violated(change(BASE, before * 1.1 + 1), wide) == [name]
    assert violated(change(BASE, before / 2)) == []


def test_a_return_fails_when_it_falls_and_not_when_it_rises() -> None:
    assert violated(with_return(BASE, 210 * 0.99)) == []
    assert violated(with_return(BASE, 207.0)) == ["mean return"]
    assert violated(with_return(BASE, 400.0)) == []


def test_coded_pictures_are_compared_where_they_are_the_same_ones() -> None:
    coding = coding_figures()
    base = replace(BASE, coding=coding)
    more = tuple(
        replace(row, board=replace(row.board, bits_per_pixel=row.board.bits_per_pixel * 1.02))
        for row in coding.qualities
    )
    compared = compare(base, replace(base, coding=replace(coding, qualities=more)), Tolerances())
    assert [one.name for one in compared if not one.held] == ["bits per pixel, quality 3", "bits per pixel, quality 6"]
    assert {"instructions per pixel", "PSNR, quality 6"} <= {one.name for one in compared}
    with pytest.raises(UsageError, match="coded pictures"):
        compare(base, replace(base, coding=replace(coding, pictures=3)), Tolerances())


def test_a_tolerance_of_a_negative_return_is_of_its_magnitude() -> None:
    negative = with_return(BASE, -150.0)
    (one,) = (c for c in compare(negative, with_return(BASE, -151.0), Tolerances()) if c.name == "mean return")
    assert one.held and one.verdict == "worse"
    (one,) = (c for c in compare(negative, with_return(BASE, -152.0), Tolerances()) if c.name == "mean return")
    assert not one.held


def test_integers_unlike_the_reference_have_no_tolerance() -> None:
    layers = tuple(replace(layer, equal=layer.equal - 1) for layer in BASE.parity.layers)
    assert violated(replace(BASE, parity=replace(BASE.parity, layers=layers)), Tolerances(99, 99, 99, 99, 99)) == [
        "integers unlike the reference"
    ]


def test_memory_that_was_not_recorded_is_not_compared() -> None:
    names = [one.name for one in compare(BASE, BASE, Tolerances())]
    assert "flash, B" in names and "RAM, B" not in names


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("board", replace(BASE, board=replace(BASE.board, name="mps2-an385"))),
        ("emulator", replace(BASE, board=replace(BASE.board, emulator="qemu 7.2.22"))),
        ("emulator", replace(BASE, board=replace(BASE.board, emulated=False, emulator=""))),
        ("task", replace(BASE, model="pendulum")),
        ("closed loop", replace(BASE, loop=None)),
        ("closed loop", replace(BASE, loop=replace(LOOP, first_seed=7))),
    ],
)
def test_results_of_something_else_are_refused(what: str, other: Result) -> None:
    with pytest.raises(UsageError, match=f"another {what}"):
        compare(BASE, other, Tolerances())


def test_another_version_of_an_emulator_counts_alike() -> None:
    assert violated(replace(BASE, board=replace(BASE.board, emulator="unicorn 3.0.0"))) == []


def test_every_violated_figure_has_a_line(tmp_path: Path) -> None:
    compared = compare(BASE, with_return(with_latency(BASE, 2000), 1.0), Tolerances())
    with pytest.raises(GateError, match=r"2 of \d figures") as caught:
        require_held(compared, tmp_path)
    lines = str(caught.value.got).splitlines()
    assert [line.strip() for line in lines] == [
        "instructions p50: baseline 910, now 2,000, tolerance 2 %",
        "mean return: baseline 210, now 1, tolerance 1 %",
    ]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_a_verdict_is_one_of_four_and_fits_the_figures(
    before: float, now: float, allowed: float, rising_is_worse: bool
) -> None:
    one = Compared("figure", before, now, allowed, "some", rising_is_worse)
    mirrored = Compared("figure", -before, -now, allowed, "some", not rising_is_worse)
    assert one.verdict == mirrored.verdict and one.held == mirrored.held
    assert (one.verdict == "same") == (before == now)
    assert one.held or now != before
    assert one.name in describe(one)


class TestCommand:
    """``policyport hil compare``."""

    @pytest.fixture
    def run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
        BASE.write(tmp_path / "baseline.json")

        def run(result: Result, *flags: str) -> tuple[int, str, str]:
            (tmp_path / "hil").mkdir(exist_ok=True)
            result.write(tmp_path / "hil" / "result.json")
            code = main(["hil", "compare", str(tmp_path / "baseline.json"), *flags])
            return code, *capsys.readouterr()

        return run

    def test_exit_code_and_table(self, run: Callable[..., tuple[int, str, str]]) -> None:
        code, out, err = run(with_latency(BASE, 905))
        assert code == 0 and "better" in out and err == ""
        code, out, err = run(with_latency(BASE, 1000))
        assert code == 1 and "too much worse" in out
        assert "instructions p50: baseline 910, now 1,000, tolerance 2 %" in err
        assert run(with_latency(BASE, 1000), "--latency", "10%")[0] == 0

    def test_accepting_writes_the_result(self, run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
        worse = replace(with_latency(BASE, 1000), model="another")
        assert run(worse, "--accept")[0] == 0
        assert Result.read(tmp_path / "baseline.json") == worse
        assert sorted(path.name for path in tmp_path.iterdir()) == ["baseline.json", "hil"]
        assert run(worse)[0] == 0

    def test_a_first_baseline(self, run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
        (tmp_path / "baseline.json").unlink()
        code, _, err = run(BASE)
        assert code == 2 and "--accept" in err
        assert run(BASE, "--accept")[0] == 0 and Result.read(tmp_path / "baseline.json") == BASE

    def test_junit_and_json(self, run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
        junit = tmp_path / "compare.xml"
        code, out, _ = run(with_latency(BASE, 1000), "--json", "--junit", str(junit))
        rows: list[dict[str, Any]] = json.loads(out)
        assert code == 1 and [row["name"] for row in rows if not row["held"]] == ["instructions p50"]
        suite = ET.parse(junit).getroot()
        assert suite.get("failures") == "1" and suite.get("tests") == str(len(rows))

    @pytest.mark.parametrize("text", ["-1", "nan", "inf", "much"])
    def test_no_percentage(self, run: Callable[..., tuple[int, str, str]], text: str) -> None:
        with pytest.raises(SystemExit) as caught:
            run(BASE, "--memory", text)
        assert caught.value.code == 2

    @pytest.mark.parametrize("text", ["{", "[]", "7", '{"schema": 0}'])
    def test_a_baseline_that_is_none(self, run: Callable[..., tuple[int, str, str]], text: str, tmp_path: Path) -> None:
        (tmp_path / "baseline.json").write_text(text)
        code, _, err = run(BASE)
        assert code == 2 and str(tmp_path / "baseline.json") in err

    def test_a_folder_is_not_overwritten(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        BASE.write(tmp_path / "result.json")
        assert main(["hil", "compare", str(tmp_path), str(tmp_path), "--accept"]) == 2
        assert "baseline.json" in capsys.readouterr().err
