"""Why a stage is not done, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.artifact import write_artifact
from policyport.pipeline.assess import Wanted, assess, config_differences

WANTED = Wanted("quantize", {"model": "a" * 64}, {"bits": 8}, "code")


@pytest.fixture
def done(tmp_path: Path) -> Path:
    out = tmp_path / "quantize"
    with write_artifact(out, "quantize", inputs=WANTED.inputs, config={"bits": 8}, code="code"):  # type: ignore[arg-type]
        pass
    return out


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Wanted("quantize", {"model": "b" * 64}, {"bits": 8}, "code"), "input model changed from aaaaaaaaaaaa to b"),
        (Wanted("quantize", {"model": None}, {"bits": 8}, "code"), "input model is not up to date"),
        (Wanted("quantize", {"model": "a" * 64}, {"bits": 4}, "code"), "configuration key bits changed from 8 to 4"),
        (Wanted("quantize", {"model": "a" * 64}, {}, "code"), "configuration key bits is gone, was 8"),
        (Wanted("quantize", {"model": "a" * 64}, {"bits": 8, "x": 1}, "code"), "configuration key x is new, is 1"),
        (Wanted("quantize", {"model": "a" * 64}, {"bits": 8}, "edoc"), "code changed"),
        (Wanted("deploy", {"model": "a" * 64}, {"bits": 8}, "code"), "this folder holds a quantize artifact"),
    ],
)
def test_each_difference_has_its_reason(done: Path, wanted: Wanted, reason: str) -> None:
    standing = assess(done, wanted)
    assert standing.state == "stale"
    assert standing.because.startswith(reason)


def test_every_reason_is_told(done: Path) -> None:
    wanted = Wanted("quantize", {"model": "b" * 64}, {"bits": 4}, "edoc")
    assert [reason.split()[0] for reason in assess(done, wanted).reasons] == ["input", "configuration", "code"]


def test_a_manifest_whose_key_was_altered_is_stale(done: Path) -> None:
    table = json.loads((done / "manifest.json").read_text())
    (done / "manifest.json").write_text(json.dumps({**table, "key": "0" * 64}))
    assert "manifest was altered" in assess(done, WANTED).because


def test_done_has_no_reason(done: Path) -> None:
    standing = assess(done, WANTED)
    assert (standing.state, standing.reasons) == ("done", ())


def test_training_tags_its_state_with_the_key(done: Path) -> None:
    partial = done.with_name("quantize.partial")
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"key": WANTED.key}))
    assert assess(done, WANTED).state == "partial"
    (partial / "state.json").write_text(json.dumps({"key": "other"}))
    assert assess(done, WANTED).state == "done"


CONFIGS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2))


@given(was=CONFIGS, now=CONFIGS)
def test_a_reason_for_each_key_that_differs_and_no_other(was: dict[str, int], now: dict[str, int]) -> None:
    differing = {key for key in {*was, *now} if was.get(key) != now.get(key)}
    assert {reason.split()[2] for reason in config_differences(was, now)} == differing
