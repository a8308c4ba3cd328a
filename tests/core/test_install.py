"""Cures: what is quoted is a command that this machine understands."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from policyport.core import install

ROOT = Path(__file__).parents[2]


def test_an_extra_is_installed_into_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    python, *rest = shlex.split(install.pip_install("[rig]", "pyocd"))
    assert Path(python).absolute().samefile(sys.executable)
    assert rest == ["-m", "pip", "install", "-c", "constraints.txt", "policyport[rig]", "pyocd"]


def test_from_another_folder_the_constraints_are_still_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(install.pip_install("[rig]"))
    assert Path(words[words.index("-c") + 1]).samefile(ROOT / "constraints.txt")


def test_an_installed_wheel_has_no_constraints_to_quote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "CONSTRAINTS", tmp_path / "constraints.txt")
    assert "-c" not in shlex.split(install.pip_install("[rig]"))


def test_a_path_with_a_space_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python3")
    assert shlex.split(install.pip_install("[rig]"))[0] == "/opt/my python/bin/python3"


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get install gcc-arm-none-eabi"),
        ("dnf", "sudo dnf install arm-none-eabi-gcc-cs"),
        ("brew", "brew install --cask gcc-arm-embedded"),
    ],
)
def test_the_package_manager_that_is_there_is_asked(
    monkeypatch: pytest.MonkeyPatch, manager: str, command: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == manager else None)
    assert install.system_install("arm-none-eabi-gcc") == (command,)


def test_without_a_known_manager_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert install.system_install("qemu-system-arm") == (
        "sudo apt-get install qemu-system-arm",
        "sudo dnf install qemu-system-arm",
        "brew install qemu",
    )


@pytest.mark.parametrize("program", sorted(install.PACKAGES))
def test_every_program_has_a_package_everywhere(program: str) -> None:
    """QEMU's user mode runs on Linux alone; the cross compiler comes with its libraries on Debian alone."""
    fewer = {"qemu-aarch64": {"apt-get", "dnf"}, "aarch64-linux-gnu-gcc": {"apt-get"}}
    assert set(install.PACKAGES[program]) == fewer.get(program, {"apt-get", "dnf", "brew"})


def test_what_no_package_manager_has_is_got_elsewhere() -> None:
    (how,) = install.flash_program_install("JLinkExe")
    assert "segger.com" in how
