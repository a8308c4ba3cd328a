"""The host's side against the real device library, over a pseudo terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.errors import (
    BoardBusyError,
    BoardError,
    BoardFaultError,
    BoardTimeoutError,
    ProtocolError,
)
from policyport.firmware_bridge.client import Bridge, WireLog
from policyport.firmware_bridge.frame import Frame, encode
from policyport.firmware_bridge.messages import FAULT

Q = np.array([1, -2, 300, 4])


@pytest.fixture
def bridge(line: Any) -> Iterator[Bridge]:
    with Bridge.open(line.url, timeout_s=0.5) as opened:
        yield opened


def test_hello_says_who_is_there(bridge: Bridge) -> None:
    who = bridge.hello()
    assert who.build_id == "0102030405060708090a0b0c0d0e0f10"
    assert who.model_sha256 == "ab" + "00" * 31
    assert (who.input_size, who.input_bits, who.output_size, who.output_bits) == (4, 16, 2, 8)
    assert who.layers == ((4, 16), (2, 8))
    assert (who.board, who.compiler, who.clock_hz) == ("host", "cc", 1_000_000)
    assert (who.counter, who.counter_overhead_ticks, who.reset_cause) == ("systick", 2, "power")


def test_echo_infer_and_memory(bridge: Bridge) -> None:
    payload = bytes(range(256)) * 4
    assert bridge.echo(payload) == payload
    inference = bridge.infer(Q)
    assert inference.ticks == 42 and inference.output.tolist() == [3, 1]
    memory = bridge.memory()
    assert (memory.stack_bytes, memory.stack_used_bytes, memory.ram_static_bytes) == (2048, 100, 300)


def test_run_many_splits_into_frames(bridge: Bridge) -> None:
    q = np.arange(4 * 500).reshape(500, 4) % 60
    outputs, ticks = bridge.run_many(q)
    assert outputs[:, 0].tolist() == (q[:, 0] * 2 + 1).tolist()
    assert ticks.tolist() == [42] * 500


def test_trace_gives_every_layer(bridge: Bridge) -> None:
    first, second = bridge.trace(Q)
    assert first.values.tolist() == [2, -4, 600, 8]
    assert second.values.tolist() == [3, -3]


def test_a_trace_goes_on_from_the_last_one_or_starts_anew(bridge: Bridge) -> None:
    layers = bridge.trace(Q)
    assert [layer.values.tolist() for layer in bridge.trace(2 * Q)] == [[4, -8, 1200, 16], [5, -7]]
    assert bridge.layer_ticks(1, Q) == 42
    bridge.infer(3 * Q)
    assert [layer.values.tolist() for layer in bridge.trace(Q)] == [layer.values.tolist() for layer in layers]


def test_reset_is_announced(bridge: Bridge) -> None:
    bridge.hello()
    bridge.reset()
    assert bridge.hello().reset_cause == "request"


def test_unknown_request_is_refused(bridge: Bridge) -> None:
    with pytest.raises(ProtocolError, match="unknown request"):
        bridge.user(0x41)


def test_input_of_a_wrong_shape(bridge: Bridge) -> None:
    with pytest.raises(ProtocolError, match="wrong shape"):
        bridge.infer(np.arange(5))


def test_lost_reply_is_asked_for_again_and_executed_once(line: Any, bridge: Bridge) -> None:
    bridge.hello()
    asked = []
    line.to_device = lambda data: (asked.append(data), data)[1]
    line.to_host = lambda data: data if len(asked) > 1 else b""  # nothing comes back until it is asked again
    assert bridge.infer(Q).output.tolist() == [3, 1]
    assert bridge.infer(Q).output.tolist() == [3, 2]
    assert bridge.retries_used == 1


@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: data[:5] + b"\x99" + data[6:]])
def test_harmed_request_is_sent_again(line: Any, bridge: Bridge, harm: Any) -> None:
    bridge.hello()
    harms = [harm]
    line.to_device = lambda data: harms.pop()(data) if harms else data
    assert bridge.infer(Q).output.tolist() == [3, 1]
    assert bridge.retries_used in (1, 2)  # a refused remainder of the first may ask for one more


def test_garbage_before_a_reply_is_passed_over(line: Any, bridge: Bridge) -> None:
    bridge.hello()
    line.to_host = lambda data: b"\x13\x37\x42" + data if data[0] == 0 else data
    assert bridge.infer(Q).output.tolist() == [3, 1]


def test_fault_is_told(line: Any, bridge: Bridge) -> None:
    bridge.hello()
    words = [3, 0x1234, 0x5678, 0, 1 << 16, 1 << 30, 0, 0, 0x20000700]
    report = encode(Frame(FAULT, 0, 0, b"".join(word.to_bytes(4, "little") for word in words)))
    line.to_host = lambda data: report
    with pytest.raises(BoardFaultError, match=r"HardFault at pc 0x00001234.*undefined instruction"):
        bridge.infer(Q)


def test_wire_log_has_both_directions(line: Any) -> None:
    stream = io.StringIO()
    with Bridge.open(line.url, log=WireLog(stream)) as bridge:
        bridge.echo(b"abc")
    directions = {row.split()[1] for row in stream.getvalue().splitlines()}
    assert directions == {"<", ">"}


def test_board_that_never_answers(tmp_path: Path) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with (
            Bridge.open(os.ttyname(slave), timeout_s=0.05, retries=1) as bridge,
            pytest.raises(BoardTimeoutError, match="2 attempts"),
        ):
            bridge.hello()
    finally:
        os.close(master)
        os.close(slave)


def test_missing_port_is_named(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="nowhere"):
        Bridge.open(str(tmp_path / "nowhere"))


def test_held_port_names_its_holder(line: Any) -> None:
    hold = (
        "import sys; from policyport.firmware_bridge.client import Bridge\n"
        "with Bridge.open(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, line.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(BoardBusyError, match=f"pid {holder.pid}"):
            Bridge.open(line.url)
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(10)
    with Bridge.open(line.url) as bridge:
        assert bridge.echo(b"free again") == b"free again"
