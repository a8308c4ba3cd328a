"""``env.json``: with what the figures were made."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
from pathlib import Path

from policyport.hil import qemu_board, qemu_user_board

PACKAGES = ("policyport", "numpy", "gymnasium", "onnxruntime", "pyserial", "cobs", "unicorn")


def package_versions() -> dict[str, str]:
    """Name to version of the packages that take part; those not installed are left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def emulator_version(emulator: str) -> str:
    """``qemu 7.2.22``, ``qemu-user 7.2.22``, ``unicorn 2.1.4``; empty for a real board or without that emulator."""
    if emulator == "unicorn":
        return f"unicorn {found}" if (found := package_versions().get("unicorn")) else ""
    programs = {"qemu": qemu_board.QEMU, "qemu-user": qemu_user_board.QEMU}
    program = shutil.which(programs.get(emulator, ""))
    if program is None:
        return ""
    banner = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return f"{emulator} {banner.split('version', 1)[1].split()[0]}"


def write(path: Path, emulator: str, port: str) -> None:
    """Write ``env.json``.

    :param emulator: ``qemu``, ``qemu-user``, ``unicorn`` or empty
    :param port: URL of a real board; empty for an emulated one
    """
    table = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": package_versions(),
        "emulated": bool(emulator),
        "emulator": emulator_version(emulator),
        "port": port,
    }
    path.write_text(json.dumps(table, indent=2) + "\n")
