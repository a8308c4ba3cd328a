"""A board at a place of labgrid: a coordinator and an exporter of its own lend an emulated one."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from policyport.core.errors import BoardBusyError, BoardError, ConfigError, ToolError
from policyport.deploy.board import load_board
from policyport.hil.labgrid_rig import LabgridRig
from policyport.hil.rack.labgrid_place import CLIENT, remote_places, split
from policyport.hil.result import Result
from policyport.hil.rig import EmulatedRig, open_rig
from policyport.hil.session import open_board
from policyport.pipeline.cli import main
from tiny import Built

BOARD = load_board("mps2-an386")
INSTALLED = importlib.util.find_spec("labgrid") is not None
needs_labgrid = pytest.mark.skipif(not INSTALLED, reason="the package labgrid is not installed")


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("rack-3", ("rack-3", "", "")),
        ("rack-3#console", ("rack-3", "", "console")),
        ("lab.yaml", ("lab.yaml", "main", "")),
        ("dir/lab.yaml:left#uart", ("dir/lab.yaml", "left", "uart")),
        ("site:rack", ("site:rack", "", "")),
    ],
)
def test_what_stands_behind_labgrid(spec: str, parts: tuple[str, str, str]) -> None:
    assert split(spec) == parts


def test_places_of_a_target() -> None:
    assert remote_places({"resources": {"RemotePlace": {"name": "a"}}}) == ["a"]
    assert remote_places({"resources": [{"RawSerialPort": {}}, {"RemotePlace": {"name": "b"}}]}) == ["b"]
    assert remote_places({"resources": {"RawSerialPort": {"port": "/dev/ttyACM0"}}}) == []


@pytest.mark.skipif(INSTALLED, reason="labgrid is installed")
def test_without_labgrid_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="labgrid is not installed"):
        open_rig(BOARD, tmp_path / "none", port="labgrid:rack-3")


@pytest.fixture(scope="module")
def board_port(built: Built) -> Iterator[str]:
    """URL of an emulated board that somebody else runs."""
    with EmulatedRig(BOARD, built.image.file("firmware.bin"), link="socket") as rig:
        yield rig.url


@pytest.fixture(scope="module")
def lab(board_port: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A coordinator whose place ``desk`` has the board's port."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    port = board_port.rpartition(":")[2]
    (folder / "exporter.yaml").write_text(
        f"board:\n  NetworkSerialPort:\n    host: 127.0.0.1\n    port: {port}\n    speed: 115200\n    protocol: raw\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LG_COORDINATOR", address)
        with (
            process(folder, "labgrid.remote.coordinator", "-l", address),
            process(folder, "labgrid.remote.exporter", "-c", address, "-n", "rack", "exporter.yaml"),
        ):
            client("desk", "create")
            client("desk", "add-match", "rack/board/NetworkSerialPort")
            wait_until(lambda: "NetworkSerialPort" in client("desk", "resources"))
            yield address


@contextmanager
def process(folder: Path, module: str, *arguments: str) -> Iterator[None]:
    with (folder / f"{module}.log").open("w") as log:
        running = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=folder, stdout=log, stderr=log)
        try:
            yield
        finally:
            running.terminate()
            running.wait(20)


def client(place: str, *command: str) -> str:
    """What labgrid's client prints; asked again while the coordinator starts."""
    for _ in range(30):
        done = subprocess.run([*CLIENT, "-p", place, *command], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return done.stdout
        time.sleep(0.5)
    raise AssertionError(done.stderr)


def wait_until(holds: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.3)


def acquired() -> bool:
    return "acquired: None" not in client("desk", "show")


@needs_labgrid
def test_a_place_is_acquired_and_released(lab: str, board_port: str, built: Built) -> None:
    with open_board(built.image.path, "labgrid:desk") as board:
        assert board.rig.url == board_port and not board.rig.emulated
        assert acquired()
        assert board.bridge.echo(b"lent") == b"lent"
    assert not acquired()


@needs_labgrid
def test_a_place_that_the_user_has_stays_so(lab: str, built: Built) -> None:
    client("desk", "acquire")
    with open_board(built.image.path, "labgrid:desk"):
        pass
    assert acquired()
    client("desk", "release")


@needs_labgrid
def test_a_place_of_somebody_else_is_busy(lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("LG_USERNAME", "somebody")
        client("desk", "acquire")
    with pytest.raises(BoardBusyError, match="somebody else has this place"), LabgridRig(BOARD, "labgrid:desk"):
        pass
    with monkeypatch.context() as patch:
        patch.setenv("LG_USERNAME", "somebody")
        client("desk", "release")


@needs_labgrid
def test_boards_are_measured_at_their_places(lab: str, built: Built, tmp_path: Path) -> None:
    flags = ("--latency-observations", "4", "--out", str(tmp_path / "out"), "-q")
    assert main(["hil", "bench", str(built.image.path), "--board", "left=labgrid:desk", *flags]) == 0
    assert Result.read(tmp_path / "out" / "left" / "hil" / "result.json").board.unit == "cycles"
    assert not acquired()


@needs_labgrid
def test_a_place_that_is_not_there(lab: str) -> None:
    with pytest.raises(BoardError, match="does not give this place"), LabgridRig(BOARD, "labgrid:nowhere"):
        pass


@needs_labgrid
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_place_is_released_however_the_run_ends(
    lab: str, built: Built, tmp_path: Path, end: signal.Signals
) -> None:
    code = (
        "import time\nfrom policyport.hil.session import open_board\n"
        f"with open_board({str(built.image.path)!r}, 'labgrid:desk') as board:\n"
        "    print('open', flush=True)\n    time.sleep(60)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout is not None and running.stdout.readline() == b"open\n"
    assert acquired()
    os.kill(running.pid, end)
    running.wait(60)
    running.stdout.close()
    wait_until(lambda: not acquired())


@needs_labgrid
def test_an_environment_names_a_port_of_this_machine(built: Built, tmp_path: Path) -> None:
    with EmulatedRig(BOARD, built.image.file("firmware.bin"), link="pty") as rig:
        environment = tmp_path / "lab.yaml"
        environment.write_text(f"targets:\n  left:\n    resources:\n      RawSerialPort:\n        port: {rig.url}\n")
        with open_board(built.image.path, f"labgrid:{environment}:left") as board:
            assert board.rig.url == rig.url and board.bridge.echo(b"here") == b"here"
        with pytest.raises(ConfigError, match="no such target"), LabgridRig(BOARD, f"labgrid:{environment}:right"):
            pass
        with pytest.raises(BoardError, match="no such serial port"), LabgridRig(BOARD, f"labgrid:{environment}:left#x"):
            pass
    with pytest.raises(ConfigError, match="no such environment file"), LabgridRig(BOARD, "labgrid:none.yaml"):
        pass
