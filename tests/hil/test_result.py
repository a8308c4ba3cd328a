"""What is written: result.json, junit.xml, the partial folder; and the gates."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from policyport.core.errors import ArtifactError, GateError
from policyport.hil import gates, junit
from policyport.hil.config import HilConfig
from policyport.hil.partial import open_partial
from policyport.hil.result import LoopFigures, Mismatch, Result
from results import coding_figures, loop_figures, result

ALL_GATES = HilConfig(min_agreement=0.99, min_return=475.0, require_equivalence=True)
GOOD = loop_figures([500.0, 500.0, 500.0], [500.0, 500.0, 500.0], 0.995)
BAD = loop_figures([400.0, 410.0, 420.0], [500.0, 500.0, 500.0], 0.9)


@pytest.mark.parametrize("loop", [GOOD, BAD, None])
@pytest.mark.parametrize("mismatch", [None, Mismatch(0, 0, "fc", 3, 5, 6)])
def test_result_reads_back_as_it_was_written(
    tmp_path: Path, loop: LoopFigures | None, mismatch: Mismatch | None
) -> None:
    written = result(loop, ALL_GATES, mismatch)
    written.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == written


def test_coded_pictures_read_back_and_are_cases_of_junit(tmp_path: Path) -> None:
    written = dataclasses.replace(result(None, HilConfig()), coding=coding_figures())
    written.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == written
    assert written.coding is not None and (written.coding.per_pixel, written.coding.compared_bytes) == (300.5, 2880)
    junit.write(written, tmp_path / "junit.xml")
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert "bytes lake, quality 3" in [case.get("name") for case in suite.iter("testcase")]
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["instructions per pixel"] == "300.5" and properties["PSNR (dB), quality 6"] == "26.0"


@pytest.mark.parametrize(
    "change", [{"schema": 99}, {"parity": {"observations": 1}}, {"loop": {"no": 1}}, {"model": None, "extra": 1}]
)
def test_another_schema_or_a_missing_field_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "result.json"
    result(GOOD, ALL_GATES).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError):
        Result.read(path)


def test_gates_pass_and_fail() -> None:
    assert [gate.passed for gate in gates.judge(ALL_GATES, GOOD)] == [True, True, True]
    assert [gate.passed for gate in gates.judge(ALL_GATES, BAD)] == [False, False, False]
    assert result(GOOD, ALL_GATES).gate == "passed"
    assert result(BAD, ALL_GATES).gate == "failed"
    assert result(BAD, HilConfig()).gate == "none"
    assert result(None, ALL_GATES).gate == "none"


def test_failed_gates_raise_with_the_first_of_them(tmp_path: Path) -> None:
    gates.require_passed(gates.judge(ALL_GATES, GOOD), tmp_path)
    with pytest.raises(GateError, match=r"3 of 3 gates failed; first: min_agreement") as caught:
        gates.require_passed(gates.judge(ALL_GATES, BAD), tmp_path)
    assert (caught.value.expected, caught.value.got, caught.value.exit_code) == ("at least 0.9900", "0.9000", 1)


def test_a_return_limit_of_zero_is_a_gate() -> None:
    negative = loop_figures([-1.0, -1.0], [0.0, 0.0], 1.0)
    assert [gate.passed for gate in gates.judge(HilConfig(min_return=0.0), negative)] == [False]


def test_junit_counts_its_failures(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    junit.write(result(BAD, ALL_GATES), path)
    suite = ET.parse(path).getroot()
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["parity fc", "gate min_agreement", "gate min_return", "gate require_equivalence"]
    assert (suite.get("failures"), suite.get("tests")) == ("4", "6")
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties["inference p99 (emulated instructions)"] == "930"


def test_partial_is_kept_for_the_same_key_only(tmp_path: Path) -> None:
    out = tmp_path / "hil"
    first = open_partial(out, "a")
    (first.path / "episodes.jsonl").write_text("x")
    assert (open_partial(out, "a").path / "episodes.jsonl").exists()
    other = open_partial(out, "b")
    assert not (other.path / "episodes.jsonl").exists()
    other.remove()
    assert not other.path.exists()


def test_config_fields_name_their_units_and_defaults() -> None:
    for field in dataclasses.fields(HilConfig):
        assert field.metadata["help"] and not field.metadata["help"].endswith(".")
    assert HilConfig().episodes == 20 and HilConfig().min_return is None
