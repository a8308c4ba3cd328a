"""Progress: a bar for who watches, lines for who does not, silence for who asked for it."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from policyport.core import progress as module
from policyport.core.progress import BAR_AFTER_S, LINE_EVERY_S, each, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, as a list of one."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def quiet() -> Iterator[None]:
    module.log.setLevel(logging.ERROR)
    yield
    module.log.setLevel(logging.NOTSET)


def test_lines_come_now_and_then(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "policyport.progress")
    with progress("train", 8) as advance:
        for step in range(1, 9):
            clock[0] += LINE_EVERY_S / 4
            advance(step, f"return {step}")
    assert caplog.messages == ["train: 50 %, return 4", "train: 100 %, return 8"]


def test_short_work_has_no_line(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "policyport.progress")
    with progress("parity", 3) as advance:
        advance(3)
    assert caplog.messages == []


def test_a_terminal_shows_a_bar_once_the_work_has_taken_a_while(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("closed loop", 2) as advance:
        advance(1, "return 11.0")
        assert terminal.getvalue() == ""
        clock[0] += BAR_AFTER_S
        advance(1.5, "return 12.0")
    assert "closed loop" in terminal.getvalue() and "return 12.0" in terminal.getvalue()


def test_work_inside_of_work_has_no_bar_but_work_behind_it_has(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("outer", 2) as outer:
        clock[0] += BAR_AFTER_S
        outer(1)
        with progress("inner", 2) as inner:
            clock[0] += BAR_AFTER_S
            inner(1)
        outer(2)
    with progress("next", 1) as advance:
        clock[0] += BAR_AFTER_S
        advance(1)
    assert "outer" in terminal.getvalue() and "next" in terminal.getvalue() and "inner" not in terminal.getvalue()


def test_each_gives_all_items_in_order_and_tells_of_them(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "policyport.progress")
    seen = []
    for item in each("quantize", ["a", "b", "c", "d"]):
        clock[0] += LINE_EVERY_S / 2
        seen.append(item)
    assert seen == ["a", "b", "c", "d"]
    assert caplog.messages == ["quantize: 50 %", "quantize: 100 %"]


def test_quiet_shows_none(monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("closed loop", 2) as advance:
        advance(1, "return 12.0")
    assert terminal.getvalue() == ""
