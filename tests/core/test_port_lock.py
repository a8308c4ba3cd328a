"""Ports: one holder, whatever the port is called, and it has a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from policyport.core.errors import BoardBusyError
from policyport.core.port_lock import PortLock, port_behind, processes_with, runs

HOLD = "import sys; from policyport.core.port_lock import PortLock; lock = PortLock(sys.argv[1]); "
HOLD += "lock.acquire(0); print('held', flush=True); sys.stdin.read()"


def test_a_port_has_one_name(tmp_path: Path) -> None:
    device, link = tmp_path / "ttyACM0", tmp_path / "by-id"
    device.touch()
    link.symlink_to(device)
    assert {port_behind(str(link)), port_behind(f"spy://{link}?file=log"), port_behind(str(device))} == {str(device)}
    network = {"socket://localhost:4000", "socket://127.0.0.1:4000?logging=debug", "rfc2217://LOCALHOST:4000"}
    assert {port_behind(url) for url in network} == {"127.0.0.1:4000"}
    assert port_behind("socket://rig:4001") != port_behind("socket://rig:4000")


@pytest.mark.parametrize(("held", "wanted"), [("device", "device"), ("socket://localhost:9", "rfc2217://127.0.0.1:9")])
def test_the_second_gets_the_holders_name(tmp_path: Path, held: str, wanted: str) -> None:
    if held == "device":
        held = wanted = str(tmp_path / "port")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        second = PortLock(wanted)
        with pytest.raises(BoardBusyError, match=f"pid {holder.pid}: .*{held}") as caught:
            second.acquire(0)
        assert caught.value.cure is not None and "--wait-s" in caught.value.cure
        assert second.holder().startswith(f"pid {holder.pid}: ")
        holder.kill()
        second.acquire(10)  # waiting gets it once the first has ended
        second.release()
    assert second.holder() == ""


def test_every_loop_is_a_port_of_its_own() -> None:
    first, second = PortLock("loop://"), PortLock("loop://")
    first.acquire(0)
    second.acquire(0)
    first.release()
    assert second.holder() == ""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc")
def test_processes_that_have_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "ttyACM0"
    path.touch()
    with path.open():
        assert processes_with(str(path)) == []  # this process itself is not meant
        command = [
            sys.executable,
            "-c",
            "import sys; open(sys.argv[1]); f = open(sys.argv[1]); print(flush=True); input()",
        ]
        with subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline()
            (found,) = processes_with(os.path.relpath(path))
            assert found.startswith(f"pid {other.pid}: {sys.executable}") and str(path) in found
            other.communicate("\n")
    assert processes_with(str(path)) == []


@pytest.mark.skipif(not Path("/proc/self/comm").is_file(), reason="needs Linux' /proc")
def test_a_program_that_runs() -> None:
    assert runs(Path("/proc/self/comm").read_text().strip()) and not runs("no such program")
