"""Boards: every file is a whole one, unknown names and bad keys are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from policyport.core.errors import ConfigError
from policyport.deploy.board import FOLDER, board_names, load_board, read_board
from policyport.deploy.firmware import DEVICE, LINUX, PORTS

GOOD = (FOLDER / "stm32f405.toml").read_text()
LINUX_BOARDS = [name for name in board_names() if load_board(name).linux]
MICROCONTROLLERS = [name for name in board_names() if name not in LINUX_BOARDS]


def test_there_are_boards() -> None:
    assert {"mps2-an386", "stm32f405"} <= set(board_names())


@pytest.mark.parametrize("name", board_names())
def test_every_board_is_whole(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.clock_hz > 1_000_000 and 0 < board.stack_bytes < board.ram.size
    assert board.verified.startswith(("hardware", "emulator", "built only"))
    assert any(flag.startswith("-mcpu=") for flag in board.gcc_flags)
    for runner in board.runners:
        values = {"bin": "b", "hex": "h", "elf": "e", "base": "0", "port": "p", "probe": "x", "select": "s"}
        values |= {"unit": "u", "host": "o", "script": "f"}
        texts = (*runner.command, *runner.select, *runner.check, *runner.after, *runner.script, *runner.check_script)
        assert all(part.format(**values) for part in texts)
        scripted = "{script}" in runner.command, "{script}" in runner.check
        assert scripted == (bool(runner.script), bool(runner.check_script))
        assert bool(runner.check) == bool(runner.expect)
        re.compile(runner.expect)
        assert not runner.select or "{select}" in runner.command


@pytest.mark.parametrize("name", MICROCONTROLLERS)
def test_every_microcontroller_has_its_memory_and_port(name: str) -> None:
    board = load_board(name)
    assert board.flash.size > 0 and board.flash.base % 16 == 0
    apart = board.flash.base + board.flash.size <= board.ram.base or board.ram.base + board.ram.size <= board.flash.base
    assert apart
    assert len((DEVICE / "ports" / PORTS[board.uart.driver]).read_text().splitlines()) < 150
    assert board.dsp == (board.core.rstrip("f") in ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"))


@pytest.mark.parametrize("name", LINUX_BOARDS)
def test_a_linux_board_is_a_program_s_place(name: str) -> None:
    board = load_board(name)
    assert board.flash.size == 0 and board.bootloader is None and board.zig_target == "aarch64-linux-musl"
    assert board.core.replace("-", "_") == board.zig_cpu and f"-mcpu={board.core}" in board.gcc_flags
    assert (LINUX / PORTS[board.uart.driver]).is_file()


def test_a_linux_board_has_no_flash(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "raspberrypi3.toml").read_text() + "[flash]\nbase = 0\nsize = 65536\n")
    with pytest.raises(ConfigError, match=r"unknown board key flash\.base"):
        read_board(path)


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
