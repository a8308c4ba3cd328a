"""The emulated boards as processes: their UART, their counter, their end."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mini_firmware
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import BoardFaultError, ToolError
from policyport.deploy.board import load_board
from policyport.hil import qemu_board
from policyport.hil import rig as rig_module
from policyport.hil.rig import EmulatedRig, Rig, SerialRig, choose_emulator, open_rig

LINKS = ["socket"] if sys.platform == "win32" else ["pty", "socket"]


@contextmanager
def running(flash: Path, emulator: str, link: str = LINKS[0]) -> Iterator[tuple[EmulatedRig, serial.SerialBase]]:
    """A board with the mini firmware, and its open port."""
    rig = EmulatedRig(load_board(mini_firmware.BOARD), flash, emulator, link)
    with rig, serial.serial_for_url(rig.url, timeout=5) as port:
        yield rig, port


def started(port: serial.SerialBase) -> int:
    """The number that the firmware sends at its start, if the port was open in time; else 0."""
    port.timeout = 0.5
    first = port.read(1)
    port.timeout = 5
    return first[0] if first else 0


@pytest.mark.parametrize("link", LINKS)
def test_bytes_come_back(flash: Path, emulator: str, link: str) -> None:
    data = bytes(i for i in range(256) if i not in b"cruw")
    with running(flash, emulator, link) as (_, port):
        started(port)
        for _ in range(3):
            port.write(data)
            assert port.read(len(data)) == data


def test_unicorn_counts_every_instruction_and_repeats(flash: Path) -> None:
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    for _ in range(2):
        with running(flash, "unicorn") as (rig, port):
            started(port)
            for _ in range(3):
                port.write(b"c")
                ticks = int.from_bytes(port.read(2), "little")
                assert rig.instructions(ticks, 0) == mini_firmware.COUNTED


def test_ram_survives_a_reset(flash: Path, emulator: str) -> None:
    with running(flash, emulator, "socket") as (_, port):
        assert port.read(1) == b"\x01"
        port.write(b"r")
        assert port.read(1) == b"\x02"
        port.write(b"r")
        assert port.read(1) == b"\x03"
        port.write(b"x")
        assert port.read(1) == b"x"


@pytest.mark.parametrize(
    ("command", "words"),
    [(b"u", "Invalid instruction (UC_ERR_INSN_INVALID) at pc 0x000000aa"), (b"w", "at pc 0x000000b0")],
)
def test_a_fault_ends_unicorn_with_a_clear_line(flash: Path, command: bytes, words: str) -> None:
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    with running(flash, "unicorn") as (rig, port):
        port.write(command)
        with pytest.raises(BoardFaultError) as caught:
            rig.check_alive()
    assert words in str(caught.value)
    assert ("address 0x10000000" in str(caught.value)) == (command == b"w")
    assert mini_firmware.BOARD in str(caught.value)


def test_a_board_that_runs_is_alive(flash: Path, emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig_module, "GRACE_S", 0.05)
    with running(flash, emulator) as (rig, _):
        rig.check_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_board_uses_no_processor_time(flash: Path) -> None:
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")

    def used(path: Path) -> int:
        return sum(sum(map(int, Path(f"/proc/{pid}/stat").read_text().split()[13:15])) for pid in processes(path))

    with running(flash, "unicorn") as (_, port):
        started(port)
        port.write(b"x")
        assert port.read(1) == b"x"
        before = used(flash)
        time.sleep(0.5)
        assert used(flash) - before <= 5  # of 50 clock ticks


def processes(flash: Path) -> list[int]:
    """Ids of the processes that name this flash file on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(flash).encode() in line:
                found.append(int(entry.name))
    return found


def wait_until_gone(flash: Path) -> list[int]:
    """What is left of the processes of a flash file after at most ten seconds."""
    end = time.monotonic() + 10
    while processes(flash) and time.monotonic() < end:
        time.sleep(0.02)
    return processes(flash)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_is_left_after_close(flash: Path, emulator: str) -> None:
    with running(flash, emulator) as (rig, _):
        assert len(processes(flash)) == (2 if emulator == "qemu" else 1)
    assert wait_until_gone(flash) == []
    rig.close()  # a second close does nothing


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_is_left_after_an_exception(flash: Path, emulator: str) -> None:
    with pytest.raises(ZeroDivisionError), running(flash, emulator):
        raise ZeroDivisionError
    assert wait_until_gone(flash) == []


PARENT = """
import signal, sys, time
from pathlib import Path
from policyport.deploy.board import load_board
from policyport.hil.rig import EmulatedRig
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without
with EmulatedRig(load_board(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]) as rig:
    print(rig.url, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_when_the_parent_is_killed(flash: Path, emulator: str, how: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, mini_firmware.BOARD, str(flash), emulator]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        assert len(processes(flash)) >= 2
        parent.send_signal(how)
        parent.wait(60)
    assert wait_until_gone(flash) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_qemu_ends_when_its_supervisor_is_killed(flash: Path) -> None:
    if not qemu_board.machines():
        pytest.skip("qemu-system-arm is not installed")
    with running(flash, "qemu") as (rig, _):
        assert rig._supervised is not None
        rig._supervised.process.kill()
        assert wait_until_gone(flash) == []


def test_a_missing_emulator_is_an_error_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_board, "machines", frozenset)
    monkeypatch.setattr(rig_module.importlib.util, "find_spec", lambda name: None)
    cures = {"auto": r"\"policyport\[rig\]\"[\s\S]*qemu", "qemu": "install qemu", "unicorn": r"\"policyport\[rig\]\"$"}
    for emulator, cure in cures.items():
        with pytest.raises(ToolError, match=cure) as caught:
            choose_emulator(load_board(mini_firmware.BOARD), emulator)
        assert caught.value.exit_code == 2


def test_a_core_that_unicorn_lacks_is_sent_to_qemu() -> None:
    board = dataclasses.replace(load_board(mini_firmware.BOARD), core="cortex-m55f")
    with pytest.raises(ToolError, match="--emulator qemu"):
        choose_emulator(board, "unicorn")


def test_a_machine_that_qemu_lacks_is_not_an_installation_that_lacks_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_board, "machines", lambda: frozenset({"microbit"}))
    with pytest.raises(ToolError, match="QEMU does not model this board"):
        choose_emulator(load_board(mini_firmware.BOARD), "qemu")


def test_auto_prefers_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    board = load_board(mini_firmware.BOARD)
    monkeypatch.setattr(qemu_board, "machines", lambda: frozenset({board.qemu_machine}))
    assert choose_emulator(board, "auto") == "qemu"
    monkeypatch.setattr(qemu_board, "machines", frozenset)
    monkeypatch.setattr(rig_module.importlib.util, "find_spec", lambda name: object())
    assert choose_emulator(board, "auto") == "unicorn"


def test_an_emulator_that_ends_at_its_start_says_why(tmp_path: Path, emulator: str) -> None:
    rig = EmulatedRig(load_board(mini_firmware.BOARD), tmp_path / "missing.bin", emulator)
    with pytest.raises((ToolError, BoardFaultError), match=r"missing\.bin"), rig:
        rig.check_alive()


@given(
    st.integers(0, 2_000_000),
    st.integers(0, 200),
    st.integers(0, 60),
    st.integers(1_000_000, 600_000_000),
    st.booleans(),
)
def test_qemu_ticks_round_to_the_right_count(work: int, overhead: int, phase: int, clock_hz: int, late: bool) -> None:
    board = dataclasses.replace(load_board(mini_firmware.BOARD), clock_hz=clock_hz, qemu_icount_shift=0)
    ns = 2 ** qemu_board.icount_shift(board)

    def ticks(instructions: int) -> int:
        """Of a timer that rounds down or up, read ``phase`` instructions after it was started and again later."""
        begin, end = (at * ns * clock_hz / 1e9 for at in (phase, phase + instructions))
        return math.ceil(end) - math.ceil(begin) if late else math.floor(end) - math.floor(begin)

    rig = EmulatedRig.__new__(EmulatedRig)
    rig.board, rig.emulator = board, "qemu"
    assert rig.instructions(ticks(work + overhead), ticks(overhead)) == work


def test_a_port_makes_a_real_board(flash: Path) -> None:
    rig: Rig = open_rig(load_board(mini_firmware.BOARD), flash, port="loop://")
    assert isinstance(rig, SerialRig)
    assert (rig.emulated, rig.unit, rig.url) == (False, "cycles", "loop://")
    with rig:
        assert rig.instructions(110, 10) == 100
        rig.check_alive()
