"""Flashing: the right image onto the right board, and the board's own word for it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from policyport.core.artifact import Artifact, open_artifact, write_artifact
from policyport.core.errors import ArtifactError, BoardBusyError, ConfigError, IdentityError, ToolError
from policyport.core.port_lock import PortLock
from policyport.deploy import runners
from policyport.deploy.board import Board, load_board
from policyport.deploy.config import FlashConfig
from policyport.deploy.flash import EMULATOR, find_place, flash
from policyport.deploy.runners import Place

BUILD_ID = "00112233445566778899aabbccddeeff"


def image(folder: Path, board: str) -> Artifact:
    with write_artifact(folder, "deploy", inputs={}, config={}, code="") as writer:
        for suffix in ("bin", "hex", "elf"):
            (writer.path / f"firmware.{suffix}").write_bytes(suffix.encode())
        writer.figures.update(board=board, build_id=BUILD_ID)
    return open_artifact(folder, "deploy")


def answers(build_id: str) -> tuple[list[tuple[str, bytes, str]], object]:
    asked: list[tuple[str, bytes, str]] = []

    def identify(board: Board, content: Path, port: str, wait_s: float) -> str:
        asked.append((board.name, content.read_bytes(), port))
        return build_id

    return asked, identify


def test_image_for_another_board(tmp_path: Path) -> None:
    image(tmp_path / "image", "mps2-an385")
    with pytest.raises(ConfigError, match="unknown board"):
        flash(tmp_path / "image", FlashConfig(board="mps2-an368"), tmp_path / "out")
    with pytest.raises(ConfigError, match="another board") as caught:
        flash(tmp_path / "image", FlashConfig(board="mps2-an386"), tmp_path / "out")
    assert caught.value.cure is not None and "--board mps2-an386" in caught.value.cure
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stated", ["", "stm32f405"])
def test_right_build_passes(tmp_path: Path, stated: str) -> None:
    image(tmp_path / "image", "stm32f405")
    asked, identify = answers(BUILD_ID)
    done = flash(tmp_path / "image", FlashConfig(board=stated), tmp_path / "out", identify)  # type: ignore[arg-type]
    assert asked == [("stm32f405", b"bin", "")]
    assert done.file("flash.bin").read_bytes() == b"bin"
    record = json.loads(done.file("board.json").read_text())
    assert (record["build_id"], record["runner"], record["port"]) == (BUILD_ID, "emulator", None)


def test_another_build_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "image", "mps2-an386")
    _, identify = answers("f" * 32)
    with pytest.raises(IdentityError) as caught:
        flash(tmp_path / "image", FlashConfig(), tmp_path / "out", identify)  # type: ignore[arg-type]
    assert BUILD_ID in str(caught.value) and "f" * 32 in str(caught.value) and caught.value.exit_code == 4
    assert not (tmp_path / "out").exists()


def test_nobody_is_asked_without_verify(tmp_path: Path) -> None:
    image(tmp_path / "image", "mps2-an386")
    asked, identify = answers("f" * 32)
    flash(tmp_path / "image", FlashConfig(verify=False), tmp_path / "out", identify)  # type: ignore[arg-type]
    assert asked == []


def test_torn_image(tmp_path: Path) -> None:
    image(tmp_path / "image", "mps2-an386").file("firmware.bin").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="torn or altered"):
        flash(tmp_path / "image", FlashConfig(), tmp_path / "out")


def test_no_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for board, cure in (("stm32f405", "install openocd"), ("mps2-an386", "leave --port empty")):
        image(tmp_path / board, board)
        with pytest.raises(ToolError, match="no program that flashes") as caught:
            flash(tmp_path / board, FlashConfig(board=board, port="loop://"), tmp_path / "out")
        assert caught.value.cure is not None and cure in caught.value.cure


@pytest.fixture
def openocd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for openocd that finds an STM32F405, alone on PATH; the file where it notes, each time that it is
    called, who holds the port ``port``."""
    tools, notes = tmp_path / "tools", tmp_path / "notes"
    tools.mkdir()
    code = "from policyport.core.port_lock import PortLock\n"
    code += f"open({str(notes)!r}, 'a').write(PortLock({str(tmp_path / 'port')!r}).holder() + '\\n')\n"
    (tools / "openocd").write_text(f"#!{sys.executable}\n{code}print('0xe0042000: 10076413')\n")
    (tools / "openocd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(runners, "attached_probes", lambda board: [])
    return notes


def test_a_real_board_without_a_port_is_not_asked(tmp_path: Path, openocd: Path) -> None:
    asked, identify = answers("f" * 32)
    image(tmp_path / "image", "stm32f405")
    config = FlashConfig(probe="0670FF")
    done = flash(tmp_path / "image", config, tmp_path / "out", identify)  # type: ignore[arg-type]
    assert openocd.read_text() == "\n\n" and asked == []
    assert done.manifest.figures["runner"] == "openocd" and done.manifest.figures["port"] is None


def test_the_port_is_locked_while_the_board_is_written(tmp_path: Path, openocd: Path) -> None:
    """Whoever measures on it would see its firmware go away."""
    port = str(tmp_path / "port")
    image(tmp_path / "image", "stm32f405")
    flash(tmp_path / "image", FlashConfig(port=port), tmp_path / "out")
    assert [line.split(":")[0] for line in openocd.read_text().splitlines()] == 2 * [f"pid {os.getpid()}"]
    holder = PortLock(port)
    assert holder.holder() == ""
    holder.acquire(0)
    with pytest.raises(BoardBusyError, match=f"pid {os.getpid()}: "):
        flash(tmp_path / "image", FlashConfig(port=port), tmp_path / "again")
    holder.release()
    assert openocd.read_text().count("\n") == 2


def test_flags_win_over_the_hardware_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.toml"
    path.write_text(
        '[[boards]]\nboard = "stm32f405"\nserial = "socket://rig:4000"\nprobe_id = "A1"\nrunner = "pyocd"\n'
        '[[boards]]\nboard = "mps2-an386"\nrunner = "emulator"\n'
    )
    board, emulated = load_board("stm32f405"), load_board("mps2-an386")
    assert find_place(board, FlashConfig(hardware_map=path)) == ("pyocd", Place("socket://rig:4000", "A1"))
    flags = FlashConfig(hardware_map=path, port="/dev/ttyACM1", probe="B2", runner="st-flash")
    assert find_place(board, flags) == ("st-flash", Place("/dev/ttyACM1", "B2"))
    assert find_place(emulated, FlashConfig(hardware_map=path)) == (EMULATOR, Place("", ""))
    assert (
        find_place(board, FlashConfig()) == find_place(board, FlashConfig(runner=EMULATOR)) == (EMULATOR, Place("", ""))
    )
    assert find_place(board, FlashConfig(runner="st-flash")) == ("st-flash", Place("", ""))
