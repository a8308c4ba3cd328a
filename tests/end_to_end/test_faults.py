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

VERBS = """
#include "pp_bridge.h"

static volatile int sink;

static int deepen(int left) {
    volatile uint8_t room[64];
    room[0] = (uint8_t)left;
    if (left > 0) {
        sink = deepen(left - 1) + room[0];
    }
    return room[0];
}

pp_status_t pp_user_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                            size_t *reply_bytes) {
    (void)payload;
    (void)payload_bytes;
    switch (type) {
        case 0x40: __asm volatile("udf #0"); break;
        case 0x41: sink = deepen(10000); break;
        case 0x42: for (;;) { sink = 1; }
        default: return PP_UNKNOWN_TYPE;
    }
    reply[0] = 1u;
    *reply_bytes = 1u;
    return PP_OK;
}
"""


@pytest.fixture
def bridge(runs: Path, tmp_path: Path) -> Iterator[Bridge]:
    source = tmp_path / "src"
    shutil.copytree(runs / "int8" / "deploy" / "src", source)
    (source / "pp_zz_verbs.c").write_text(VERBS)
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
