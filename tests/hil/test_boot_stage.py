"""The RP2040's boot stage: its checksum, and what it does on an emulated core before the firmware starts."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ToolError
from policyport.deploy.board import load_board
from policyport.deploy.boot_stage import CHECKED_BYTES, STAGE_BYTES, checksum
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware, flash_image
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.uf2 import read_uf2
from policyport.deploy.vectors import Spec, random_program

PICO = load_board("pico")
LOADED_AT = 0x20041F00
"""Where the boot ROM copies the stage to, and jumps."""


def test_the_checksum_is_crc32_mpeg2() -> None:
    assert checksum(b"123456789") == 0x0376E6E7  # the check value of that CRC in catalogues


@pytest.fixture(scope="module", params=["gcc", "zig"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a firmware of a small program."""
    try:
        toolchain = find_toolchain(request.param)
    except ToolError as error:
        pytest.skip(error.what)
    src, out = (tmp_path_factory.mktemp(name) for name in ("src", "out"))
    write_sources(random_program(Spec((2, 2), (8, 8), ("",)), np.random.default_rng(5)), PICO.variant, src)
    add_device_sources(src, PICO)
    build_firmware(src, PICO, toolchain, out)
    return out


def test_every_form_of_the_image_is_sealed(built: Path) -> None:
    image = (built / "firmware.bin").read_bytes()
    (stored,) = struct.unpack_from("<I", image, CHECKED_BYTES)
    assert stored == checksum(image[:CHECKED_BYTES])
    assert flash_image(built / "firmware.elf", PICO) == image
    read, base, family = read_uf2((built / "firmware.uf2").read_bytes())
    assert (read[: len(image)], base, family) == (image, 0x10000000, 0xE48BFF56)


def test_the_stage_sets_the_flash_up_and_starts_the_firmware(built: Path) -> None:
    unicorn = pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    from unicorn import arm_const as arm

    image = (built / "firmware.bin").read_bytes()
    stack, start = struct.unpack_from("<II", image, STAGE_BYTES)
    written: list[tuple[int, int]] = []
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
    machine.mem_map(0x10000000, 0x10000)
    machine.mem_write(0x10000000, image)
    machine.mem_map(0x20040000, 0x2000)
    machine.mem_write(LOADED_AT, image[:STAGE_BYTES])
    for base in (0x18000000, 0xE000E000):
        machine.mmio_map(
            base, 0x1000, None, None, lambda _, offset, size, value, base: written.append((base + offset, value)), base
        )
    machine.emu_start(LOADED_AT | 1, start & ~1, count=100)
    assert machine.reg_read(arm.UC_ARM_REG_PC) == start & ~1
    assert machine.reg_read(arm.UC_ARM_REG_SP) == stack
    ssi = [(at - 0x18000000, value) for at, value in written if at < 0xE0000000]
    assert ssi[0] == (0x08, 0) and ssi[-1] == (0x08, 1)  # off while it is set up
    assert dict(ssi[1:-1]) == {0x14: 4, 0x00: 31 << 16 | 3 << 8, 0x04: 0, 0xF4: 0x03 << 24 | 2 << 8 | 6 << 2}
    assert written[-1] == (0xE000ED08, 0x10000100)
