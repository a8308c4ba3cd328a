"""policyport boards: what is found, and a map that keeps what people wrote into it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from policyport.core.errors import BoardTimeoutError
from policyport.deploy.board import board_names
from policyport.deploy.hardware_map import read_map
from policyport.firmware_bridge.client import Bridge
from policyport.pipeline import boards_command, boards_page
from policyport.pipeline.cli import main


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A micro:bit, an ST-LINK and a serial adapter; opening any is a failure."""

    def port(device: str, vid: int, pid: int, serial_number: str | None, description: str) -> Any:
        return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial_number, description=description)

    ports = [
        port("/dev/ttyACM0", 0x0D28, 0x0204, "9900F00D", "DAPLink"),
        port("/dev/ttyACM1", 0x0483, 0x374B, "0670FF", "STM32 STLink"),
        port("/dev/ttyUSB0", 0x1A86, 0x7523, None, "USB Serial"),
    ]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    monkeypatch.setattr(Bridge, "open", lambda *_, **__: pytest.fail("opened a port"))
    return ports


def test_list(plugged: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["/dev/ttyACM0", "0d28:0204", "9900F00D", "DAPLink", "microbit"]
    assert "stm32f405" in lines[2].split() and lines[3].endswith("WCH CH340")
    assert {line.split()[0] for line in lines[6:]} == set(board_names())
    plugged.clear()
    assert main(["boards", "list"]) == 0
    assert "none: no serial port on USB" in capsys.readouterr().out


def test_list_as_json(plugged: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "list", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [port["serial_number"] for port in table["ports"]] == ["9900F00D", "0670FF", ""]
    assert table["ports"][0]["boards"] == ["microbit"] and table["ports"][2]["adapter"] == "WCH CH340"
    assert [board["name"] for board in table["boards"]] == list(board_names())


def test_a_map_is_added_to_and_never_changed(
    plugged: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.toml"
    adapter = plugged.pop()
    assert main(["boards", "map", "--out", str(path)]) == 0
    assert "2 boards, 2 of them new" in capsys.readouterr().out
    microbit, stm32 = read_map(path)
    assert (microbit.board, microbit.id, microbit.probe_id) == ("microbit", "9900F00D", "9900F00D")
    assert (stm32.id, stm32.probe_id, stm32.product) == ("0670FF", "0670FF", "STM32 STLink")
    mine = "# the one by the window\n" + path.read_text().replace("9900F00D", "9900f00d")
    path.write_text(mine)
    plugged.append(adapter)
    assert main(["boards", "map", "--out", str(path), "--board", "stm32f405"]) == 0
    assert "3 boards, 1 of them new" in capsys.readouterr().out
    assert path.read_text().startswith(mine)
    added = read_map(path)[2]
    assert (added.board, added.id, added.serial, added.probe_id) == ("stm32f405", "", "/dev/ttyUSB0", "")
    plugged.clear()
    assert main(["boards", "map", "--out", str(path), "--json"]) == 0
    assert capsys.readouterr().out == "[]\n" and len(read_map(path)) == 3


@pytest.mark.parametrize(("answer", "board"), [("stm32f405", "stm32f405"), ("another", ""), (None, "")])
def test_an_open_board_is_asked(
    plugged: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, board: str
) -> None:
    def ask(device: str) -> str:
        assert device == "/dev/ttyUSB0"
        return answer or ""

    monkeypatch.setattr(boards_command, "_ask", ask)
    del plugged[:2]
    assert main(["boards", "map", "--out", str(tmp_path / "map.toml"), "--ask"]) == 0
    assert [entry.board for entry in read_map(tmp_path / "map.toml")] == [board]


def test_a_silent_port_leaves_the_board_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(*_: object, **__: object) -> Bridge:
        raise BoardTimeoutError("the board does not answer")

    monkeypatch.setattr(Bridge, "open", silent)
    assert boards_command._ask("/dev/ttyUSB0") == ""
    assert capsys.readouterr().err == "/dev/ttyUSB0: the board does not answer\n"


def test_doctor(plugged: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "doctor"]) == 0
    text = capsys.readouterr().out
    assert "/dev/ttyUSB0" in text and "flash programs" in text and "main job" not in text
    assert main(["boards", "doctor", "--udev"]) == 0
    assert 'ATTRS{idVendor}=="0483"' in capsys.readouterr().out


def test_the_documentation_has_the_boards_that_there_are(tmp_path: Path) -> None:
    """Where this fails: ``python -m policyport.pipeline.boards_page docs/boards.md``."""
    page = Path(__file__).parents[2] / "docs" / "boards.md"
    copy = tmp_path / "boards.md"
    copy.write_text(page.read_text().replace("| `pico` |", "| `nano` |"))
    assert boards_page.main([str(copy)]) == 0
    assert copy.read_text() == page.read_text()
