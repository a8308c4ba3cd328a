"""The commands that get what a machine lacks: Python packages by extra, system programs by the package manager.

Errors and ``policyport doctor`` quote them, so that each lack is cured by one line to paste.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
"""Versions that were run together; there in a checkout, absent from an installed wheel."""

PACKAGES = {
    "arm-none-eabi-gcc": {
        "apt-get": "gcc-arm-none-eabi",
        "dnf": "arm-none-eabi-gcc-cs",
        "brew": "--cask gcc-arm-embedded",
    },
    "aarch64-linux-gnu-gcc": {"apt-get": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"},
    "qemu-system-arm": {"apt-get": "qemu-system-arm", "dnf": "qemu-system-arm", "brew": "qemu"},
    "qemu-aarch64": {"apt-get": "qemu-user", "dnf": "qemu-user"},
    "ssh": {"apt-get": "openssh-client", "dnf": "openssh-clients", "brew": "openssh"},
    "scp": {"apt-get": "openssh-client", "dnf": "openssh-clients", "brew": "openssh"},
    "openocd": {"apt-get": "openocd", "dnf": "openocd", "brew": "openocd"},
    "st-flash": {"apt-get": "stlink-tools", "dnf": "stlink", "brew": "stlink"},
    "dfu-util": {"apt-get": "dfu-util", "dnf": "dfu-util", "brew": "dfu-util"},
    "cc": {"apt-get": "gcc", "dnf": "gcc", "brew": "gcc"},
}
"""Program to the package that has it, by package manager: Debian and Ubuntu, Fedora, macOS."""

ELSEWHERE = {"JLinkExe": "install the J-Link software from https://www.segger.com/downloads/jlink"}
"""Program to what gets it, where no package manager does."""


def pip_install(*wanted: str) -> str:
    """The command that installs into the environment that runs this.

    :param wanted: an extra of ours, ``[rig]``, or the name of a package
    """
    named = " ".join(f'"policyport{name}"' if name.startswith("[") else name for name in wanted)
    pinned = f"-c {shlex.quote(_from_here(CONSTRAINTS))} " if CONSTRAINTS.is_file() else ""
    return f"{shlex.quote(_from_here(Path(sys.executable)))} -m pip install {pinned}{named}"


def system_install(program: str) -> tuple[str, ...]:
    """The command of this machine's package manager that installs a program; every known manager's where it has none.

    :param program: a key of :data:`PACKAGES`
    """
    packages = PACKAGES[program]
    here = [manager for manager in packages if shutil.which(manager) is not None]
    return tuple(_command(manager, packages[manager]) for manager in here[:1] or packages)


def flash_program_install(program: str) -> tuple[str, ...]:
    """Commands that install a program that flashes boards, one of which is enough.

    :param program: a key of :data:`PACKAGES` or :data:`ELSEWHERE`, or the name of a Python package
    """
    if program in ELSEWHERE:
        return (ELSEWHERE[program],)
    return system_install(program) if program in PACKAGES else (pip_install(program),)


def either(*commands: str) -> str:
    """Commands of which one is enough, as an error's cure."""
    return ", or: ".join(commands)


def _command(manager: str, package: str) -> str:
    return f"brew install {package}" if manager == "brew" else f"sudo {manager} install {package}"


def _from_here(path: Path) -> str:
    """A path below the working folder relative to it, any other as it is; links are not followed."""
    absolute = os.path.abspath(path)
    here = os.path.join(os.getcwd(), "")
    return absolute.removeprefix(here)
