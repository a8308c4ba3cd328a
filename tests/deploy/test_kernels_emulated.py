"""The kernels on an emulated Cortex-M4 (and M7, M33, M3, M0): the same integers, and how many instructions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policyport.core.semantics import Integers
from policyport.deploy import reference, vectors
from policyport.deploy.codegen import write_sources
from policyport.deploy.layers import FullyConnected
from policyport.deploy.program import Program
from policyport.deploy.random_graph import golden_graphs, random_graph
from policyport.deploy.vectors import Spec

unicorn = pytest.importorskip("unicorn", reason="the emulator comes with policyport[rig]")

FLASH, RAM, SIZE = 0x10000, 0x20000000, 0x100000
INPUT, OUTPUT, STACK, RETURN = RAM + 0x80000, RAM + 0x90000, RAM + 0xF0000, FLASH + SIZE - 16

LINKER_SCRIPT = f"""
ENTRY(pp_infer)
EXTERN(pp_infer pp_load pp_run_layer pp_layer_value pp_layers pp_model_sha256)
SECTIONS {{
    . = {FLASH:#x};
    .text : {{ KEEP(*(.keep)) *(.text*) *(.rodata*) }}
    . = {RAM:#x};
    .data : {{ *(.data*) *(.bss*) *(COMMON) }}
    /DISCARD/ : {{ *(.ARM.exidx*) *(.ARM.attributes) *(.comment) }}
}}
"""

MEMORY = """
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t size);
void *memcpy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++) { ((volatile char *)to)[i] = ((const char *)from)[i]; }
    return to;
}
"""

FLAGS = "-std=c99 -Wall -Wextra -Wconversion -Wdouble-promotion -Werror -ffreestanding -nostdlib"
SECTIONS = "-ffunction-sections -fdata-sections -Wl,--gc-sections"


@dataclass(frozen=True)
class Core:
    """A core to compile for and to emulate."""

    name: str
    gcc: str
    zig: str
    model: str


CORES = {
    "m4": Core("m4", "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16", "cortex_m4+vfp4d16sp", "CORTEX_M4"),
    "m7": Core("m7", "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-sp-d16", "cortex_m7+fp_armv8d16sp", "CORTEX_M7"),
    "m33": Core("m33", "-mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16", "cortex_m33+dsp", "CORTEX_M33"),
    "m3": Core("m3", "-mcpu=cortex-m3", "cortex_m3", "CORTEX_M3"),
    "m0": Core("m0", "-mcpu=cortex-m0", "cortex_m0", "CORTEX_M0"),
}

Compile = Callable[[Core], list[str]]


def gcc(core: Core) -> list[str]:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not on PATH")
    return ["arm-none-eabi-gcc", "-mthumb", *core.gcc.split(), "-lgcc"]


def zig(core: Core) -> list[str]:
    pytest.importorskip("ziglang", reason="the compiler comes with policyport[rig]")
    suffix = "hf" if "-mfloat-abi=hard" in core.gcc else ""
    target = ["-target", f"thumb-freestanding-eabi{suffix}", f"-mcpu={core.zig}"]
    return [sys.executable, "-m", "ziglang", "cc", *target, "-fno-sanitize=all"]


class Emulated:
    """A policy compiled for a core, its functions called one at a time."""

    def __init__(self, folder: Path, core: Core, compiler: Compile, optimize: str = "-O2") -> None:
        (folder / "test.ld").write_text(LINKER_SCRIPT)
        (folder / "test_memory.c").write_text(MEMORY)
        sources = [str(path) for path in sorted(folder.iterdir()) if path.suffix in {".c", ".S"}]
        command, *options = compiler(core)
        elf = folder / "policy.elf"
        options += [optimize, *FLAGS.split(), *SECTIONS.split(), f"-T{folder / 'test.ld'}", f"-I{folder}"]
        libraries = [option for option in options if option == "-lgcc"]
        options = [option for option in options if option != "-lgcc"]
        subprocess.run([command, *options, "-o", str(elf), *sources, *libraries], check=True)
        self._start(elf, core)
        self.instructions = 0
        """Executed by the call that ran last."""

    def _start(self, elf: Path, core: Core) -> None:
        self._machine: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._machine.ctl_set_cpu_model(getattr(unicorn.arm_const, f"UC_CPU_ARM_{core.model}"))
        self._machine.mem_map(FLASH, SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        self._machine.mem_map(RAM, SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        with elf.open("rb") as stream:
            image = ELFFile(stream)
            for segment in image.iter_segments():
                if segment["p_type"] == "PT_LOAD":
                    self._machine.mem_write(segment["p_vaddr"], segment.data())
            table = image.get_section_by_name(".symtab")
            self.symbols = {s.name: (s["st_value"], s["st_size"]) for s in table.iter_symbols() if s.name}
        self._machine.hook_add(unicorn.UC_HOOK_BLOCK, self._count)
        self._lengths: dict[tuple[int, int], int] = {}

    def _count(self, machine: Any, address: int, size: int, _: object) -> None:
        key = (address, size)
        if key not in self._lengths:
            self._lengths[key] = _instructions(bytes(machine.mem_read(address, size)))
        self.instructions += self._lengths[key]

    def call(self, function: str, *arguments: int) -> int:
        """Call a function with up to four integers; returns r0."""
        constants, machine = unicorn.arm_const, self._machine
        saved = {getattr(constants, f"UC_ARM_REG_R{i}"): 0xC0DE0000 + i for i in range(4, 12)}
        registers = {**saved, constants.UC_ARM_REG_SP: STACK, constants.UC_ARM_REG_LR: RETURN | 1}
        registers |= {getattr(constants, f"UC_ARM_REG_R{i}"): v & 0xFFFFFFFF for i, v in enumerate(arguments)}
        for register, value in registers.items():
            machine.reg_write(register, value)
        self.instructions = 0
        machine.emu_start(self.symbols[function][0] | 1, RETURN, count=50_000_000)
        assert machine.reg_read(constants.UC_ARM_REG_PC) & ~1 == RETURN
        assert machine.reg_read(constants.UC_ARM_REG_SP) == STACK
        assert {register: machine.reg_read(register) for register in saved} == saved, "callee-saved registers"
        return int(machine.reg_read(constants.UC_ARM_REG_R0))

    def infer(self, program: Program, q_input: Integers) -> Integers:
        """[inputs] to [outputs]; nothing beside the output may be written."""
        self._machine.mem_write(INPUT, q_input.astype(f"<i{program.input.bits // 8}").tobytes())
        size = program.output.size * program.output.bits // 8
        self._machine.mem_write(OUTPUT - 8, bytes([0xA5]) * (size + 16))
        self.call("pp_infer", INPUT, OUTPUT)
        written = bytes(self._machine.mem_read(OUTPUT - 8, size + 16))
        assert written[:8] == written[-8:] == bytes([0xA5]) * 8, "written outside the output"
        return np.frombuffer(written[8:-8], f"<i{program.output.bits // 8}").astype(np.int64)

    def trace(self, program: Program, q_input: Integers) -> list[Integers]:
        """[inputs] to every layer's output."""
        self._machine.mem_write(INPUT, q_input.astype(f"<i{program.input.bits // 8}").tobytes())
        self.call("pp_load", INPUT)
        outputs = []
        for number, layer in enumerate(program.layers):
            self.call("pp_run_layer", number)
            values = [self.call("pp_layer_value", number, i) for i in range(layer.output.size)]
            outputs.append(np.array(values, np.uint32).astype(np.int32).astype(np.int64))
        return outputs

    def arena_outside(self) -> bytes:
        """RAM behind the arena, which must stay as it was."""
        address, size = self.symbols["pp_arena"]
        return bytes(self._machine.mem_read(address + size, 64))


def _instructions(code: bytes) -> int:
    """Thumb instructions in a block; those skipped by IT count too, as they do on QEMU."""
    at = count = 0
    while at < len(code):
        halfword = int.from_bytes(code[at : at + 2], "little")
        at += 4 if halfword >> 11 in (0x1D, 0x1E, 0x1F) else 2
        count += 1
    return count


def build(
    program: Program, folder: Path, core: str, compiler: Compile = gcc, variant: str = "dsp", optimize: str = "size"
) -> Emulated:
    folder.mkdir(exist_ok=True)
    write_sources(program, variant, folder, optimize)  # type: ignore[arg-type]
    return Emulated(folder, CORES[core], compiler)


def check(emulated: Emulated, program: Program, inputs: Integers) -> None:
    expected = reference.run(program, inputs)
    for i, q in enumerate(inputs):
        np.testing.assert_array_equal(emulated.infer(program, q), expected[-1][i])
    for got, layer in zip(emulated.trace(program, inputs[-1]), expected, strict=True):
        np.testing.assert_array_equal(got, layer[-1])
    assert emulated.arena_outside() == bytes(64), "written outside the arena"


@pytest.mark.parametrize("compiler", [gcc, zig])
@pytest.mark.parametrize("optimize", ["size", "speed"])
def test_golden_vectors_on_the_m4(tmp_path: Path, optimize: str, compiler: Compile) -> None:
    for case in vectors.read_cases(Path(__file__).parents[1] / "vectors" / vectors.FILE_NAME):
        if compiler is zig and not case.name.startswith("policy"):
            continue  # every kernel was assembled already; a zig run takes a second
        if optimize == "speed" and not any(isinstance(layer, FullyConnected) for layer in case.program.layers):
            continue  # the same C as for size
        emulated = build(case.program, tmp_path / case.name, "m4", compiler, optimize=optimize)
        check(emulated, case.program, case.input)


@pytest.mark.parametrize("core", ["m7", "m33", "m3", "m0"])
def test_other_cores(tmp_path: Path, core: str) -> None:
    """M7 and M33 run the assembler, M3 and M0 its C twin; M0 multiplies without a long multiply."""
    for name, variant in (("policy_tanh_s8", "dsp"), ("policy_tanh_s16", "dsp"), ("policy_relu_mixed", "c")):
        rng = np.random.default_rng(11)
        program = vectors.random_program(vectors.GOLDEN[name], rng)
        emulated = build(program, tmp_path / f"{name}-{variant}", core, gcc, variant)
        check(emulated, program, vectors.random_inputs(program, 5, rng))


@pytest.mark.parametrize("core", ["m7", "m33", "m3", "m0"])
@pytest.mark.parametrize("variant", ["c", "dsp"])
def test_a_small_residual_network_on_other_cores(tmp_path: Path, core: str, variant: str) -> None:
    """Strided, depthwise and pointwise convolutions, a sum, a mean, a fully connected layer and a softmax."""
    program = golden_graphs()["residual"]
    emulated = build(program, tmp_path / "residual", core, gcc, variant)
    check(emulated, program, vectors.random_inputs(program, 4, np.random.default_rng(2)))


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Small networks of every mixture of widths and functions."""
    layers = draw(st.integers(1, 3))
    sizes = tuple(draw(st.integers(1, 70 if i == 0 else 20)) for i in range(layers + 1))
    bits = tuple(draw(st.sampled_from([8, 16])) for _ in sizes)
    functions = tuple(draw(st.sampled_from(["", "Relu", "Clip", "Tanh", "Sigmoid"])) for _ in range(layers))
    largest = draw(st.sampled_from([127, 127, 128, 3]))
    return Spec(sizes, bits, functions, largest, draw(st.sampled_from([0.5, 1.0, 8.0])))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs(), seed=st.integers(0, 2**32 - 1), optimize=st.sampled_from(["size", "speed"]))
def test_random_networks_on_the_m4(
    tmp_path_factory: pytest.TempPathFactory, spec: Spec, seed: int, optimize: str
) -> None:
    rng = np.random.default_rng(seed)
    program = vectors.random_program(spec, rng)
    folder = tmp_path_factory.mktemp("random")
    check(build(program, folder, "m4", gcc, optimize=optimize), program, vectors.random_inputs(program, 5, rng))
    shutil.rmtree(folder)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.integers(1, 6), seed=st.integers(0, 2**32 - 1), optimize=st.sampled_from(["size", "speed"]))
def test_random_graphs_on_the_m4(
    tmp_path_factory: pytest.TempPathFactory, layers: int, seed: int, optimize: str
) -> None:
    rng = np.random.default_rng(seed)
    program = random_graph(rng, layers)
    folder = tmp_path_factory.mktemp("random")
    check(build(program, folder, "m4", gcc, optimize=optimize), program, vectors.random_inputs(program, 3, rng))
    shutil.rmtree(folder)


POLICIES = {
    "tanh_s8": Spec((4, 64, 64, 2), (8, 8, 8, 8), ("Tanh", "Tanh", "")),
    "relu_s8": Spec((4, 64, 64, 2), (8, 8, 8, 8), ("Relu", "Relu", "")),
    "tanh_s16": Spec((4, 64, 64, 2), (16, 16, 16, 16), ("Tanh", "Tanh", "")),
    "relu_s16": Spec((4, 64, 64, 2), (16, 16, 16, 16), ("Relu", "Relu", "")),
}
"""The network that Stable-Baselines3 gives CartPole."""


@pytest.mark.parametrize(
    ("name", "optimize", "instructions", "code_bytes"),
    [
        ("tanh_s8", "size", 5_100, 1_210),
        ("relu_s8", "size", 4_950, 600),
        ("tanh_s16", "size", 6_900, 1_536),
        ("relu_s16", "size", 6_050, 1_450),
        ("tanh_s8", "speed", 4_100, 990),
        ("relu_s8", "speed", 3_950, 490),
        ("tanh_s16", "speed", 4_800, 1_070),
    ],
)
def test_cartpole_costs_no_more_than_it_did(
    tmp_path: Path, name: str, optimize: str, instructions: int, code_bytes: int
) -> None:
    """Measured with room of about 1 %; TensorFlow Lite Micro with CMSIS-NN takes 65,491 (tanh) and 17,203 (ReLU)."""
    rng = np.random.default_rng(5)
    program = vectors.random_program(POLICIES[name], rng)
    emulated = build(program, tmp_path / "policy", "m4", gcc, optimize=optimize)
    counts = set()
    for q in vectors.random_inputs(program, 8, rng):
        emulated.infer(program, q)
        counts.add(emulated.instructions)
    assert len(counts) == 1, "the count depends on the data"
    assert counts.pop() <= instructions
    kernels = [size for symbol, (_, size) in emulated.symbols.items() if symbol.startswith("pp_blocks")]
    assert sum(kernels) <= code_bytes


def test_the_harness_sees_a_wrong_kernel(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    program = vectors.random_program(vectors.GOLDEN["tanh_s8"], rng)
    inputs = vectors.random_inputs(program, 4, rng)
    folder = tmp_path / "broken"
    folder.mkdir()
    write_sources(program, "dsp", folder)
    kernel = folder / "pp_blocks.S"
    kernel.write_text(kernel.read_text().replace("asr     r4, r4, #8", "asr     r4, r4, #7"))
    with pytest.raises(AssertionError):
        check(Emulated(folder, CORES["m4"], gcc), program, inputs)
