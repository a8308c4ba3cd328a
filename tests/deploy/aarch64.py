"""Programs on an AArch64 core: compiled as a static Linux program, run by QEMU in user mode, instructions counted."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from policyport.core.semantics import Integers
from policyport.deploy.codegen import KERNEL_FOLDER, Optimize, write_sources
from policyport.deploy.host import FLAGS
from policyport.deploy.program import Program
from policyport.deploy.variant import Variant
from policyport.hil import tcg_plugin

QEMU, GCC = "qemu-aarch64", "aarch64-linux-gnu-gcc"

CORES: dict[str, Variant] = {"cortex-a53": "neon", "cortex-a76": "neon_dot"}
"""The cores, and the fastest kernels for each."""

MAIN = """
#include <stdint.h>
#include <stdio.h>
#include "policy.h"

void pp_counter_begin(void);
void pp_counter_now(void);
void __attribute__((noinline)) pp_counter_begin(void) { __asm__ volatile("" ::: "memory"); }
void __attribute__((noinline)) pp_counter_now(void) { __asm__ volatile("" ::: "memory"); }

static pp_input_t input[PP_INPUT_SIZE];
static pp_output_t output[PP_OUTPUT_SIZE];

int main(void)
{
    while (fread(input, sizeof input, 1, stdin) == 1) {
        pp_counter_begin();
        pp_infer(input, output);
        pp_counter_now();
        if (fwrite(output, sizeof output, 1, stdout) != 1) {
            return 1;
        }
    }
    return 0;
}
"""


def compilers() -> list[str]:
    """Those that are here."""
    found = ["gcc"] if shutil.which(GCC) else []
    return [*found, "zig"] if importlib.util.find_spec("ziglang") else found


def need_tools(compiler: str) -> None:
    """Skip the test where something is missing."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not on PATH (qemu-user)")
    if compiler not in compilers():
        missing = f"{GCC} is not on PATH" if compiler == "gcc" else "zig comes with policyport[rig]"
        pytest.skip(missing)


class Machine:
    """A program on an emulated core.

    :param folder: gets its sources
    :param core: of :data:`CORES`
    :param compiler: ``gcc`` or ``zig``; None takes what is here
    """

    def __init__(
        self,
        folder: Path,
        core: str,
        program: Program,
        variant: Variant | None = None,
        compiler: str | None = None,
        optimize: Optimize = "size",
    ) -> None:
        compiler = compiler or (compilers() or ["zig"])[0]
        need_tools(compiler)
        generated = write_sources(program, variant or CORES[core], folder, optimize)
        (folder / "main.c").write_text(MAIN)
        self._program, self._core, self._folder = program, core, folder
        kernels = [_compiled(compiler, core, name) for name in generated.kernels if name.endswith(".c")]
        files = [str(path) for path in (folder / "main.c", folder / "policy.c", *kernels)]
        command = [*_command(compiler, core), *FLAGS, "-static", "-o", str(folder / "program"), *files]
        subprocess.run(command, check=True)
        self.instructions = 0
        """Of the inference that ran last."""

    def infer(self, q_input: Integers) -> Integers:
        """[n, inputs] to [n, outputs]."""
        program, folder = self._program, self._folder
        _write_markers(folder / "program", folder / "markers.txt")
        given = q_input.astype(f"<i{program.input.bits // 8}").tobytes()
        library = _plugin()
        plugin = f"{library},markers={folder / 'markers.txt'},regions={folder / 'regions.txt'}"
        command = [QEMU, "-cpu", self._core, "-plugin", plugin, str(folder / "program")]
        done = subprocess.run(command, input=given, capture_output=True, timeout=120, check=True)
        counts = re.findall(r"^region (\d+)", (folder / "regions.txt").read_text(), re.MULTILINE)
        assert len(counts) == len(q_input)
        self.instructions = int(counts[-1])
        outputs = np.frombuffer(done.stdout, f"<i{program.output.bits // 8}")
        return outputs.reshape(len(q_input), -1).astype(np.int64)


def _command(compiler: str, core: str) -> list[str]:
    if compiler == "gcc":
        return [GCC, f"-mcpu={core}"]
    return [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", f"-mcpu={core.replace('-', '_')}"]


@functools.cache
def _compiled(compiler: str, core: str, name: str) -> Path:
    """The object of a kernel file; many programs call the same."""
    target = _objects() / f"{compiler}-{core}-{Path(name).stem}.o"
    command = [*_command(compiler, core), *FLAGS, "-c", str(KERNEL_FOLDER / name), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@functools.cache
def _objects() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="policyport-aarch64-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def _write_markers(elf: Path, markers: Path) -> None:
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        entries = {s.name: s["st_value"] for s in table.iter_symbols()}
    lines = [
        f"{name} {entries[symbol]:x} 0" for name, symbol in (("begin", "pp_counter_begin"), ("end", "pp_counter_now"))
    ]
    markers.write_text("\n".join(lines) + "\n")


def _plugin() -> Path:
    """The one that profiles, for user mode."""
    return tcg_plugin.build_plugin(QEMU, dataclasses.replace(tcg_plugin.PROFILER, idle=(os.devnull,)))
