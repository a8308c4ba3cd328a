"""A folder with Python, TFLite and onnxruntime for AArch64 Linux, for QEMU's user mode; made once, in the user's cache.

The system's part comes from the distribution by ``apt-get``, into the folder alone and without root's rights, the
Python packages from their index by ``pip``. Beside it stands what Linux says of a core under ``/proc`` and ``/sys``:
the runtimes choose their kernels by it, and QEMU's user mode would show them this machine's.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.core.cache import cache_folder
from policyport.core.errors import ToolError

SYSTEM_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g")
"""Of Debian and Ubuntu; what they depend on comes with them."""

PYTHON_PACKAGES = ("ai-edge-litert==2.3.0", "onnxruntime==1.32.0", "numpy")

PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")

PROCESSORS = 4


@dataclass(frozen=True)
class LinuxCore:
    """A core as ``/proc/cpuinfo`` describes it; all are Arm's own, implementer 0x41."""

    name: str
    """As boards and QEMU call it."""

    part: int
    variant: int
    revision: int
    features: str


LINUX_CORES = {
    core.name: core
    for core in (
        LinuxCore("cortex-a53", 0xD03, 0, 4, "fp asimd evtstrm crc32 cpuid"),
        LinuxCore(
            *("cortex-a76", 0xD0B, 4, 1),
            "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        ),
    )
}
"""Of a Raspberry Pi 3 and 5: the part numbers of Linux' arch/arm64/include/asm/cputype.h, the revisions of QEMU's
models, the features by the names of Linux' arch/arm64/kernel/cpuinfo.c."""


@dataclass(frozen=True)
class Arm64Root:
    """The folder, made."""

    path: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return _python(self.path / "system")

    @property
    def packages(self) -> Path:
        """Its Python packages."""
        return self.path / "packages"

    def of_core(self, core: LinuxCore) -> Path:
        """What an emulated program takes for ``/`` on a core."""
        return self.path / core.name


def find_root() -> Arm64Root | None:
    """The folder, where it has been made."""
    root = Arm64Root(_place())
    return root if root.path.is_dir() else None


def make_root() -> Arm64Root:
    """The folder; where it is missing, it is downloaded, some 75 MB, and unpacked.

    :raises ToolError: no ``apt-get``, or a package that cannot be had
    """
    place = _place()
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{place.name}.building-") as scratch:
            made = Path(scratch) / "root"
            _unpack_system(made / "system", Path(scratch) / "apt")
            _install_packages(made / "packages", _python(made / "system"))
            for core in LINUX_CORES.values():
                _describe(core, made / core.name)
            made.rename(place)
    return Arm64Root(place)


def _place() -> Path:
    recipe = repr((SYSTEM_PACKAGES, PYTHON_PACKAGES, PLATFORMS, tuple(LINUX_CORES.values())))
    return cache_folder() / f"arm64-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _python(system: Path) -> Path:
    found = [path for path in sorted((system / "usr" / "bin").glob("python3.*")) if path.name[8:].isdigit()]
    if not found:
        raise ToolError("no Python among the packages for AArch64", where=system)
    return found[-1]


def _unpack_system(system: Path, apt: Path) -> None:
    """Download with lists and a state of its own, so that neither the system's nor root's rights are touched."""
    for name in ("apt-get", "dpkg-deb"):
        if shutil.which(name) is None:
            raise ToolError(
                f"{name} is not installed",
                expected="Debian or Ubuntu, whose packages for arm64 the runtimes of Linux boards are run with",
                cure="run this there, or leave --peers out: recorded figures stand in the tables",
            )
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt,
        "Dir::Cache::Archives": apt / "archives",
        "Debug::NoLocking": "1",
        "Acquire::Languages": "none",
    }
    command = ["apt-get", "-q", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    _run([*command, "update"])
    _run([*command, "-y", "--no-install-recommends", "--download-only", "install", *SYSTEM_PACKAGES])
    system.mkdir(parents=True)
    for archive in sorted((apt / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(system)])


def _install_packages(packages: Path, python: Path) -> None:
    version = python.name.removeprefix("python")
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    options = ["--quiet", "--no-compile", "--only-binary=:all:", "--python-version", version, *platforms]
    _run([sys.executable, "-m", "pip", "install", *options, "--target", str(packages), *PYTHON_PACKAGES])


def _describe(core: LinuxCore, folder: Path) -> None:
    """The system's folders by links, and beside them what Linux says of the core."""
    folder.mkdir()
    for name in ("usr", "lib", "etc"):
        apart = (folder.with_name("system") / name).is_dir()  # later systems have /lib below /usr
        (folder / name).symlink_to(Path("..", "system", *(() if apart else ("usr",)), name))
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(cpuinfo(core))
    processors = folder / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (processors / name).write_text(f"0-{PROCESSORS - 1}\n")


def cpuinfo(core: LinuxCore) -> str:
    """``/proc/cpuinfo`` of Linux on a core, as arch/arm64/kernel/cpuinfo.c writes it."""
    lines = (
        f"Features\t: {core.features}",
        "CPU implementer\t: 0x41",
        "CPU architecture: 8",
        f"CPU variant\t: {core.variant:#x}",
        f"CPU part\t: {core.part:#05x}",
        f"CPU revision\t: {core.revision}",
    )
    return "".join(f"processor\t: {number}\n" + "\n".join(lines) + "\n\n" for number in range(PROCESSORS))


def installed_version(root: Arm64Root, package: str) -> str:
    """Of a Python package in the folder.

    :raises ToolError: it is not there
    """
    name = re.sub(r"[-.]+", "_", package)
    found = sorted(root.packages.glob(f"{name}-*.dist-info"))
    if not found:
        raise ToolError(f"no {package} among the packages for AArch64", where=root.packages)
    return found[0].name.removeprefix(f"{name}-").removesuffix(".dist-info")


def _run(command: Sequence[str]) -> None:
    """:raises ToolError: it failed"""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(
            "cannot get what an AArch64 Linux program needs",
            where=" ".join(command),
            got=(done.stderr.strip() or done.stdout.strip())[-2000:],
            cure="see that the package index is reachable, then try again",
        )
