"""An inference alone on an emulated core: built for it, called with an input, its instructions counted exactly.

No board and no protocol around it, so that a core of a Linux computer and one of a microcontroller are measured in the
same way, and float32 beside integers.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policyport.core.errors import ProtocolError, ToolError
from policyport.core.install import pip_install
from policyport.deploy.board import load_board
from policyport.deploy.toolchain import find_toolchain, run
from policyport.deploy.variant import Variant
from policyport.hil.cortex_m import PAGE_BYTES, scan_instructions

CODE_BASE, DATA_BASE, STACK_BASE, EXCHANGE_BASE = 0x0001_0000, 0x2000_0000, 0x3000_0000, 0x3800_0000
"""Of code and constants; of variables; of the stack; of input and output, which the caller holds."""

STACK_BYTES = 1 << 16
EXCHANGE_BYTES = 1 << 20
RETURN = 0x0000_8000
"""Where the inference returns to: nothing lies there."""

ENTRY = "pp_infer"

FAST_FLOAT = ("-ffast-math",)
"""Lets a compiler add floats in any order, as many at once as the core can."""

_FLAGS = (
    *("-std=c99", "-O2", "-g0", "-ffreestanding", "-fno-common", "-fno-pic"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections"),
)

_SCRIPT = f"""\
SECTIONS
{{
    . = {CODE_BASE:#x};
    .code : {{ *(.text*) *(.rodata*) }}
    .ARM.exidx : {{ *(.ARM.exidx*) }}
    . = {DATA_BASE:#x};
    .data : {{ *(.data*) }}
    .bss (NOLOAD) : {{ *(.bss*) *(COMMON) }}
    /DISCARD/ : {{ *(.comment) *(.note*) *(.eh_frame*) *(.ARM.attributes) }}
}}
"""

# The compilers call these even in freestanding C (GCC manual, "Language Standards Supported by GCC").
_MEMORY_FUNCTIONS = """\
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
void *memcpy(void *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ((volatile char *)to)[i] = ((const char *)from)[i];
    }
    return to;
}
void *memset(void *to, int value, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ((volatile char *)to)[i] = (char)value;
    }
    return to;
}
"""


@dataclass(frozen=True)
class Core:
    """What to build for and run on."""

    name: str
    title: str
    command: tuple[str, ...]
    """Compiler with the flags of the core."""

    wide: bool
    """AArch64, instead of Thumb."""

    variant: Variant
    """The fastest kernels that it runs."""

    flash_bytes: int
    """What a program can take of it."""

    compiler: str


@dataclass(frozen=True)
class Built:
    """A linked inference."""

    core: Core
    elf: Path
    flash_bytes: int
    """Code and constants."""

    ram_bytes: int
    """Variables; the stack is not counted."""


@dataclass(frozen=True)
class Run:
    """One call."""

    output: NDArray[Any]
    instructions: int


def cortex_m4f() -> Core:
    """The core of the board ``mps2-an386``.

    :raises ToolError: no ARM compiler
    """
    board, toolchain = load_board("mps2-an386"), find_toolchain()
    command = (*toolchain.command, *toolchain.target_flags(board), "-mthumb")
    title = f"Cortex-M4F ({board.name})"
    return Core("cortex-m4f", title, command, False, board.variant, board.flash.size, toolchain.version)


def cortex_a53() -> Core:
    """The core of the board ``raspberrypi3``, in AArch64 code for Linux, built by the ``ziglang`` package.

    :raises ToolError: the package is not installed
    """
    if importlib.util.find_spec("ziglang") is None:
        raise ToolError("no compiler for AArch64 Linux", expected="the package ziglang", cure=pip_install("[rig]"))
    board, toolchain = load_board("raspberrypi3"), find_toolchain("zig", linux=True)
    command = (*toolchain.command, *toolchain.target_flags(board))
    return Core("cortex-a53", "Cortex-A53 (Linux)", command, True, board.variant, board.ram.size, toolchain.version)


def build(core: Core, folder: Path, more_flags: tuple[str, ...] = ()) -> Built:
    """Compile and link every C and assembler file of a folder.

    :raises ToolError: the compiler or linker fails; its first lines are quoted
    """
    (folder / "memory_functions.c").write_text(_MEMORY_FUNCTIONS)
    (folder / "inference.ld").write_text(_SCRIPT)
    flags = (*_FLAGS, *more_flags)
    objects = []
    for source in sorted(path.name for path in folder.iterdir() if path.suffix in (".c", ".S")):
        given = flags if source.endswith(".c") else ()
        run([*core.command, *given, "-c", source, "-o", f"{source}.o"], folder, f"{source} does not compile")
        objects.append(f"{source}.o")
    link = [
        "-nostdlib",
        "-static",
        *objects,
        "-Wl,--gc-sections",
        f"-Wl,-e,{ENTRY}",
        "-Wl,-T,inference.ld",
        "-o",
        "inference.elf",
    ]
    run([*core.command, *link], folder, "the inference does not link")
    flash, ram = _sizes(folder / "inference.elf")
    return Built(core, folder / "inference.elf", flash, ram)


def call(built: Built, value: NDArray[Any], output: NDArray[Any]) -> Run:
    """One inference.

    :param value: the input as the C takes it, of the C's type
    :param output: an array of the output's type and size; it is not written
    :raises ToolError: Unicorn is not installed
    :raises ProtocolError: the core faults
    """
    try:
        import unicorn
    except ImportError as error:
        raise ToolError("no emulator", got=error, cure=pip_install("[rig]")) from error
    machine = _machine(built)
    counted: list[int] = [0]
    known: dict[tuple[int, int], int] = {}

    def count(core: Any, address: int, size: int, _data: Any) -> None:
        if (address, size) not in known:
            narrow = None if built.core.wide else scan_instructions(core.mem_read(address, size))[0]
            known[address, size] = size // 4 if narrow is None else narrow
        counted[0] += known[address, size]

    machine.hook_add(unicorn.UC_HOOK_BLOCK, count)
    machine.mem_write(EXCHANGE_BASE, np.ascontiguousarray(value).tobytes())
    at = EXCHANGE_BASE + EXCHANGE_BYTES // 2
    entry = _enter(machine, built, EXCHANGE_BASE, at)
    try:
        machine.emu_start(entry, RETURN)
    except unicorn.UcError as error:
        raise ProtocolError("the emulated core stopped", where=built.elf, got=error) from error
    raw = bytes(machine.mem_read(at, output.nbytes))
    return Run(np.frombuffer(raw, output.dtype).reshape(output.shape), counted[0])


def _machine(built: Built) -> Any:
    """A core with the program in its memory and its floating-point unit on."""
    import unicorn
    from unicorn import arm64_const, arm_const

    if built.core.wide:
        machine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        machine.ctl_set_cpu_model(arm64_const.UC_CPU_ARM64_A53)
        machine.reg_write(arm64_const.UC_ARM64_REG_CPACR_EL1, 3 << 20)
    else:
        machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        machine.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
        machine.reg_write(arm_const.UC_ARM_REG_FPEXC, 1 << 30)
    machine.mem_map(STACK_BASE, STACK_BYTES)
    machine.mem_map(EXCHANGE_BASE, EXCHANGE_BYTES)
    machine.mem_map(RETURN, PAGE_BYTES)
    for base, content in _segments(built.elf):
        machine.mem_map(base, -(-len(content) // PAGE_BYTES) * PAGE_BYTES)
        machine.mem_write(base, content)
    return machine


def _enter(machine: Any, built: Built, value: int, output: int) -> int:
    """Set the registers of a call ``pp_infer(value, output)``, by the procedure call standards of Arm.

    :returns: where to start
    """
    from unicorn import arm64_const, arm_const

    entry = _symbol(built.elf, ENTRY)
    if built.core.wide:
        names = ("X0", "X1", "LR", "SP")
        registers = [getattr(arm64_const, f"UC_ARM64_REG_{name}") for name in names]
    else:
        registers = [getattr(arm_const, f"UC_ARM_REG_{name}") for name in ("R0", "R1", "LR", "SP")]
    back = RETURN if built.core.wide else RETURN | 1
    for register, content in zip(registers, (value, output, back, STACK_BASE + STACK_BYTES), strict=True):
        machine.reg_write(register, content)
    return entry


def _sections(elf: Path) -> list[tuple[int, int, bytes]]:
    """Address, size and content of every allocated section; of one without content, zeros."""
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        sections = [section for section in ELFFile(stream).iter_sections() if section["sh_flags"] & 2]
        return [
            (s["sh_addr"], s["sh_size"], bytes(s["sh_size"]) if s["sh_type"] == "SHT_NOBITS" else s.data())
            for s in sections
            if s["sh_size"]
        ]


def _segments(elf: Path) -> list[tuple[int, bytes]]:
    """What lies from each base on."""
    found = []
    for base, end in ((CODE_BASE, DATA_BASE), (DATA_BASE, STACK_BASE)):
        content = bytearray()
        for address, _, data in sorted(section for section in _sections(elf) if base <= section[0] < end):
            content += bytes(address - base - len(content)) + data
        if content:
            found.append((base, bytes(content)))
    return found


def _sizes(elf: Path) -> tuple[int, int]:
    """Bytes of code and constants, and of variables."""
    sections = _sections(elf)
    flash = sum(size for address, size, _ in sections if address < DATA_BASE)
    return flash, sum(size for address, size, _ in sections if address >= DATA_BASE)


def _symbol(elf: Path, name: str) -> int:
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        table: Any = ELFFile(stream).get_section_by_name(".symtab")
        return int(table.get_symbol_by_name(name)[0]["st_value"])
