"""Finding a compiler, and what is said where there is none or it fails."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from policyport.core.errors import ToolError
from policyport.deploy.board import load_board
from policyport.deploy.toolchain import Toolchain, find_toolchain, run

BOARD = load_board("mps2-an386")


@pytest.fixture
def no_ziglang(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def hidden(name: str, package: str | None = None) -> Any:
        return None if name == "ziglang" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)


@pytest.mark.usefixtures("no_ziglang")
@pytest.mark.parametrize("preference", ["auto", "gcc", "zig"])
def test_no_compiler(monkeypatch: pytest.MonkeyPatch, preference: str) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError) as caught:
        find_toolchain(preference)
    assert caught.value.exit_code == 2
    assert caught.value.cure is not None and "pip install" in caught.value.cure


def test_zig_where_there_is_no_gcc(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang", reason="the compiler comes with policyport[rig]")
    monkeypatch.setenv("PATH", "")
    found = find_toolchain()
    assert found.name == "zig" and len(found.version) <= 32
    with pytest.raises(ToolError):
        find_toolchain("gcc")


@pytest.mark.usefixtures("no_ziglang")
def test_gcc_comes_first() -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not on PATH")
    found = find_toolchain()
    assert found.name == "gcc" and found.version.startswith("arm-none-eabi-gcc ")


def test_commands_hold_no_absolute_paths_but_the_compiler() -> None:
    for name in ("gcc", "zig"):
        toolchain = Toolchain(name, ("cc",), "1")  # type: ignore[arg-type]
        command = toolchain.compile_command(BOARD, "a.c", "a.c.o", "-O2")
        assert "-Werror" in command and not any(part.startswith("/") for part in command)
        assert "-Werror" not in toolchain.compile_command(BOARD, "a.S", "a.S.o", "-O2")


def test_failure_quotes_the_first_lines(tmp_path: Path) -> None:
    script = "import sys; print('\\n'.join(f'line {i}' for i in range(99)), file=sys.stderr); sys.exit(3)"
    with pytest.raises(ToolError) as caught:
        run([sys.executable, "-c", script], tmp_path, "it does not compile")
    text = str(caught.value)
    assert "it does not compile" in text and "3\nline 0\n" in text and "line 11" in text and "line 12" not in text


def test_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="it does not compile"):
        run([str(tmp_path / "nothing")], tmp_path, "it does not compile")
