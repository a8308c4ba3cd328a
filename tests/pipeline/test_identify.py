"""A finished flash holds as long as the board says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from policyport.core.errors import BoardTimeoutError
from policyport.deploy.board import Board
from policyport.deploy.config import FlashConfig
from policyport.pipeline import identify

REAL = FlashConfig(port="/dev/ttyACM0")


@pytest.fixture
def flashed(tmp_path: Path) -> Path:
    (tmp_path / "board.json").write_text(json.dumps({"build_id": "abc", "board": "stm32f405"}))
    return tmp_path


def test_an_emulated_board_is_not_asked(flashed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "running_build", lambda *_: pytest.fail("asked"))
    assert identify.why_flash_again(FlashConfig(), flashed) == ""


@pytest.mark.parametrize(("running", "reason"), [("abc", ""), ("def", "the board runs build def by now")])
def test_a_real_board_is_asked(flashed: Path, monkeypatch: pytest.MonkeyPatch, running: str, reason: str) -> None:
    def answer(board: Board, *_: object) -> str:
        assert board.name == "stm32f405"
        return running

    monkeypatch.setattr(identify, "running_build", answer)
    assert identify.why_flash_again(REAL, flashed) == reason


def test_a_board_that_nobody_can_ask_is_flashed_again(flashed: Path) -> None:
    assert "its port is not known" in identify.why_flash_again(FlashConfig(probe="0670FF"), flashed)


def test_a_board_that_does_not_answer_is_flashed_again(flashed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> str:
        raise BoardTimeoutError("no answer")

    monkeypatch.setattr(identify, "running_build", silent)
    assert identify.why_flash_again(REAL, flashed) == "the board does not answer"
