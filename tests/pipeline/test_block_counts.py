"""Counting under QEMU's user mode: a program whose instructions are known, and what is made of the counts."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ProtocolError, ToolError
from policyport.hil import tcg_plugin
from policyport.pipeline import block_counts
from policyport.pipeline.bench_linux_peers import DOT_PRODUCTS
from policyport.pipeline.block_counts import (
    COUNTER,
    Block,
    Mapped,
    count_words,
    library_instructions,
    read_maps,
    read_regions,
    run_counted,
)

MEASURED = """
.globl _start
_start:
    mov x8, #57
    mov w0, #-7001
    svc #0
    mov x1, #{rounds}
again:
    subs x1, x1, #1
    b.ne again
    mov x8, #57
    mov w0, #-7002
    svc #0
    mov x8, #93
    mov x0, #{status}
    svc #0
"""
"""Between the two calls: one instruction, two in each round, three up to the second call."""


def assemble(folder: Path, rounds: int, status: int = 0) -> Path:
    """A program for AArch64 Linux that needs no library."""
    if shutil.which(block_counts.QEMU) is None:
        pytest.skip("qemu-aarch64 is not installed")
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang is not installed: no assembler for AArch64")
    source, program = folder / "measured.S", folder / "measured"
    source.write_text(MEASURED.format(rounds=rounds, status=status))
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-nostdlib", "-static"]
    subprocess.run([*compiler, str(source), "-o", str(program)], check=True, timeout=300)
    return program


@pytest.mark.parametrize("rounds", [1, 4321])
def test_a_known_program_is_counted_exactly(rounds: int, tmp_path: Path) -> None:
    program = assemble(tmp_path, rounds)
    (region,) = run_counted([str(program)], "cortex-a53", tmp_path, {}, 60)
    assert sum(block.instructions * block.executions for block in region) == 1 + 2 * rounds + 3


def test_a_program_that_fails_is_told_of(tmp_path: Path) -> None:
    program = assemble(tmp_path, 1, status=3)
    with pytest.raises(ToolError, match="an emulated program failed"):
        run_counted([str(program)], "cortex-a53", tmp_path, {}, 60)


def test_the_plugin_compiles_without_a_warning(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    flags = [*tcg_plugin.FLAGS, "-Wshadow", "-Wpedantic", "-Wstrict-prototypes"]
    subprocess.run([compiler, *flags, str(COUNTER.source), "-o", str(tmp_path / "plugin.so")], check=True)


def test_a_machine_without_qemu_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolError, match=r"qemu-aarch64 is not installed(?s:.*)qemu-user"):
        block_counts.qemu_version()


blocks = st.builds(Block, st.integers(0, 2**64 - 1), st.integers(1, 512), st.integers(1, 2**40))


@given(st.lists(st.lists(blocks).map(tuple)))
def test_regions_read_back_as_written(regions: list[tuple[Block, ...]]) -> None:
    lines = []
    for region in regions:
        lines += ["region", *(f"{b.address:x} {b.instructions} {b.executions}" for b in region), "end"]
    assert read_regions("\n".join(lines)) == regions


@pytest.mark.parametrize("torn", ["region\n10 2 3", "10 2 3\nend", "region\n10 2\nend", "region\nregion\nend", "end"])
def test_torn_counts_are_refused(torn: str) -> None:
    with pytest.raises(ProtocolError):
        read_regions(torn)


def test_python_itself_is_not_counted(tmp_path: Path) -> None:
    """A library at 0x2000 whose code lies at 16 in its file, behind an interpreter at 0x1000."""
    library = tmp_path / "runtime.so"
    sdot, by_element, udot, add, smlal = 0x4E829420, 0x4FA2E020, 0x6E829420, 0x8B020020, 0x0E628020
    words = [sdot, by_element, udot, add, smlal]
    library.write_bytes(bytes(16) + b"".join(word.to_bytes(4, "little") for word in words))
    maps = read_maps(
        "1000-2000 r-xp 00000000 08:01 11 /usr/bin/python3.11\n"
        f"2000-3000 r-xp 00000010 08:01 12 {library}\n"
        "3000-4000 rw-p 00000000 00:00 0 \n"
        "7000-8000 rw-p 00000000 00:00 0 [stack]\n"
    )
    assert maps == [Mapped(0x1000, 0x2000, 0, "/usr/bin/python3.11"), Mapped(0x2000, 0x3000, 16, str(library))]
    region = (Block(0x1000, 7, 100), Block(0x2000, 5, 10), Block(0x2004, 2, 1))
    assert library_instructions(region, maps) == 52
    assert count_words(region, maps, DOT_PRODUCTS) == 32
    for outside in (0xFFF, 0x3000):
        with pytest.raises(ProtocolError, match="outside of every file"):
            library_instructions((Block(outside, 1, 1),), maps)
