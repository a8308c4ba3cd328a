"""What a broken firmware says of itself: faults, stack overflow, hangs. Needs QEMU, which takes exceptions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from policyport.core.errors import BoardFaultError
from policyport.deploy.board import load_board
from policyport.deploy.firmware import build_firmware
from policyport.deploy.toolchain import find_toolchain
from policyport.firmware_bridge.client import Bridge
from policyport.hil.rig import EmulatedRig

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed: Unicorn takes no exceptions"
)

VERBS = Path(__file__).parents[1] / "board" / "fault_verbs.c"


@pytest.fixture
def bridge(runs: Path, tmp_path: Path) -> Iterator[Bridge]:
    source = tmp_path / "src"
    shutil.copytree(runs / "int8" / "deploy" / "src", source)
    shutil.copyfile(VERBS, source / "pp_zz_verbs.c")
    board = load_board("mps2-an386")
    firmware = build_firmware(source, board, find_toolchain(), tmp_path)
    with EmulatedRig(board, firmware.bin, "qemu") as rig, Bridge.open(rig.url, timeout_s=60, retries=0) as opened:
        opened.hello()
        yield opened


@pytest.mark.parametrize(
    ("verb", "words", "cause"),
    [
        (0x40, "undefined instruction", "fault"),
        (0x41, "violation", "fault"),
        (0x42, r"restarted in the middle of a session[\s\S]*watchdog", "watchdog"),
    ],
    ids=["undefined instruction", "stack overflow", "hang"],
)
def test_broken_firmware_says_so_and_comes_back(bridge: Bridge, verb: int, words: str, cause: str) -> None:
    with pytest.raises(BoardFaultError, match=words):
        bridge.user(verb)
    assert bridge.hello().reset_cause == cause
