"""Somebody else's runtime behind the bridge: the agent's answers, and what is measured of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import IdentityError, RefusedError, ToolError
from policyport.core.semantics import Integers
from policyport.core.task import Task
from policyport.deploy import reference
from policyport.deploy.exports import run_tflite, tflite_interpreter
from policyport.deploy.program import quantize_input, read_program
from policyport.firmware_bridge.client import Bridge
from policyport.hil import HilConfig, agent, peer
from policyport.hil.agent import Runtime, open_device
from policyport.hil.peer import measure_peer
from tiny import Built

SHORT = HilConfig(episodes=1, latency_observations=8, timeout_s=20.0)


def inputs(built: Built, count: int) -> Integers:
    program = read_program(built.image.path)
    with np.load(built.image.file("observations.npz")) as arrays:
        return quantize_input(program, Task.read(built.image.file("task.json")).check_input(arrays["held_out"][:count]))


@contextmanager
def served(built: Built, runtime: Runtime, *line: str) -> Iterator[str]:
    """An agent in a process of its own; what it prints first."""
    try:
        open_device(built.image, runtime)
    except (ImportError, ToolError) as error:
        pytest.skip(f"{runtime}: {error}")
    command = [sys.executable, "-m", "policyport.hil.agent", str(built.image.path), "--runtime", runtime, *line]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip() if "--listen" in line else ""
        finally:
            process.kill()


@pytest.mark.parametrize("runtime", agent.RUNTIMES)
def test_agent_over_tcp(built: Built, runtime: Runtime) -> None:
    q, program = inputs(built, 8), read_program(built.image.path)
    with served(built, runtime, "--listen", "127.0.0.1:0") as url:
        for _ in range(2):  # one host after the other
            with Bridge.open(url, timeout_s=20) as bridge:
                who = bridge.hello()
                assert (who.input_size, who.output_size, who.layers) == (4, 2, ())
                assert (who.counter, who.tick_hz, who.board) == ("clock", 1_000_000_000, "mps2-an386")
                outputs, ticks = bridge.run_many(q)
                assert np.abs(outputs - reference.run(program, q)[-1]).max() <= 1
                assert np.array_equal(bridge.infer(q[3]).output, outputs[3]) and (ticks > 0).all()
        with Bridge.open(url, timeout_s=20) as bridge:
            bridge.hello()
            for kind, payload in ((0x05, b""), (0x03, b"x"), (0x04, b""), (0x04, b"\2\0xyz")):
                with pytest.raises(RefusedError):
                    bridge.request(kind, payload)
            assert bridge.memory().ram_static_bytes > 1 << 20
            bridge.reset()
            assert bridge.echo(bytes(300)) == bytes(300)


def test_agent_computes_what_the_runtime_does(built: Built) -> None:
    q, program = inputs(built, 8), read_program(built.image.path)
    with served(built, "tflite", "--listen", "127.0.0.1:0") as url, Bridge.open(url, timeout_s=20) as bridge:
        expected = run_tflite(tflite_interpreter(built.image.file("policy.tflite")), program, q)
        assert np.array_equal(bridge.run_many(q)[0], expected)


def test_agent_over_a_serial_line(built: Built) -> None:
    """Two pseudo terminals, and between them what a cable does."""
    (left, left_name), (right, right_name) = ((ours, os.ttyname(theirs)) for ours, theirs in map(_raw, range(2)))
    relay = "import os,select,sys\na,b=map(int,sys.argv[1:])\n" + (
        "while True:\n for f in select.select([a,b],[],[])[0]: os.write(b if f==a else a, os.read(f,4096))\n"
    )
    with subprocess.Popen([sys.executable, "-c", relay, str(left), str(right)], pass_fds=(left, right)) as cable:
        try:
            with served(built, "onnx", "--serial", left_name), Bridge.open(right_name, timeout_s=20) as bridge:
                assert bridge.echo(bytes(range(256))) == bytes(range(256))
                assert len(bridge.infer(inputs(built, 1)[0]).output) == 2
        finally:
            cable.kill()


def _raw(_: int) -> tuple[int, int]:
    import tty

    ours, theirs = os.openpty()
    tty.setraw(theirs)
    return ours, theirs


def test_peer_is_measured_beside_the_board(built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built.run(tmp_path / "hil")
    with served(built, "onnx", "--listen", "127.0.0.1:0") as url:
        out = tmp_path / "peer.json"
        flags = ["--episodes", "2", "--latency-observations", "8", "--beside", str(tmp_path / "hil")]
        assert peer.main([str(built.image.path), "--port", url, "--out", str(out), *flags]) == 0
    table = json.loads(out.read_text())
    assert table["runtime"].startswith("onnxruntime ") and table["unit"] == "nanoseconds"
    assert table["values"] == 16 and table["equal"] <= 16 and table["largest"] <= 1
    assert len(table["returns"]) == 2 and 0 < table["agreement"] <= 1
    printed = capsys.readouterr().out
    assert "| onnxruntime" in printed and "| policyport | instructions |" in printed


def test_peer_of_another_network_is_refused(built: Built, other: Built) -> None:
    with (
        served(other, "onnx", "--listen", "127.0.0.1:0") as url,
        pytest.raises(IdentityError, match="serves another network"),
    ):
        measure_peer(built.image, url, SHORT)


@pytest.mark.parametrize("address", ["pi", "1:2:3", "127.0.0.1:99999"])
def test_bad_address_is_one_error(built: Built, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main([str(built.image.path), "--runtime", "onnx", "--listen", address]) == 3
    assert f"cannot listen ({address})" in capsys.readouterr().err
