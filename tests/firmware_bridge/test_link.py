"""The line: what is sent arrives whole, however long it is; one process has it, and is named to the next."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import BoardBusyError
from policyport.firmware_bridge import link
from policyport.firmware_bridge.link import PIECE_BYTES, Link


@given(st.integers(0, 4 * PIECE_BYTES))
def test_a_long_frame_is_written_in_pieces(size: int) -> None:
    """Each piece has the write's timeout for itself: an image takes longer than that on a slow line."""
    data, pieces = bytes(i % 251 for i in range(size)), []
    with pytest.MonkeyPatch.context() as patch, Link("loop://") as line:
        patch.setattr(line._port, "write", pieces.append)
        line.write(data)
    assert b"".join(pieces) == data
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)


FOREIGN = "import sys, serial; port = serial.Serial(sys.argv[1], exclusive=True); print('open', flush=True); input()"


@pytest.fixture
def terminal() -> Iterator[str]:
    """A serial port with nobody behind it."""
    if sys.platform == "win32":
        pytest.skip("no pseudo terminals")
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc")
@pytest.mark.parametrize("program", [FOREIGN, FOREIGN.replace("exclusive=True", "exclusive=False")])
def test_a_program_without_our_lock_is_named_and_waited_for(
    terminal: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PSEUDO_TERMINALS", "/none/")  # this one stands for a device
    with subprocess.Popen(
        [sys.executable, "-c", program, terminal], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(BoardBusyError, match=f"held by pid {other.pid}: "):
            Link(terminal)
        ending = threading.Timer(0.2, other.kill)
        ending.start()
        Link(terminal, wait_s=20).close()
        ending.join()


def test_a_network_port_is_locked_whoever_serves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://localhost:{server.getsockname()[1]}"
        with Link(url):
            hold = f"from policyport.firmware_bridge.link import Link; Link('{url.replace('localhost', '127.0.0.1')}')"
            done = subprocess.run([sys.executable, "-c", hold], capture_output=True, text=True)
    assert done.returncode == 1 and "BoardBusyError: another process holds this port" in done.stderr
    assert f"held by pid {os.getpid()}: " in done.stderr
