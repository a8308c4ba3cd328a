"""Boards: every file is a whole one, unknown names and bad keys are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.deploy.board import FOLDER, board_names, load_board, read_board
from policyport.deploy.firmware import DEVICE, PORTS

GOOD = (FOLDER / "stm32f405.toml").read_text()


def test_there_are_boards() -> None:
    assert {"mps2-an386", "stm32f405"} <= set(board_names())


@pytest.mark.parametrize("name", board_names())
def test_every_board_is_whole(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.clock_hz > 1_000_000 and 0 < board.stack_bytes < board.ram.size
    assert board.flash.size > 0 and board.flash.base % 16 == 0
    apart = board.flash.base + board.flash.size <= board.ram.base or board.ram.base + board.ram.size <= board.flash.base
    assert apart
    assert len((DEVICE / "ports" / PORTS[board.uart.driver]).read_text().splitlines()) < 150
    assert board.verified.startswith(("hardware", "emulator", "built only"))
    assert any(flag.startswith("-mcpu=") for flag in board.gcc_flags)
    assert board.dsp == (board.core.rstrip("f") in ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"))
    for runner in board.runners:
        values = {"bin": "b", "hex": "h", "elf": "e", "base": "0", "port": "p", "probe": "x", "select": "s"}
        assert all(part.format(**values) for part in (*runner.command, *runner.select, *runner.check))
        assert bool(runner.check) == bool(runner.expect)
        re.compile(runner.expect)
        assert not runner.select or "{select}" in runner.command


def test_unknown_board_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        load_board("stm32f504")
    assert "stm32f504" in str(caught.value) and caught.value.cure == "did you mean stm32f405 or stm32f103?"
    with pytest.raises(ConfigError) as caught:
        load_board("../boards/stm32f405")
    assert "mps2-an386" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "instead", "key"),
    [
        ("clock_hz = 168000000", "", "clock_hz"),
        ("clock_hz = 168000000", 'clock_hz = "fast"', "clock_hz"),
        ("dsp = true", "dsp = 1", "dsp"),
        ("mve = false", "", "mve"),
        ("stack_bytes = 2048", "stack_bytes = true", "stack_bytes"),
        ("irq = 37", "", "uart.irq"),
        ("base = 0x08000000", "base = 1.5", "flash.base"),
    ],
)
def test_bad_key_is_named(tmp_path: Path, line: str, instead: str, key: str) -> None:
    assert line in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(line, instead))
    with pytest.raises(ConfigError) as caught:
        read_board(path)
    assert f"board key {key} " in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "instead", "key", "cure"),
    [
        ("irq = 37", "irq = 37\nbuad = 9600", "uart.buad", "uart.baud"),
        ("dsp = true", "dsp = true\nfpu = true", "fpu", None),
        ('name = "pyocd"', 'name = "pyocd"\ncomand = []', "runners.comand", "runners.command"),
        ("[flash]", "[flash.bank]\nsize = 1\n[flash]", "flash.bank.size", "flash.size"),
    ],
)
def test_unknown_key_is_refused(tmp_path: Path, line: str, instead: str, key: str, cure: str | None) -> None:
    assert line in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(line, instead, 1))
    with pytest.raises(ConfigError, match=f"unknown board key {key} ") as caught:
        read_board(path)
    assert "uart.baud" in caught.value.expected or "runners.command" in caught.value.expected
    assert caught.value.cure == (cure and f"did you mean {cure}?")


def test_a_runner_has_a_command_or_a_volume(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + '[[runners]]\nname = "neither"\n')
    with pytest.raises(ConfigError, match="runner neither needs a command, or UF2 boards"):
        read_board(path)


def test_file_that_does_not_parse(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("name = ")
    with pytest.raises(ConfigError, match="does not parse"):
        read_board(path)
