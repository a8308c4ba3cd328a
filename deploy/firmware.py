"""Builds the firmware: policy, kernels, bridge, start-up and the board's UART port, linked for one board.

On a board that runs Linux the firmware is a static program with the same policy, kernels and bridge.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from policyport.core.artifact import Artifact
from policyport.core.errors import ToolError
from policyport.core.progress import progress
from policyport.deploy import boot_stage, footprint
from policyport.deploy.board import Board
from policyport.deploy.toolchain import Toolchain, run
from policyport.deploy.uf2 import uf2_bytes

DEVICE = Path(__file__).resolve().parent.parent / "firmware_bridge" / "device"
PORTS = {
    "cmsdk": "cmsdk_uart.c",
    "linux": "linux_line.c",
    "lm3s": "lm3s_uart.c",
    "nrf51": "nrf51_uart.c",
    "rp2040": "rp2040_uart.c",
    "stm32f1": "stm32f1_usart.c",
    "stm32f4": "stm32f4_usart.c",
    "stm32f7": "stm32f7_usart.c",
}
"""UART driver, as the board's TOML names it, to its C file."""

LINUX = DEVICE / "linux"
"""The platform of a board that runs Linux, and what its init system starts."""

SHARED_WITH_LINUX = ("pp_bridge.c", "pp_frame.c", "pp_bridge.h", "pp_counter.h", "pp_frame.h", "pp_mem.h")
"""Of the firmware's files, those that know no processor."""

UNIT = "policyport.service"

LINKER_SCRIPT = "firmware.ld"

NOT_BUILT_IN = ("description", "verified", "wait_states", "usb", "runners")
"""What a firmware is the same without: the build id does not depend on it."""


@dataclass(frozen=True)
class Firmware:
    """A linked firmware and what it takes."""

    elf: Path
    """Under Linux the program."""

    bin: Path
    """Content of the flash from its base; not written for a board that runs Linux."""

    hex: Path
    """The same as Intel HEX; likewise."""

    map: Path
    """Its symbols by address."""

    build_id: str
    """Hex of 16 bytes: hash of sources, flags, board and compiler."""

    footprint: dict[str, Any]


def add_device_sources(folder: Path, board: Board) -> None:
    """Put the bridge, the start-up, the board's port and its linker script beside a policy's sources."""
    if board.linux:
        for path in [*(DEVICE / name for name in SHARED_WITH_LINUX), *LINUX.glob("*.[ch]")]:
            shutil.copyfile(path, folder / path.name)
        return
    for path in [*DEVICE.glob("*.c"), *DEVICE.glob("*.h"), DEVICE / "ports" / PORTS[board.uart.driver]]:
        shutil.copyfile(path, folder / path.name)
    (folder / LINKER_SCRIPT).write_text(linker_script(board))


def linker_script(board: Board) -> str:
    """The linker script of a firmware in a board's flash and RAM."""
    script = (DEVICE / "cortexm.ld.in").read_text()
    values = {
        "FLASH_BASE": hex(board.flash.base),
        "FLASH_SIZE": hex(board.flash.size),
        "RAM_BASE": hex(board.ram.base),
        "RAM_SIZE": hex(board.ram.size),
        "STACK_SIZE": str(board.stack_bytes),
    }
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    return script


def source_files(folder: Path) -> list[Path]:
    """What a firmware is built from, sorted by name: C, headers, assembler, linker script; not others' manifests."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h", ".S", ".ld"))


def build_firmware(src: Path, board: Board, toolchain: Toolchain, out: Path) -> Firmware:
    """Compile and link everything in a source folder.

    Identical sources, board and compiler give identical bytes, wherever the folders are.

    :param src: folder of C, assembler and headers with its linker script; ``pp_build.h`` is written into it
    :param out: folder for ``firmware.elf``, ``.bin``, ``.hex`` and ``.map``, and ``.uf2`` where a runner takes one;
        under Linux for ``firmware.elf`` and ``.map``, and the systemd unit that starts it
    :raises ToolError: the compiler or linker fails; its first lines are quoted
    """
    build_id = _build_id(src, board, toolchain)
    (src / "pp_build.h").write_text(build_header(board, toolchain, build_id))
    sources = [path.name for path in source_files(src) if path.suffix in (".c", ".S")]
    with tempfile.TemporaryDirectory(prefix="policyport-build-") as scratch:
        work = Path(scratch)
        for path in source_files(src):
            shutil.copyfile(path, work / path.name)
        objects = []
        with progress(f"build for {board.name}", len(sources)) as advance:
            for done, name in enumerate(sources):
                advance(done, name)
                objects.append(_compile(name, work, board, toolchain))
        link = toolchain.link_command(board, objects, LINKER_SCRIPT, "firmware.elf")
        run(link, work, "the firmware does not link")
        policy = [work / name for name in objects if _is_policy(name)]
        figures = footprint.measure(work / "firmware.elf", footprint.defined_symbols(policy))
        if board.boot_bytes:
            boot_stage.seal(work / "firmware.elf", board.flash.base)
        shutil.copyfile(work / "firmware.elf", out / "firmware.elf")
    (out / "firmware.map").write_text(footprint.symbol_map(out / "firmware.elf"))
    elf, flash, hexadecimal, linked = (out / f"firmware.{suffix}" for suffix in ("elf", "bin", "hex", "map"))
    if board.linux:
        elf.chmod(0o755)
        shutil.copyfile(LINUX / f"{UNIT}.in", out / UNIT)
    else:
        _write_images(elf, board, out)
    return Firmware(elf, flash, hexadecimal, linked, build_id, figures)


def image_file(deployed: Artifact) -> Path:
    """What goes onto the board: the content of its flash, or the program of a board that runs Linux."""
    return deployed.file("firmware.bin" if "firmware.bin" in deployed.manifest.files else "firmware.elf")


def _write_images(elf: Path, board: Board, out: Path) -> None:
    """The firmware in every form that a runner of the board takes.

    :raises ToolError: it does not fit in the flash
    """
    image = flash_image(out / "firmware.elf", board)
    (out / "firmware.bin").write_bytes(image)
    (out / "firmware.hex").write_text(intel_hex(image, board.flash.base))
    for runner in board.runners:
        if runner.uf2_family:
            (out / "firmware.uf2").write_bytes(uf2_bytes(image, board.flash.base, runner.uf2_family))


def _is_policy(name: str) -> bool:
    """Whether an object file belongs to the policy: generated C and kernels, not the bridge."""
    stem = name.removesuffix(".o")
    return not any((folder / stem).exists() for folder in (DEVICE, DEVICE / "mlperf", DEVICE / "ports", LINUX))


def _compile(name: str, folder: Path, board: Board, toolchain: Toolchain) -> str:
    """Compile one file; what an inference runs is optimized for speed, under Linux at any size, the rest for size."""
    target = f"{name}.o"
    optimize = ("-O3" if board.linux else "-O2") if _is_policy(target) else "-Os"
    run(toolchain.compile_command(board, name, target, optimize), folder, f"{name} does not compile")
    return target


def _build_id(src: Path, board: Board, toolchain: Toolchain) -> str:
    digest = hashlib.sha256()
    for path in source_files(src):
        if path.name != "pp_build.h":
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    built_for = {key: value for key, value in asdict(board).items() if key not in NOT_BUILT_IN}
    digest.update(json.dumps(built_for, sort_keys=True).encode())
    digest.update(f"{toolchain.name} {toolchain.version} {toolchain.target_flags(board)}".encode())
    return digest.hexdigest()[:32]


def build_header(board: Board, toolchain: Toolchain, build_id: str) -> str:
    """``pp_build.h``: which board, which build.

    :param build_id: hex of 16 bytes
    """
    values = ", ".join(f"0x{byte:02x}" for byte in bytes.fromhex(build_id))
    uart = (
        f"#define PP_STACK_BYTES {board.stack_bytes}u\n"
        if board.linux
        else f"#define PP_UART_BASE 0x{board.uart.base:08x}u\n#define PP_UART_IRQ {board.uart.irq}u\n"
    )
    return (
        "/* Written by the build: which board, which build. */\n"
        "#ifndef PP_BUILD_H\n#define PP_BUILD_H\n\n"
        f'#define PP_BOARD_NAME "{board.name}"\n'
        f"#define PP_CLOCK_HZ {board.clock_hz}u\n"
        f"{uart}"
        f"#define PP_BAUD {board.uart.baud}u\n"
        f"#define PP_BUILD_ID {{ {values} }}\n"
        f'#define PP_COMPILER "{toolchain.version}"\n\n'
        "#endif\n"
    )


def flash_image(elf: Path, board: Board) -> bytes:
    """Content of the flash from its base, as the load segments of an ELF give it; gaps are erased (0xFF).

    :raises ToolError: a segment lies outside the flash
    """
    from elftools.elf.elffile import ELFFile

    image = bytearray()
    with elf.open("rb") as stream:
        for segment in ELFFile(stream).iter_segments():
            if segment["p_type"] != "PT_LOAD" or segment["p_filesz"] == 0:
                continue
            begin = segment["p_paddr"] - board.flash.base
            end = begin + segment["p_filesz"]
            if begin < 0 or end > board.flash.size:
                raise ToolError(
                    "the firmware does not fit in the flash",
                    where=board.name,
                    expected=f"at most {board.flash.size} bytes from 0x{board.flash.base:08x}",
                    got=f"{segment['p_filesz']} bytes at 0x{segment['p_paddr']:08x}",
                )
            image.extend(b"\xff" * (end - len(image)))
            image[begin:end] = segment.data()
    return bytes(image)


def intel_hex(image: bytes, base: int) -> str:
    """An image as Intel HEX: data records of 16 bytes, extended linear addresses, end record."""
    lines = []
    for at in range(0, len(image), 16):
        address = base + at
        if at == 0 or address & 0xFFFF == 0:
            lines.append(_hex_record(0, 4, (address >> 16).to_bytes(2, "big")))
        lines.append(_hex_record(address & 0xFFFF, 0, image[at : at + 16]))
    lines.append(_hex_record(0, 1, b""))
    return "\n".join(lines).upper() + "\n"


def _hex_record(address: int, kind: int, data: bytes) -> str:
    record = b"%c%c%c%c%b" % (len(data), address >> 8, address & 0xFF, kind, data)
    return f":{record.hex()}{-sum(record) & 0xFF:02x}"
