"""Firmware: the same bytes wherever it is built, figures that add up, images that read back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.core.errors import ToolError
from policyport.deploy.board import Board, Region, load_board
from policyport.deploy.codegen import Generated, write_sources
from policyport.deploy.firmware import Firmware, add_device_sources, build_firmware, flash_image, intel_hex
from policyport.deploy.toolchain import Toolchain, find_toolchain
from policyport.deploy.vectors import Spec, random_program

BOARD = load_board("mps2-an386")


def read_hex(text: str) -> dict[int, int]:
    """Byte by address, every checksum and the order of records checked."""
    content: dict[int, int] = {}
    upper, ended = 0, False
    for line in text.splitlines():
        assert line[0] == ":" and not ended
        record = bytes.fromhex(line[1:])
        count, address, kind, data = record[0], int.from_bytes(record[1:3], "big"), record[3], record[4:-1]
        assert len(data) == count and sum(record) & 0xFF == 0
        if kind == 0:
            assert address + count <= 0x10000
            for i, byte in enumerate(data):
                assert upper + address + i not in content
                content[upper + address + i] = byte
        elif kind == 4:
            upper = int.from_bytes(data, "big") << 16
        else:
            ended = kind == 1
    assert ended
    return content


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=70),
    st.integers(0, 0xFFFFF).map(lambda i: i << 4),
    st.sampled_from([0, 0x08000000, 0x0FFF0, 0x0803FFF0]),
)
def test_intel_hex_reads_back(image: bytes, offset: int, near: int) -> None:
    base = near or offset
    assert read_hex(intel_hex(image, base)) == {base + i: byte for i, byte in enumerate(image)}


def toolchain(name: str) -> Toolchain:
    if name == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not on PATH")
    if name == "zig":
        pytest.importorskip("ziglang", reason="the compiler comes with policyport[rig]")
    return find_toolchain(name)


def build(folder: Path, compiler: Toolchain, board: Board = BOARD) -> tuple[Generated, Firmware]:
    src, out = folder / "src", folder / "out"
    src.mkdir(parents=True)
    out.mkdir()
    program = random_program(Spec((4, 8, 2), (8, 8, 8), ("Tanh", "")), np.random.default_rng(5))
    generated = write_sources(program, "dsp", src)
    add_device_sources(src, board)
    return generated, build_firmware(src, board, compiler, out)


Builds = tuple[Generated, Firmware, Firmware]


@pytest.fixture(scope="module", params=["gcc", "zig"])
def builds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """The same program built twice, in two folders."""
    compiler, folder = toolchain(request.param), tmp_path_factory.mktemp(request.param)
    generated, first = build(folder / "a", compiler)
    return generated, first, build(folder / "another folder" / "deeper", compiler)[1]


def test_same_image_in_any_folder(builds: Builds) -> None:
    _, first, second = builds
    assert first.bin.read_bytes() == second.bin.read_bytes()
    assert first.hex.read_bytes() == second.hex.read_bytes()
    assert first.map.read_text() == second.map.read_text()
    assert first.build_id == second.build_id and len(first.build_id) == 32


def test_same_elf_in_any_folder(builds: Builds) -> None:
    _, first, second = builds
    assert first.elf.read_bytes() == second.elf.read_bytes()


def test_image_carries_its_identity_and_reads_back(builds: Builds) -> None:
    _, first, _ = builds
    image = first.bin.read_bytes()
    assert bytes.fromhex(first.build_id) in image
    assert read_hex(first.hex.read_text()) == {BOARD.flash.base + i: byte for i, byte in enumerate(image)}


def test_flash_that_is_too_small(builds: Builds) -> None:
    small = replace(BOARD, flash=Region(BOARD.flash.base, 512))
    with pytest.raises(ToolError, match="does not fit"):
        flash_image(builds[1].elf, small)


def test_footprint_adds_up(builds: Builds) -> None:
    """Parts add up, and the totals are what the ELF's segments and sections say."""
    generated, firmware, _ = builds
    size = firmware.footprint
    assert size["policy_flash_bytes"] + size["bridge_flash_bytes"] == size["flash_bytes"]
    assert size["policy_code_bytes"] + size["policy_constant_bytes"] == size["policy_flash_bytes"]
    assert size["policy_ram_bytes"] + size["stack_bytes"] + size["bridge_ram_bytes"] == size["ram_bytes"]
    assert min(size.values()) > 0
    assert size["stack_bytes"] == BOARD.stack_bytes and size["policy_constant_bytes"] >= generated.constant_bytes
    assert size["arena_bytes"] >= generated.arena_bytes
    with firmware.elf.open("rb") as stream:
        image = ELFFile(stream)
        loads = [s for s in image.iter_segments() if s["p_type"] == "PT_LOAD"]
        in_ram = [s for s in image.iter_sections() if s["sh_flags"] & 2 and s["sh_addr"] >= BOARD.ram.base]
        ram_bytes = sum(s["sh_size"] for s in in_ram)
        file_bytes = sum(s["p_filesz"] for s in loads)
    assert size["ram_bytes"] == ram_bytes
    assert 0 <= file_bytes - size["flash_bytes"] < 64  # alignment between sections
    assert 0 <= len(firmware.bin.read_bytes()) - size["flash_bytes"] < 64


def test_build_id_depends_on_the_board(tmp_path: Path) -> None:
    compiler = toolchain("gcc")
    _, first = build(tmp_path / "a", compiler)
    _, other = build(tmp_path / "b", compiler, replace(BOARD, clock_hz=BOARD.clock_hz + 1))
    assert first.build_id != other.build_id


def test_compiler_error_is_quoted(tmp_path: Path) -> None:
    compiler = toolchain("gcc")
    (tmp_path / "policy.c").write_text("int f(void) { return undeclared; }\n")
    with pytest.raises(ToolError) as caught:
        build_firmware(tmp_path, BOARD, compiler, tmp_path)
    assert "policy.c does not compile" in str(caught.value) and "undeclared" in str(caught.value)
