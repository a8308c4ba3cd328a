"""Flashing: the right image onto the right board, and the board's own word for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from policyport.core.artifact import Artifact, open_artifact, write_artifact
from policyport.core.errors import ArtifactError, ConfigError, IdentityError, ToolError
from policyport.deploy.board import Board
from policyport.deploy.config import FlashConfig
from policyport.deploy.flash import flash

BUILD_ID = "00112233445566778899aabbccddeeff"


def image(folder: Path, board: str) -> Artifact:
    with write_artifact(folder, "deploy", inputs={}, config={}, code="") as writer:
        for suffix in ("bin", "hex", "elf"):
            (writer.path / f"firmware.{suffix}").write_bytes(suffix.encode())
        writer.figures.update(board=board, build_id=BUILD_ID)
    return open_artifact(folder, "deploy")


def answers(build_id: str) -> tuple[list[tuple[str, bytes, str]], object]:
    asked: list[tuple[str, bytes, str]] = []

    def identify(board: Board, content: Path, port: str) -> str:
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


@pytest.mark.parametrize("code", [0, 1])
def test_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    runner = tools / "st-flash"
    runner.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/arguments"\necho no probe >&2\nexit {code}\n')
    runner.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    built = image(tmp_path / "image", "stm32f405")
    config = FlashConfig(board="stm32f405", port="loop://", runner="st-flash")
    if code:
        with pytest.raises(ToolError, match="no probe"):
            flash(built.path, config, tmp_path / "out")
    else:
        assert flash(built.path, config, tmp_path / "out").manifest.figures["runner"] == "st-flash"
    assert (tmp_path / "arguments").read_text().split() == [
        "--reset",
        "write",
        str(built.path.resolve() / "firmware.bin"),
        "0x8000000",
    ]
