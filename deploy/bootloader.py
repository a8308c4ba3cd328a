"""Builds the bootloader of a board, and firmware for each of the slots that it chooses from."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import ConfigError, ToolError
from policyport.deploy.board import Board, Bootloader, Region, board_names, load_board
from policyport.deploy.firmware import (
    DEVICE,
    LINKER_SCRIPT,
    PORTS,
    Firmware,
    build_firmware,
    build_header,
    flash_image,
    linker_script,
    source_files,
)
from policyport.deploy.toolchain import Toolchain, run

BOOT = DEVICE / "boot"
MONOCYPHER = BOOT / "monocypher"
SHARED = ("pp_startup.c", "pp_memory.c", "pp_frame.c")
"""Sources of the firmware that the bootloader is built from too."""

AGENT = ("pp_agent.c", "pp_boot_verbs.h", "pp_mailbox.h")
"""What a firmware needs to speak with the bootloader."""

IMAGE_ROOM_BYTES = 512
"""``PP_IMAGE_ROOM``: header and flags before the firmware in a slot."""

MAILBOX_BYTES = 16
"""At the end of RAM: what firmware and bootloader tell each other over a reset."""

STACK_BYTES = 4096
STACK_ALIGNMENT = 0x10000
"""RAM of firmware and of bootloader begins on a multiple of this: with the stack, whose guard does."""

KEYS_MAX = 4
"""Public keys that a bootloader holds."""


@dataclass(frozen=True)
class BuiltBootloader:
    """A linked bootloader."""

    content: bytes
    """Of the flash from its base."""

    flash_bytes: int
    ram_bytes: int
    """Static, without the stack."""


def slots_of(board: Board) -> Bootloader:
    """The bootloader's part of a board's description.

    :raises ConfigError: there is none
    """
    if board.bootloader is None:
        able = [name for name in board_names() if load_board(name).bootloader is not None]
        raise ConfigError("no bootloader was written for this board", where=board.name, expected=" or ".join(able))
    return board.bootloader


def build_slot_firmware(src: Path, board: Board, slot: int, version: int, toolchain: Toolchain, out: Path) -> Firmware:
    """Build a deploy artifact's sources once more, linked for a slot, with the firmware's side of an update.

    :param src: folder of sources as ``deploy`` leaves it; it is not changed
    :param slot: from 0
    :param version: of the release; each has its own build id, also where nothing else changed
    :param out: folder for ``firmware.elf``, ``.bin`` and the like
    :raises ConfigError: the board has no bootloader
    :raises ToolError: the compiler fails, or the firmware is larger than a slot
    """
    slots = slots_of(board)
    place = Region(slots.slots[slot] + IMAGE_ROOM_BYTES, slots.slot_bytes - IMAGE_ROOM_BYTES)
    ram = Region(board.ram.base, board.ram.size - MAILBOX_BYTES)
    linked = dataclasses.replace(board, flash=place, ram=ram)
    with tempfile.TemporaryDirectory(prefix="policyport-slot-") as scratch:
        work = Path(scratch)
        for path in source_files(src):
            shutil.copyfile(path, work / path.name)
        for name in AGENT:
            shutil.copyfile(BOOT / name, work / name)
        (work / "pp_agent_build.h").write_text(_agent_header(board, slot, version))
        (work / LINKER_SCRIPT).write_text(linker_script(linked))
        return build_firmware(work, linked, toolchain, out)


def build_bootloader(board: Board, keys: Sequence[bytes], toolchain: Toolchain) -> BuiltBootloader:
    """Compile and link a board's bootloader.

    :param keys: public keys, [32] each, that sign images, the first to be used first
    :raises ConfigError: the board has none, or no key or too many were given
    :raises ToolError: the compiler fails, or it does not fit its place
    """
    slots = slots_of(board)
    flash = Region(board.flash.base, slots.size)
    linked = dataclasses.replace(board, flash=flash, ram=bootloader_ram(board), stack_bytes=STACK_BYTES)
    with tempfile.TemporaryDirectory(prefix="policyport-bootloader-") as scratch:
        work = Path(scratch)
        _add_sources(work, board, slots)
        (work / "pp_build.h").write_text(build_header(linked, toolchain, "00" * 16))
        (work / "pp_boot_build.h").write_text(boot_header(board, keys))
        (work / LINKER_SCRIPT).write_text(linker_script(linked))
        objects = [_compile(path.name, work, board, toolchain) for path in sorted(work.glob("*.c"))]
        run(toolchain.link_command(board, objects, LINKER_SCRIPT, "boot.elf"), work, "the bootloader does not link")
        content = flash_image(work / "boot.elf", linked)
        return BuiltBootloader(content, len(content), _static_ram(work / "boot.elf"))


def bootloader_ram(board: Board) -> Region:
    """The bootloader's RAM, stack first: the upper half, as what the firmware keeps over a reset lies in the lower."""
    lower = -(-(board.ram.size // 2) // STACK_ALIGNMENT) * STACK_ALIGNMENT
    return Region(board.ram.base + lower, board.ram.size - lower - MAILBOX_BYTES)


def boot_header(board: Board, keys: Sequence[bytes]) -> str:
    """``pp_boot_build.h``: where things lie, and whose signatures count.

    :raises ConfigError: no key, too many, or one twice
    """
    slots = slots_of(board)
    if not 1 <= len(keys) <= KEYS_MAX or len({key[:8] for key in keys}) != len(keys):
        raise ConfigError("a bootloader holds public keys, each once", expected=f"1 to {KEYS_MAX}", got=len(keys))
    if len(board.name.encode()) > 31:
        raise ConfigError("the board's name is too long for a header", expected="31 bytes", got=board.name)
    rows = ", ".join("{" + ", ".join(f"0x{byte:02x}" for byte in key) + "}" for key in keys)
    return (
        "/* Written by the build: the board's flash, and the keys that sign images for it. */\n"
        "#ifndef PP_BOOT_BUILD_H\n#define PP_BOOT_BUILD_H\n\n"
        '#include "pp_build.h"\n\n'
        f"#define PP_FLASH_BASE 0x{board.flash.base:08x}u\n"
        f"#define PP_SECTOR_COUNT {len(slots.sectors)}u\n"
        f"#define PP_SECTORS {{ {', '.join(f'0x{size:x}u' for size in slots.sectors)} }}\n"
        f"#define PP_SLOT_BASES {{ {', '.join(f'0x{base:08x}u' for base in slots.slots)} }}\n"
        f"#define PP_SLOT_BYTES 0x{slots.slot_bytes:x}u\n"
        f"#define PP_MAILBOX 0x{_mailbox(board):08x}u\n"
        f"#define PP_KEY_COUNT {len(keys)}u\n"
        f"#define PP_KEYS {{ {rows} }}\n\n"
        "#endif\n"
    )


def _mailbox(board: Board) -> int:
    return board.ram.base + board.ram.size - MAILBOX_BYTES


def _agent_header(board: Board, slot: int, version: int) -> str:
    return (
        "/* Written by the build: where the bootloader looks, and which image this is. */\n"
        "#ifndef PP_AGENT_BUILD_H\n#define PP_AGENT_BUILD_H\n\n"
        f"#define PP_MAILBOX 0x{_mailbox(board):08x}u\n"
        f"#define PP_SLOT {slot}u\n"
        f"#define PP_VERSION {version}u\n\n"
        "#endif\n"
    )


def _add_sources(folder: Path, board: Board, slots: Bootloader) -> None:
    drivers = [BOOT / "flash" / name for name in (f"{slots.driver}_flash.c", f"{slots.watchdog}_watchdog.c")]
    shared = [DEVICE / name for name in SHARED]
    mine = [path for path in BOOT.glob("pp_*.c") if path.name not in AGENT]
    headers = [*DEVICE.glob("*.h"), *BOOT.glob("*.h")]
    vendored = [MONOCYPHER / "monocypher.c", MONOCYPHER / "monocypher.h"]
    port = DEVICE / "ports" / PORTS[board.uart.driver]
    for path in (*drivers, *shared, *mine, BOOT / "boot_main.c", *headers, *vendored, port):
        shutil.copyfile(path, folder / path.name)


def _compile(name: str, folder: Path, board: Board, toolchain: Toolchain) -> str:
    target = f"{name}.o"
    quiet = ["-w"] if name == "monocypher.c" else []  # its warnings are not ours to mend
    command = toolchain.compile_command(board, name, target, "-Os")
    run([*command, *quiet, "-DPP_PAYLOAD_MAX=1024u"], folder, f"{name} does not compile")
    return target


def _static_ram(elf: Path) -> int:
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        sections = ELFFile(stream)
        return sum(
            section["sh_size"]
            for name in (".data", ".bss", ".noinit")
            if (section := sections.get_section_by_name(name))
        )


def factory_content(board: Board, bootloader: BuiltBootloader, slot_content: bytes) -> bytes:
    """Content of a new board's flash: the bootloader, and an image in the first slot.

    :param slot_content: the slot's content, its flags set as of a confirmed image
    :raises ToolError: the image is larger than a slot
    """
    slots = slots_of(board)
    if len(slot_content) > slots.slot_bytes:
        raise ToolError("the image is larger than a slot", expected=f"{slots.slot_bytes} bytes", got=len(slot_content))
    offset = slots.slots[0] - board.flash.base
    return bootloader.content + b"\xff" * (offset - len(bootloader.content)) + slot_content
