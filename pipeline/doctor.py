"""``policyport doctor``: what this machine has, what it lacks, and the command that cures it.

The main job (train, quantize, deploy, flash and measure on an emulated board) can run where nothing is
``missing``. What is ``optional`` makes more boards, runtimes or checks available.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

from policyport.core.errors import PolicyportError
from policyport.core.install import pip_install, system_install
from policyport.pipeline import port_doctor
from policyport.pipeline.finding import Finding, State


def examine() -> list[Finding]:
    """Look for everything; nothing is written and no port is opened."""
    return [
        _python(),
        *_packages(),
        _cross_compiler("ARM cross compiler", "arm-none-eabi-gcc", "missing"),
        _emulator(),
        _boards(),
        _cross_compiler("AArch64 Linux compiler", "aarch64-linux-gnu-gcc", "optional", "; Linux boards want one"),
        _user_mode(),
        _host_compiler(),
        _tflite(),
        port_doctor.flash_programs(),
        *port_doctor.examine_ports(),
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
    """Packages that are imported as they are."""
    light = ("numpy", "onnx", "onnxruntime", "gymnasium", "pyserial")
    heavy = ("torch", "stable-baselines3")
    return [*(_package(name, name) for name in light), *(_package(name, "[train]", "train") for name in heavy)]


def _package(name: str, source: str, only_for: str = "") -> Finding:
    """One package.

    :param source: what to install for it: itself, or an extra of ours
    :param only_for: the stage that needs it; empty where all do
    """
    module = {"pyserial": "serial", "stable-baselines3": "stable_baselines3"}.get(name, name)
    why = f"; of the stages, {only_for} alone needs it" if only_for else ""
    if not _version(name):
        return Finding(name, "missing", f"not installed{why}", (pip_install(source),))
    try:
        __import__(module)
    except ImportError as error:
        return Finding(name, "missing", f"{_version(name)} does not import: {error}{why}", (pip_install(source),))
    return Finding(name, "ok", _version(name))


def _cross_compiler(what: str, program: str, state: State, why: str = "") -> Finding:
    """The cross compiler that a build would take, and its state where there is none."""
    gcc = _program(program)
    zig = _version("ziglang")
    if gcc or zig:
        return Finding(what, "ok", gcc or f"zig cc, ziglang {zig}")
    cures = (pip_install("[rig]"), *system_install(program))
    return Finding(what, state, f"neither {program} nor ziglang{why}", cures)


def _host_compiler() -> Finding:
    """A compiler for this machine: the same C as a shared library, for parity on the host."""
    what = "host C compiler"
    found = next(filter(None, map(_program, ("cc", "gcc", "clang"))), "")
    zig = _version("ziglang")
    if found or zig:
        return Finding(what, "ok", found or f"zig cc, ziglang {zig}")
    cures = (pip_install("[rig]"), *system_install("cc"))
    return Finding(what, "optional", "none; with one the C can be run on this machine too", cures)


def _emulator() -> Finding:
    """Who runs an emulated board."""
    what = "board emulator"
    qemu = _program("qemu-system-arm")
    unicorn = f"unicorn {_version('unicorn')}" if _version("unicorn") else ""
    if qemu:
        return Finding(what, "ok", "; ".join(filter(None, (qemu, unicorn))))
    if unicorn:
        found = f"{unicorn}; QEMU is preferred where it is installed: more cores, interrupts, faults"
        return Finding(what, "ok", found, system_install("qemu-system-arm"))
    cures = (pip_install("[rig]"), *system_install("qemu-system-arm"))
    return Finding(what, "missing", "neither qemu-system-arm nor unicorn", cures)


def _user_mode() -> Finding:
    """Who runs the program of a board that runs Linux."""
    what = "Linux program emulator"
    qemu = _program("qemu-aarch64")
    if qemu:
        return Finding(what, "ok", qemu)
    return Finding(what, "optional", "no qemu-aarch64; boards that run Linux want it", system_install("qemu-aarch64"))


def _tflite() -> Finding:
    """A TFLite runtime, by building an interpreter: one that imports can still fail at that."""
    what = "TFLite runtime"
    if not (_version("tflite-runtime") or _version("ai-edge-litert")):
        found = "not installed; without one the exported .tflite is not compared"
        return Finding(what, "optional", found, (pip_install("[tflite]"),))
    from policyport.deploy.exports import tflite_interpreter

    try:
        interpreter = tflite_interpreter(_smallest_model())
    except PolicyportError as error:
        found = f"none builds an interpreter: {error.got or error.what}"
        return Finding(what, "optional", found, (pip_install("[tflite]"),))
    package = type(interpreter).__module__.partition(".")[0].replace("_", "-")
    return Finding(what, "ok", f"{package} {_version(package)}")


def _smallest_model() -> bytes:
    """One tanh, as TFLite."""
    import numpy as np
    from policyport.core.semantics import pointwise_table
    from policyport.deploy.export_tflite import tflite_bytes
    from policyport.deploy.layers import Lookup, Tensor
    from policyport.deploy.program import HostInput, Program

    before = Tensor("input", (1,), 8, 1 / 32, 0, -128, 127)
    after = Tensor("output", (1,), 8, 1 / 128, 0, -128, 127)
    tanh = Lookup("output", (before,), after, pointwise_table("Tanh", 1 / 32, 0, 1 / 128, 0, 8), "Tanh")
    one = np.ones(1, np.float32)
    return tflite_bytes(Program("doctor", HostInput(0 * one, one, -np.inf, np.inf), before, after, (tanh,)))


def _boards() -> Finding:
    """The boards that firmware can be built for."""
    from policyport.deploy.board import board_names

    return Finding("boards", "ok", ", ".join(board_names()))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _program(name: str) -> str:
    """A program's version and place; empty where it is not on PATH or does not run."""
    path = shutil.which(name)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{done.stdout.strip().partition(chr(10))[0]} ({path})"
