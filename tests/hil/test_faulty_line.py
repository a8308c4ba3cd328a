"""A line that harms frames: what it does to them, and that no harm becomes a wrong result on an emulated board."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import GateError
from policyport.firmware_bridge.frame import Decoder, Frame, encode
from policyport.hil.rack.fault_campaign import Conversation, Figures, require_none_wrong, run_campaign
from policyport.hil.rack.faulty_link import KINDS, Faults, FaultyLink
from policyport.pipeline.cli import main
from tiny import Built

FRAMES = st.lists(
    st.builds(Frame, st.integers(1, 6), st.integers(0, 255), st.just(0), st.binary(max_size=40)), max_size=8
)


def through(frames: list[Frame], faults: Faults) -> tuple[list[Frame], FaultyLink]:
    """What comes back of frames from a line whose other end sends everything back."""
    with FaultyLink("loop://", 115200, faults) as link:
        decoder, found = Decoder(), []
        for frame in frames:
            link.write(encode(frame))
            while data := link.read(0.0):
                found += [item for item in decoder.feed(data) if isinstance(item, Frame)]
        return found, link


@settings(max_examples=40)
@given(FRAMES)
def test_a_line_without_faults_changes_nothing(frames: list[Frame]) -> None:
    found, link = through(frames, Faults(share=0.0))
    assert found == frames and not link.harmed and link.frames == 2 * len(frames)


@settings(max_examples=40)
@given(FRAMES, st.integers(0, 1000))
def test_no_harmed_frame_reads_as_another(frames: list[Frame], seed: int) -> None:
    found, link = through(frames, Faults(share=1.0, longest_delay_s=0.0, seed=seed))
    resets = [frame for frame in found if frame.type == 7 and not frame.payload and frame not in frames]
    assert all(frame in frames for frame in found if frame not in resets)
    assert set(link.harmed) <= set(KINDS)


def test_the_same_seed_harms_the_same() -> None:
    frames = [Frame(2, number, 0, bytes([number] * 9)) for number in range(60)]
    faults = Faults(share=0.5, longest_delay_s=0.0, seed=4)
    (first, one), (second, other) = through(frames, faults), through(frames, faults)
    assert first == second != frames and one.harmed == other.harmed and set(one.harmed) == set(KINDS)


@pytest.fixture(scope="module")
def figures(built: Built) -> Iterator[Figures]:
    yield run_campaign(built.image.path, 600, Faults(share=0.12, longest_delay_s=0.1, seed=3), timeout_s=0.08)


def test_no_fault_becomes_a_wrong_result_or_a_hang(figures: Figures) -> None:
    assert (figures.wrong, figures.hung) == (0, 0)
    ends = figures.answered + figures.timed_out + figures.restarts_told + figures.refused
    assert ends == figures.exchanges > 80
    assert figures.frames >= 600 and set(figures.harmed) == set(KINDS)
    assert figures.answered > figures.exchanges / 2 and figures.resends > 10 and figures.restarts_told > 0
    require_none_wrong(figures, "line")


@pytest.mark.parametrize("change", [{"wrong": 1}, {"hung": 1}])
def test_a_wrong_result_or_a_hang_fails(figures: Figures, change: dict[str, int]) -> None:
    with pytest.raises(GateError, match="not all caught"):
        require_none_wrong(replace(figures, **change), "line")


def test_a_wrong_answer_is_seen(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Conversation.__init__

    def other_outputs(self: Conversation, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        self._outputs = self._outputs + 1

    monkeypatch.setattr(Conversation, "__init__", other_outputs)
    found = run_campaign(built.image.path, 60, Faults(share=0.0), timeout_s=1.0)
    assert 0 < found.wrong < found.exchanges, "every inference, no echo"


def test_the_command_prints_its_figures(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--frames", "100", "--timeout-s", "0.5")
    assert main(["hil", "faults", str(built.image.path), *flags, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["frames"] >= 100 and table["wrong"] == 0
    assert main(["hil", "faults", str(built.image.path), *flags]) == 0
    assert "0 wrong results taken" in capsys.readouterr().out
