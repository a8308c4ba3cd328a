"""Ask the firmware on a board who it is: the flash stage's last word, which needs the rigs above it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyport.deploy.board import Board
    from policyport.deploy.config import FlashConfig


def running_build(board: Board, flash_bin: Path, port: str) -> str:
    """Build id that the running firmware reports.

    :param flash_bin: content of an emulated board's flash
    :param port: pyserial URL of a real board; empty for an emulated one
    :raises BoardError: it does not answer
    :raises ToolError: no emulator for this board
    """
    from policyport.firmware_bridge.client import Bridge
    from policyport.hil.rig import open_rig

    with open_rig(board, flash_bin, port=port) as rig, Bridge.open(rig.url, baud=board.uart.baud) as bridge:
        return bridge.hello().build_id


def flash_extras(config: FlashConfig) -> dict[str, Any]:
    """Further arguments of the flash stage."""
    return {"identify": running_build}
