"""What a user can get wrong, and a machine lack: one message on standard error that names it and its cure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from policyport.hil import qemu_board
from policyport.pipeline.cli import main

HOLD = "import sys; from policyport.core.port_lock import PortLock; lock = PortLock(sys.argv[1]); "
HOLD += "lock.acquire(0); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``refused(code, *arguments)``: the command ends so, says why and what cures it, and writes no artifact."""

    def run(code: int, *arguments: str) -> str:
        assert main([*arguments, "--out", str(tmp_path / "out"), "-q"]) == code
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("policyport: ") and err.count("policyport: ") == 1
        assert "\n  cure: " in err
        assert not (tmp_path / "out").exists()
        return err

    return run


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without any program on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    qemu_board.machines.cache_clear()
    yield
    qemu_board.machines.cache_clear()


@pytest.fixture
def bare(runs: Path, tmp_path: Path) -> Path:
    """A folder with a float ONNX, its task and its observations."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for source, name in (("float.onnx", "policy.onnx"), ("task.json", ""), ("observations.npz", "")):
        shutil.copyfile(runs / "int16" / "quantize" / source, folder / (name or source))
    return folder


@pytest.fixture
def port() -> Iterator[str]:
    """A serial port with nobody behind it."""
    if sys.platform == "win32":
        pytest.skip("no pseudo terminals on Windows")
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def measured(runs: Path, image: str = "int16", board: str = "int16") -> list[str]:
    return ["hil", str(runs / image / "deploy"), str(runs / board / "flash")]


def test_unknown_environment(refused: Callable[..., str]) -> None:
    assert "CartPole-v1" in refused(2, "train", "--environment", "CartPol-v1")


def test_unsupported_layer(refused: Callable[..., str], bare: Path) -> None:
    weights = [numpy_helper.from_array(np.ones((2, 4), np.float32), "w")]
    nodes = [helper.make_node("Gemm", ["x", "w"], ["a"], transB=1), helper.make_node("Hardmax", ["a"], ["y"], name="h")]
    value, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(nodes, "g", [value("x", kind, ["N", 4])], [value("y", kind, ["N", 2])], weights)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(network, bare / "policy.onnx")
    assert "Hardmax" in refused(2, "quantize", str(bare / "policy.onnx"))


def test_missing_compiler(refused: Callable[..., str], runs: Path, no_programs: None) -> None:
    message = refused(2, "deploy", str(runs / "int16" / "quantize"), "--toolchain", "gcc")
    assert "no ARM compiler" in message and "install" in message


def test_missing_emulator(refused: Callable[..., str], runs: Path, no_programs: None) -> None:
    message = refused(2, *measured(runs), "--emulator", "qemu")
    assert "qemu is not installed" in message and "install" in message


def test_port_held_by_another_process(refused: Callable[..., str], runs: Path, port: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        message = refused(3, *measured(runs), "--port", port)
    assert port in message and f"held by pid {holder.pid}: " in message


def test_board_that_does_not_answer(refused: Callable[..., str], runs: Path, port: str) -> None:
    message = refused(3, *measured(runs), "--port", port, "--timeout-s", "0.05", "--retries", "1")
    assert "does not answer" in message and port in message


def test_firmware_of_another_model(refused: Callable[..., str], runs: Path) -> None:
    assert "build id" in refused(4, *measured(runs, "int16", "int8"))


def test_torn_artifact(refused: Callable[..., str], runs: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(runs / "int16" / "quantize", tmp_path / "quantize"))
    (torn / "model.onnx").write_bytes((torn / "model.onnx").read_bytes()[:-7])
    assert "torn or altered artifact: model.onnx" in refused(2, "deploy", str(torn))


def test_observation_of_a_wrong_shape(refused: Callable[..., str], bare: Path) -> None:
    np.savez(bare / "observations.npz", observations=np.zeros((100, 3), np.float32))
    assert "(100, 3)" in refused(2, "quantize", str(bare / "policy.onnx"))


def test_observation_that_is_no_number(refused: Callable[..., str], bare: Path) -> None:
    observations = np.zeros((100, 4), np.float32)
    observations[7, 2] = np.nan
    np.savez(bare / "observations.npz", observations=observations)
    assert "observation 7, element 2" in refused(2, "quantize", str(bare / "policy.onnx"))
