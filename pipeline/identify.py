"""Asks a board which firmware it runs; the flash stage gets this from above, as it knows no bridge itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policyport.core.errors import BoardTimeoutError
from policyport.deploy.board import Board, load_board
from policyport.deploy.config import FlashConfig
from policyport.deploy.flash import EMULATOR, find_place


def flash_arguments(config: FlashConfig) -> dict[str, Any]:
    """What the flash stage takes beside its inputs and options.

    :raises ArtifactError: an update file that does not read
    """
    from policyport.firmware_bridge.image import read_images

    images = read_images(config.installed) if config.installed else ()
    return {"identify": running_build, "installed": [image.header.build_id for image in images]}


def running_build(board: Board, flash_bin: Path, port: str, wait_s: float = 0.0) -> str:
    """The build id that a board reports over the bridge.

    :param flash_bin: content of an emulated board's flash
    :param port: pyserial URL of a real board; empty for an emulated one
    :param wait_s: seconds to wait for a port that another process holds
    :raises BoardError: no board, a busy port, no answer, a fault
    :raises ToolError: no emulator for this board
    """
    from policyport.firmware_bridge.client import Bridge
    from policyport.hil.rig import open_rig

    with (
        open_rig(board, flash_bin, port=port) as rig,
        Bridge.open(rig.url, baud=board.uart.baud, wait_s=wait_s) as bridge,
    ):
        return bridge.hello().build_id


def why_flash_again(config: FlashConfig, out: Path) -> str:
    """Why a finished flash does not hold any more: somebody may have flashed the real board since.

    :param out: folder of a flash artifact
    :returns: the reason; empty where the board runs what was flashed, and for an emulated board
    """
    record = json.loads((out / "board.json").read_text())
    board = load_board(record["board"])
    runner, place = find_place(board, config)
    if runner == EMULATOR:
        return ""
    if not place.port:
        return "nobody can ask the board what it runs: its port is not known"
    try:
        running = running_build(board, out / "flash.bin", place.port, config.wait_s)
    except BoardTimeoutError:
        return "the board does not answer"
    return "" if running == record["build_id"] else f"the board runs build {running[:12]} by now"
