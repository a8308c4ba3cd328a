"""Fixtures of the hil tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from policyport.core.errors import ToolError
from policyport.deploy.toolchain import find_toolchain

HERE = Path(__file__).resolve().parent


def _load(name: str):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mini_firmware = _load("mini_firmware")
_load("mlperf_client")
_load("results")
tiny = _load("tiny")


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    """A flash image with the mini firmware."""
    path = tmp_path / "flash.bin"
    path.write_bytes(mini_firmware.IMAGE)
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``emulator`` in every emulator there is; skip, with the reason, the others."""
    if "emulator" in metafunc.fixturenames:
        metafunc.parametrize("emulator", ["unicorn", "qemu"], indirect=True)


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> str:
    """``unicorn`` or ``qemu``, where installed."""
    from policyport.hil import qemu_board

    name: str = request.param
    if name == "qemu" and not qemu_board.machines():
        pytest.skip("qemu-system-arm is not installed")
    if name == "unicorn" and importlib.util.find_spec("unicorn") is None:
        pytest.skip("the package unicorn is not installed")
    return name


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A tiny policy built and flashed: ``image``, ``flashed``, ``quantized``, ``run``."""
    return _build(tmp_path_factory.mktemp("built"), 1)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Another."""
    return _build(tmp_path_factory.mktemp("other"), 2)


def _build(folder: Path, seed: int):  # type: ignore[no-untyped-def]
    try:
        find_toolchain()
    except ToolError as error:
        pytest.skip(f"no ARM compiler: {error.what}")
    return tiny.Built(folder, seed)
