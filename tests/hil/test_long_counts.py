"""Counts of more than SysTick's 24 bits, by a request of the firmware's user that runs as long as it is told."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import BoardFaultError, ToolError
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import Spec, random_program
from policyport.firmware_bridge.client import Bridge
from policyport.hil import qemu_board
from policyport.hil.rig import EmulatedRig, choose_emulator

ROUND = 64
"""Instructions of a round."""

USER = """
#include "pp_bridge.h"
#include "pp_counter.h"
#include "pp_frame.h"

pp_status_t pp_user_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                            size_t *reply_bytes) {
    uint32_t rounds = pp_get32(payload);
    (void)type;
    (void)payload_bytes;
    const uint32_t begin = pp_counter_begin();
    __asm volatile(".syntax unified\\n1:\\n.rept 62\\nnop\\n.endr\\nsubs %0, #1\\nbne 1b" : "+l"(rounds) : : "cc");
    pp_put32(reply, pp_counter_now() - begin);
    *reply_bytes = 4;
    return PP_OK;
}
"""


@pytest.fixture(scope="module", params=["microbit", "stm32f405"])
def firmware(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A board whose counter is SysTick, and one with CYCCNT."""
    folder, board = tmp_path_factory.mktemp("long"), load_board(request.param)
    try:
        toolchain = find_toolchain()
    except ToolError as error:
        pytest.skip(f"no ARM compiler: {error.what}")
    program = random_program(Spec((2, 2), (8, 8), ("",)), np.random.default_rng(0))
    write_sources(program, board.variant, folder)
    add_device_sources(folder, board)
    if board.name == "microbit":
        platform = folder / "pp_platform.c"
        platform.write_text(platform.read_text().replace("PP_WATCHDOG_WRAPS 60u", "PP_WATCHDOG_WRAPS 17u"))
    (folder / "user.c").write_text(USER)
    return board.name, build_firmware(folder, board, toolchain, folder).bin


@pytest.fixture
def rig(firmware: tuple[str, Path], emulator: str) -> Iterator[EmulatedRig]:
    board = load_board(firmware[0])
    try:
        choose_emulator(board, emulator)
    except ToolError as error:
        pytest.skip(error.what)
    with EmulatedRig(board, firmware[1], emulator) as running:
        yield running


def test_no_wrap_is_lost(rig: EmulatedRig) -> None:
    """Up to what the watchdog allows: 59 wraps, and 16 where it is set so here; on QEMU a wrap is no whole ticks."""
    ticks_each = qemu_board.ticks_per_instruction(rig.board) if rig.emulator == "qemu" else 1.0
    wraps = 59 if (rig.board.name, rig.emulator) == ("stm32f405", "qemu") else 16
    longest = int(wraps * 2**24 / ticks_each) // ROUND - 100
    with Bridge.open(rig.url, timeout_s=60) as bridge:
        overhead = bridge.hello().counter_overhead_ticks
        for rounds in (1000, 2**24 // ROUND - 1, 2**24 // ROUND, longest):
            (ticks,) = struct.unpack("<I", bridge.user(0x40, struct.pack("<I", rounds)))
            assert rig.instructions(ticks, overhead) == rounds * ROUND


def test_the_firmwares_watchdog_ends_a_request_that_hangs(firmware: tuple[str, Path]) -> None:
    """17 wraps here, where the core's SysTick exceptions are emulated."""
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    if firmware[0] != "microbit":
        pytest.skip("Unicorn takes no SysTick exception on a core with CYCCNT")
    with (
        EmulatedRig(load_board("microbit"), firmware[1], "unicorn") as rig,
        Bridge.open(rig.url, timeout_s=60) as bridge,
    ):
        bridge.hello()
        with pytest.raises(BoardFaultError, match="restarted in the middle") as caught:
            bridge.user(0x40, struct.pack("<I", 18 * 2**24 // ROUND))
        assert caught.value.got == "watchdog"
        assert bridge.hello().reset_cause == "watchdog"
