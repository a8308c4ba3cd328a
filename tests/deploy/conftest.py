"""Kernels one at a time: compiled for a core, called on an emulated one, their instructions counted."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policyport.core.semantics import Integers
from policyport.deploy.codegen import KERNEL_FOLDER, Optimize, write_sources
from policyport.deploy.program import Program
from policyport.deploy.variant import Variant

sys.path.append(str(Path(__file__).parent))  # for aarch64

FLASH, RAM, SIZE = 0x10000, 0x20000000, 0x100000
STACK, RETURN = RAM + SIZE - 0x1000, FLASH + SIZE - 16

WARNINGS = "-Wall -Wextra -Wconversion -Wdouble-promotion -Werror"
FLAGS = f"-std=c99 -O2 -mthumb {WARNINGS} -ffreestanding -nostdlib -ffunction-sections"

CORES = {
    "m4": ("-mcpu=cortex-m4", "CORTEX_M4"),
    "m7": ("-mcpu=cortex-m7", "CORTEX_M7"),
    "m33": ("-mcpu=cortex-m33", "CORTEX_M33"),
    "m3": ("-mcpu=cortex-m3", "CORTEX_M3"),
    "m0": ("-mcpu=cortex-m0", "CORTEX_M0"),
}
"""Compiler flags and Unicorn's model. M3 and M0 have no DSP extension: they run the twins in C."""

ARENA = RAM + SIZE // 2
"""Where variables lie; what a test places itself lies below."""

LINKER_SCRIPT = f"""SECTIONS {{
    . = {FLASH:#x}; .text : {{ *(.text* .rodata*) }}
    . = {ARENA:#x}; .bss : {{ *(.bss* COMMON) }}
    /DISCARD/ : {{ *(.ARM.*) *(.comment) }}
}}"""

MEMORY = """
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++) { ((volatile char *)to)[i] = ((const char *)from)[i]; }
    return to;
}
void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++) { ((volatile char *)to)[i] = (char)value; }
    return to;
}
"""


class Kernels:
    """Kernel files on an emulated core.

    RAM is handed out from its start; what was not handed out keeps its pattern, which :meth:`get` checks around
    what it reads.
    """

    def __init__(
        self, folder: Path, core: str, sources: Sequence[Path], includes: Path = KERNEL_FOLDER, entry: str = "0"
    ) -> None:
        unicorn = pytest.importorskip("unicorn", reason="the emulator comes with policyport[rig]")
        from elftools.elf.elffile import ELFFile

        if shutil.which("arm-none-eabi-gcc") is None:
            pytest.skip("arm-none-eabi-gcc is not on PATH")
        (folder / "memory.c").write_text(MEMORY)
        (folder / "test.ld").write_text(LINKER_SCRIPT)
        options = [*CORES[core][0].split(), *FLAGS.split(), f"-I{includes}", f"-T{folder / 'test.ld'}"]
        options += [f"-Wl,-e,{entry}", *(["-Wl,--gc-sections"] if entry != "0" else [])]
        elf = folder / "kernels.elf"
        files = [*map(str, sources), str(folder / "memory.c")]
        subprocess.run(["arm-none-eabi-gcc", *options, "-o", str(elf), *files, "-lgcc"], check=True)
        self._constants = unicorn.arm_const
        self._machine: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._machine.ctl_set_cpu_model(getattr(unicorn.arm_const, f"UC_CPU_ARM_{CORES[core][1]}"))
        self._machine.mem_map(FLASH, SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self._machine.mem_map(RAM, SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        with elf.open("rb") as stream:
            image = ELFFile(stream)
            for segment in image.iter_segments():
                if segment["p_type"] == "PT_LOAD":
                    self._machine.mem_write(segment["p_vaddr"], segment.data())
            table = image.get_section_by_name(".symtab")
            self.symbols = {s.name: (s["st_value"], s["st_size"]) for s in table.iter_symbols() if s.name}
            functions = [s["st_size"] for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"]
            self.function_bytes = sum(functions)
            """Code, without constants."""
        self._machine.hook_add(unicorn.UC_HOOK_BLOCK, self._count)
        self._lengths: dict[tuple[int, int], int] = {}
        self.instructions = 0
        """Executed by the call that ran last."""
        self._free = RAM
        self.clear()

    def clear(self) -> None:
        """Take all RAM back."""
        self._machine.mem_write(RAM, b"\xa5" * (self._free - RAM + 64))
        self._free = RAM

    def put(self, data: bytes | int) -> int:
        """Place bytes, or as many bytes of the pattern, at an address aligned to 8, between gaps of 16 bytes."""
        size = data if isinstance(data, int) else len(data)
        address = self._free + 16
        self._machine.mem_write(address - 16, b"\xa5" * (size + 40))
        if isinstance(data, bytes):
            self._machine.mem_write(address, data)
        self._free = address + -(-size // 8) * 8
        assert self._free < ARENA
        return address

    def get(self, address: int, size: int) -> bytes:
        """Bytes that a kernel wrote; nothing beside them may have changed."""
        around = bytes(self._machine.mem_read(address - 8, size + 16))
        assert around[:8] == around[-8:] == b"\xa5" * 8, "written outside the output"
        return around[8:-8]

    def call(self, function: str, *arguments: int) -> int:
        """Call a function with integers; returns r0. Callee-saved registers must come back as they were."""
        constants, machine = self._constants, self._machine
        register = [getattr(constants, f"UC_ARM_REG_R{i}") for i in range(13)]
        saved = {register[i]: 0xC0DE0000 + i for i in range(4, 12)}
        values = {**saved, constants.UC_ARM_REG_SP: STACK, constants.UC_ARM_REG_LR: RETURN | 1}
        values |= {register[i]: value & 0xFFFFFFFF for i, value in enumerate(arguments[:4])}
        machine.mem_write(STACK, b"".join(value.to_bytes(4, "little") for value in arguments[4:]))
        for number, value in values.items():
            machine.reg_write(number, value)
        self.instructions = 0
        machine.emu_start(self.symbols[function][0] | 1, RETURN, count=100_000_000)
        assert machine.reg_read(constants.UC_ARM_REG_PC) & ~1 == RETURN
        assert machine.reg_read(constants.UC_ARM_REG_SP) == STACK
        assert {number: machine.reg_read(number) for number in saved} == saved, "callee-saved registers"
        return int(machine.reg_read(register[0]))

    def code_bytes(self, *names: str) -> int:
        """Bytes of functions; one that the compiler inlined has none of its own."""
        return sum(self.symbols[name][1] for name in names if name in self.symbols)

    def _count(self, machine: Any, address: int, size: int, _: object) -> None:
        key = (address, size)
        if key not in self._lengths:
            self._lengths[key] = _instructions(bytes(machine.mem_read(address, size)))
        self.instructions += self._lengths[key]


def _instructions(code: bytes) -> int:
    """Thumb instructions in a block; those skipped by IT count too, as they do on QEMU."""
    at = count = 0
    while at < len(code):
        at += 4 if code[at + 1] >> 3 in (0x1D, 0x1E, 0x1F) else 2
        count += 1
    return count


class Policy(Kernels):
    """A whole program on an emulated core.

    :param folder: gets its sources
    """

    def __init__(
        self, folder: Path, core: str, program: Program, optimize: Optimize = "size", variant: Variant = "dsp"
    ) -> None:
        self.generated = write_sources(program, variant, folder, optimize)
        sources = sorted(path for path in folder.iterdir() if path.suffix in {".c", ".S"})
        super().__init__(folder, core, sources, folder, "pp_infer")
        self._program = program

    def infer(self, q_input: Integers) -> Integers:
        """[inputs] to [outputs]."""
        self.clear()
        program = self._program
        source = self.put(q_input.astype(f"<i{program.input.bits // 8}").tobytes())
        size = program.output.size * program.output.bits // 8
        target = self.put(size)
        self.call("pp_infer", source, target)
        return np.frombuffer(self.get(target, size), f"<i{program.output.bits // 8}").astype(np.int64)


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Policy]:
    """``policies(core, program, optimize, variant)``: a program on an emulated core; ``dsp`` if none is said."""
    return lambda *arguments: Policy(tmp_path_factory.mktemp("policy"), *arguments)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Kernels]:
    """``kernels(core, *names)``: kernel files compiled for a core, on an emulated one."""

    @functools.cache
    def build(core: str, *names: str) -> Kernels:
        return Kernels(tmp_path_factory.mktemp("kernels"), core, [KERNEL_FOLDER / name for name in names])

    return build
