"""Packaging: what pyproject.toml names is what is there, and no stage needs more than it should."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SETUPTOOLS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
DATA = {".c", ".h", ".S", ".in", ".toml", ".j2", ".json", ".npz", ".typed"}
"""Endings of the files, other than Python's, that the packages read at run time."""

TORCH = {"policyport.train", "policyport.train.au", "policyport.train.codec", "policyport.quantize.rounding"}
"""Packages that compute with torch; ``quantize/fake.py`` is the one such file elsewhere."""


def package_folders() -> set[Path]:
    """Every folder of the repository that is a package of policyport, by its __init__.py."""
    tests, typing = ROOT / "tests", ROOT / ".typing"
    found = {path.parent for path in ROOT.glob("*/__init__.py")}
    found |= {path.parent for path in ROOT.glob("*/*/__init__.py")}
    found |= {path.parent for path in ROOT.glob("*/*/*/__init__.py")}
    return {folder for folder in found if tests not in folder.parents and typing not in [folder, *folder.parents]}


def source_files() -> set[str]:
    """Every file that belongs into a wheel, by its path there."""
    files = set()
    for name, folder in FOLDERS.items():
        prefix = name.replace(".", "/")
        for path in folder.rglob("*"):
            nested = any(
                other != folder and other in path.parents and folder in other.parents for other in FOLDERS.values()
            )
            if path.is_file() and not nested and path.suffix in DATA | {".py"} and "__pycache__" not in path.parts:
                files.add(f"{prefix}/{path.relative_to(folder).as_posix()}")
    return files


def test_the_package_list_is_the_tree() -> None:
    assert set(SETUPTOOLS["packages"]) == set(FOLDERS)
    assert set(FOLDERS.values()) == package_folders()


def test_type_checkers_see_the_same_tree() -> None:
    links = {path.name: path.resolve() for path in (ROOT / ".typing" / "policyport").iterdir()}
    expected = {name.partition(".")[2]: folder for name, folder in FOLDERS.items() if name.count(".") == 1}
    commands = {path.name: path for path in FOLDERS["policyport"].glob("*.py")}
    assert links == {**expected, **commands}


def test_every_python_file_lies_in_a_package() -> None:
    allowed = {*FOLDERS.values(), *(path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_dir())}
    for top in {folder.relative_to(ROOT).parts[0] for folder in FOLDERS.values()}:
        for path in (ROOT / top).rglob("*.py"):
            assert path.parent in allowed


@pytest.mark.parametrize("package", sorted(set(FOLDERS) - TORCH - {"policyport"}))
def test_a_machine_without_torch_imports_every_module(package: str) -> None:
    modules = sorted(
        f"{package}.{path.stem}"
        for path in FOLDERS[package].glob("*.py")
        if path.stem not in ("__init__", "__main__") and not path.stem.startswith("fake")
    )
    code = (
        "import importlib, sys\n"
        "for name in ('torch', 'stable_baselines3'): sys.modules[name] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_source_file(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    for top in {folder.relative_to(ROOT).parts[0] for folder in FOLDERS.values()}:
        shutil.copytree(ROOT / top, copy / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copyfile(ROOT / name, copy / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(copy)]
    done = subprocess.run(build, timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("policyport/")}
        (points,) = (archive.read(name) for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert held == source_files()
    assert b"policyport = policyport.pipeline.cli:main" in points
    assert b"[pytest11]\npolicyport.hil.rack.pytest_plugin = policyport.hil.rack.pytest_plugin" in points
