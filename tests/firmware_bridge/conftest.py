"""The device library compiled for this machine with sanitizers, and a serial line to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # for boot_rig
DEVICE = HERE.parents[1] / "firmware_bridge" / "device"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable of ``device_main.c`` with the device library."""
    return _compile(tmp_path_factory.mktemp("device"), ())


@pytest.fixture(scope="session")
def mlperf_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the commands of MLPerf Tiny's runner, for a model whose integers are loaded as they are."""
    from policyport.deploy.mlperf import COMMANDS, model_header
    from policyport.deploy.vectors import Spec, random_program

    folder = tmp_path_factory.mktemp("mlperf")
    program = random_program(Spec((4, 2), (16, 8), ("",)), np.random.default_rng(1))
    given = replace(program.output, scale=0.25, zero_point=-3)
    last = replace(program.layers[-1], output=given)
    program = replace(program, output=given, layers=(*program.layers[:-1], last))
    (folder / "pp_mlperf_model.h").write_text(model_header(program, "doubler"))
    return _compile(folder, (str(COMMANDS / "pp_mlperf.c"), f"-I{COMMANDS}", f"-I{folder}"))


def _compile(folder: Path, more: tuple[str, ...]) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no host C compiler with sanitizers")
    target = folder / "device"
    sources = [str(HERE / name) for name in ("device_main.c", "device_fuzz.c")]
    sources += [str(DEVICE / name) for name in ("pp_frame.c", "pp_bridge.c")]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", *SANITIZERS, f"-I{HERE}", f"-I{DEVICE}"]
    subprocess.run([compiler, *more, *flags, *sources, "-o", str(target)], check=True)
    return target


Relay = Callable[[bytes], bytes]


class Line:
    """A pseudo terminal with the device behind it; what goes through can be tampered with."""

    def __init__(self, device: Path) -> None:
        self.to_device: Relay = lambda data: data
        self.to_host: Relay = lambda data: data
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.url = os.ttyname(self._slave)
        self._process = subprocess.Popen([str(device)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._down, self._up)]
        for thread in self._threads:
            thread.start()

    def _down(self) -> None:
        assert self._process.stdin is not None
        while True:
            try:
                data = os.read(self._master, 4096)
                self._process.stdin.write(self.to_device(data))
            except (OSError, ValueError):
                return

    def _up(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(4096):
            os.write(self._master, self.to_host(data))

    def close(self) -> int:
        """End the device; its exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(10)
        self._threads[1].join(10)
        self._process.stdout.close()
        os.close(self._slave)
        self._threads[0].join(10)
        os.close(self._master)
        return code


@pytest.fixture
def line(device: Path) -> Iterator[Line]:
    """A line to a device of its own, which must end without a sanitizer's complaint."""
    made = Line(device)
    yield made
    assert made.close() == 0
