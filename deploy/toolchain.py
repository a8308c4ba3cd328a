"""Compilers: a cross gcc where it is installed, else clang from the ``ziglang`` package, with musl for Linux."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policyport.core.errors import ToolError
from policyport.core.install import either, pip_install, system_install
from policyport.deploy.board import Board

COMMON_FLAGS = (
    "-std=c99",
    "-fno-common",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wdouble-promotion",
    "-Werror",
)
BARE_FLAGS = ("-mthumb", "-ffreestanding")
"""Of a Cortex-M without an operating system."""

STATIC_FLAGS = ("-fno-pic", "-fno-pie")
"""Of a Linux program at a fixed address, so that its addresses are those of its file."""

GCC = {False: "arm-none-eabi-gcc", True: "aarch64-linux-gnu-gcc"}
"""Whether the board runs Linux, to the gcc that builds for it."""

ERROR_LINES = 12
"""Lines of a compiler's complaint that an error shows."""

COMPILE_TIMEOUT_S = 900.0
"""zig builds musl when it first links a program for Linux: half a minute of a processor, much more of a busy one."""


@dataclass(frozen=True)
class Toolchain:
    """A cross compiler for Cortex-M, or for Linux on AArch64."""

    name: Literal["gcc", "zig"]
    command: tuple[str, ...]
    version: str
    """As HELLO reports it, at most 32 characters."""

    def target_flags(self, board: Board) -> tuple[str, ...]:
        """Flags that select the board's core."""
        if self.name == "gcc":
            return board.gcc_flags
        return ("-target", board.zig_target, f"-mcpu={board.zig_cpu}", "-fno-sanitize=all")

    def compile_command(self, board: Board, source: str, target: str, optimize: str) -> list[str]:
        """Command that compiles one C or assembler file; paths are relative to the source folder."""
        machine = STATIC_FLAGS if board.linux else BARE_FLAGS if source.endswith(".c") else ("-mthumb",)
        flags = (*COMMON_FLAGS, *machine) if source.endswith(".c") else machine
        return [*self.command, *self.target_flags(board), *flags, optimize, "-g0", "-c", source, "-o", target]

    def link_command(self, board: Board, objects: Sequence[str], script: str, target: str) -> list[str]:
        """Command that links a firmware.

        :param script: linker script of a microcontroller
        """
        build_id = ("-Wl,--build-id=none",) if self.name == "gcc" else ()
        if board.linux:
            # Without the processor: zig builds its libc at the first link, once for all boards then.
            machine = ("-target", board.zig_target) if self.name == "zig" else ()
            static = ("-static", "-no-pie", "-pthread", "-Wl,--gc-sections", *build_id)
            return [*self.command, *machine, *objects, *static, "-o", target]
        return [
            *self.command,
            *self.target_flags(board),
            "-mthumb",
            "-nostdlib",
            *objects,
            "-Wl,--gc-sections",
            "-Wl,-n",  # no pages: else a segment that begins within one takes what lies before it, ELF's headers, along
            "-Wl,-T," + script,
            "-Wl,-e,pp_reset_handler",
            *((*build_id, "-lgcc") if self.name == "gcc" else ()),
            "-o",
            target,
        ]


def find_toolchain(preference: str = "auto", linux: bool = False) -> Toolchain:
    """The ARM compiler of this machine.

    :param preference: ``auto``, ``gcc`` or ``zig``
    :param linux: for a board that runs Linux
    :raises ToolError: none is installed
    """
    gcc = shutil.which(GCC[linux])
    if preference in ("auto", "gcc") and gcc:
        version = run([gcc, "-dumpfullversion"], Path.cwd(), "the compiler does not run").strip()
        return Toolchain("gcc", (gcc,), f"{GCC[linux]} {version}"[:32])
    if preference in ("auto", "zig") and importlib.util.find_spec("ziglang") is not None:
        from importlib.metadata import version as package_version

        command = (sys.executable, "-m", "ziglang", "cc")
        return Toolchain("zig", command, f"zig cc {package_version('ziglang')}"[:32])
    raise ToolError(
        "no ARM compiler on this machine",
        where=f"toolchain {preference}",
        expected=f"{GCC[linux]} on PATH, or the Python package ziglang",
        cure=either(pip_install("[rig]"), *system_install(GCC[linux])),
    )


def run(command: Sequence[str], folder: Path, what: str) -> str:
    """Run a program in a folder.

    :param what: the error's text where it fails
    :returns: its standard output
    :raises ToolError: it failed, is missing or took too long; its first lines are quoted
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(what, where=command[0], got=error) from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(
            what,
            where=" ".join(command),
            expected="exit code 0",
            got=f"{done.returncode}\n" + "\n".join(lines[:ERROR_LINES]),
        )
    return done.stdout
