"""``policyport doctor``: what this machine has, what it lacks, and the command that cures it.

The main job (train, quantize, deploy, flash and measure on an emulated board) can run where nothing is
``missing``. What is ``optional`` makes more boards, runtimes or checks available.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from policyport.core.errors import PolicyportError

PIP = f"{os.path.relpath(sys.executable) if sys.executable.startswith(os.getcwd()) else sys.executable} -m pip install"
"""How to install a package into the environment that runs this."""

INSTALL_HINT = {
    "train": f'{PIP} -c constraints.txt "policyport[train]"',
    "rig": f'{PIP} -c constraints.txt "policyport[rig]"',
    "tflite": f'{PIP} -c constraints.txt "policyport[tflite]"',
}

State = Literal["ok", "optional", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    what: str
    state: State
    """``ok``; ``optional``: not there, and the main job runs without; ``missing``: the main job needs it."""

    found: str
    """What is there, with its version and place, or what is not."""

    cure: str = ""
    """The command that makes it ok."""

    code: int = 2
    """Exit code where it is missing: 2 for software, 3 for a board."""

    def as_table(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)


def examine() -> list[Finding]:
    """Look for everything; nothing is written and no port is opened."""
    return [
        _python(),
        *_packages(),
        _compiler(),
        _host_compiler(),
        _emulator(),
        _tflite(),
        _boards(),
        *_serial_ports(),
    ]


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where the main job can run; else 2 for missing software, 3 where only a board is missing."""
    codes = [finding.code for finding in findings if finding.state == "missing"]
    return min(codes, default=0)


def _python() -> Finding:
    """The interpreter; the package does not install on one that is too old."""
    found = f"{platform.python_version()} ({sys.executable}), {platform.system()} {platform.machine()}"
    return Finding("Python", "ok", found)


def _packages() -> list[Finding]:
    """Packages that are imported as they are; those with an extra name it in the cure."""
    wanted = {
        "numpy": "",
        "onnx": "",
        "onnxruntime": "",
        "gymnasium": "",
        "pyserial": "",
        "torch": "train",
        "stable-baselines3": "train",
    }
    return [_package(name, extra) for name, extra in wanted.items()]


def _package(name: str, extra: str) -> Finding:
    module = {"pyserial": "serial", "stable-baselines3": "stable_baselines3"}.get(name, name)
    try:
        version = importlib.metadata.version(name)
        __import__(module)
    except ImportError as error:  # PackageNotFoundError is one too
        cure = INSTALL_HINT[extra] if extra else f"{PIP} -c constraints.txt {name}"
        return Finding(name, "missing", f"not usable: {error}", cure)
    return Finding(name, "ok", version)


def _compiler() -> Finding:
    """The ARM cross compiler that a build would take."""
    what = "ARM cross compiler"
    gcc = shutil.which("arm-none-eabi-gcc")
    if gcc is not None:
        return Finding(what, "ok", f"{_first_line([gcc, '--version'])} ({gcc})")
    if _version("ziglang"):
        return Finding(what, "ok", f"zig cc, ziglang {_version('ziglang')}")
    return Finding(what, "missing", "neither arm-none-eabi-gcc nor ziglang", INSTALL_HINT["rig"])


def _host_compiler() -> Finding:
    """A compiler for this machine: the same C as a shared library, for parity on the host."""
    what = "host C compiler"
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path is not None:
            return Finding(what, "ok", f"{_first_line([path, '--version'])} ({path})")
    if _version("ziglang"):
        return Finding(what, "ok", f"zig cc, ziglang {_version('ziglang')}")
    return Finding(what, "optional", "none", INSTALL_HINT["rig"])


def _emulator() -> Finding:
    """Who runs an emulated board."""
    what = "board emulator"
    found = []
    qemu = shutil.which("qemu-system-arm")
    if qemu is not None:
        found.append(f"{_first_line([qemu, '--version'])} ({qemu})")
    if _version("unicorn"):
        found.append(f"unicorn {_version('unicorn')}")
    if found:
        cure = "" if qemu else "sudo apt-get install qemu-system-arm   (more cores, interrupts and faults; not needed)"
        return Finding(what, "ok", "; ".join(found), cure)
    return Finding(what, "missing", "neither qemu-system-arm nor unicorn", INSTALL_HINT["rig"])


def _tflite() -> Finding:
    """A TFLite runtime, by building an interpreter: one that imports can still fail at that."""
    what = "TFLite runtime"
    from policyport.deploy.exports import tflite_interpreter

    try:
        interpreter = tflite_interpreter(_smallest_model())
    except PolicyportError as error:
        return Finding(
            what, "optional", f"none builds an interpreter: {error.got or error.what}", INSTALL_HINT["tflite"]
        )
    return Finding(what, "ok", type(interpreter).__module__.split(".")[0])


def _smallest_model() -> bytes:
    """One tanh, as TFLite."""
    import numpy as np
    from policyport.core.semantics import pointwise_table
    from policyport.deploy.export_tflite import tflite_bytes
    from policyport.deploy.program import HostInput, Lookup, Program, Tensor

    before = Tensor("input", 1, 8, 1 / 32, 0, -128, 127)
    after = Tensor("output", 1, 8, 1 / 128, 0, -128, 127)
    tanh = Lookup("output", before, after, pointwise_table("Tanh", 1 / 32, 0, 1 / 128, 0, 8), "Tanh")
    one = np.ones(1, np.float32)
    return tflite_bytes(Program("doctor", HostInput(0 * one, one, -np.inf, np.inf), before, after, (tanh,)))


def _boards() -> Finding:
    """The boards that firmware can be built for."""
    from policyport.deploy.board import board_names

    return Finding("boards", "ok", ", ".join(board_names()))


def _serial_ports() -> list[Finding]:
    """Serial ports that are there, none of them opened, and whether this user may open them."""
    from serial.tools import list_ports

    ports = [port for port in list_ports.comports() if port.vid is not None]
    if not ports:
        return [Finding("serial ports", "optional", "no USB serial port: boards are emulated", "plug a board in")]
    return [_port(port) for port in ports]


def _port(port: Any) -> Finding:
    described = f"{port.description} {port.vid:04x}:{port.pid:04x} serial {port.serial_number or 'none'}"
    if os.access(port.device, os.R_OK | os.W_OK):
        return Finding(port.device, "ok", described)
    group = _group_of(port.device)
    cure = f"sudo usermod -aG {group} $USER, then log in again"
    return Finding(port.device, "optional", f"{described}; not yours to open (group {group})", cure)


def _group_of(device: str) -> str:
    """Name of the group that owns a device: ``dialout`` on most systems."""
    import grp

    try:
        return grp.getgrgid(os.stat(device).st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _first_line(command: Sequence[str]) -> str:
    """First line of what a program says of its version; why not, where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    return (done.stdout or done.stderr).strip().split("\n", 1)[0]
