"""A deploy's sources in the builds of others: CMake here and for a Cortex-M, Zephyr's functions, PlatformIO."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from policyport.deploy import reference
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.embed import write_manifests
from policyport.deploy.firmware import PORTS, add_device_sources
from policyport.deploy.program import Program
from policyport.deploy.vectors import Spec, random_program

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"
BOARD = load_board("mps2-an386")

ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(stand_in C ASM)
function(zephyr_library_named name)
  add_library(${name} STATIC)
  set(ZEPHYR_LIBRARY ${name} PARENT_SCOPE)
endfunction()
macro(zephyr_library_sources)
  target_sources(${ZEPHYR_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_sources_ifdef option)
  if(${option})
    zephyr_library_sources(${ARGN})
  endif()
endmacro()
macro(zephyr_include_directories)
  target_include_directories(${ZEPHYR_LIBRARY} PUBLIC ${ARGN})
endmacro()
set(CONFIG_POLICYPORT y)
set(CONFIG_POLICYPORT_BRIDGE y)
add_subdirectory(@SRC@ policyport)
"""
"""What Zephyr's build gives a module, done by CMake's own commands."""


@pytest.fixture(scope="module")
def program() -> Program:
    return random_program(Spec((4, 24, 2), (8, 8, 8), ("Relu", "")), np.random.default_rng(8))


@pytest.fixture(scope="module")
def src(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "src"
    folder.mkdir()
    write_sources(program, "dsp", folder)
    add_device_sources(folder, BOARD)
    (folder / "pp_build.h").write_text('#define PP_BOARD_NAME "own"\n#define PP_CLOCK_HZ 1u\n#define PP_BUILD_ID {0}\n'
                                       '#define PP_COMPILER "any"\n')  # fmt: skip
    write_manifests(folder, program.name, PORTS[BOARD.uart.driver])
    return folder


def cmake(source: Path, build: Path, *options: str, target: str = "all") -> None:
    for tool in ("cmake", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH")
    for line in (
        ["cmake", "-G", "Unix Makefiles", "-S", str(source), "-B", str(build), *options],
        ["cmake", "--build", str(build), "--target", target],
    ):
        done = subprocess.run(line, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_computes_what_the_reference_does(src: Path, program: Program, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for this machine")
    cmake(EXAMPLES / "cmake", tmp_path, f"-DPOLICY={src}")
    q_input = np.array([-128, 127, 3, -40])
    done = subprocess.run([tmp_path / "example"], input=" ".join(map(str, q_input)), capture_output=True, text=True)
    assert [int(word) for word in done.stdout.split()] == reference.run(program, q_input[None])[-1][0].tolist()
    short = subprocess.run([tmp_path / "example"], input="1 2", capture_output=True, text=True)
    assert short.returncode == 1 and "expected 4 integers, got 2" in short.stderr


@pytest.mark.parametrize("target", ["policyport", "policyport_bridge"])
def test_the_library_builds_for_a_cortex_m(src: Path, tmp_path: Path, target: str) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not on PATH")
    flags = "-mcpu=cortex-m4 -mthumb -ffreestanding -Wall -Wextra -Wconversion -Werror"
    options = ["-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]
    options += [f"-DCMAKE_{key}_COMPILER=arm-none-eabi-gcc" for key in ("C", "ASM")]
    cmake(src, tmp_path, *options, f"-DCMAKE_C_FLAGS={flags}", "-DCMAKE_ASM_FLAGS=-mcpu=cortex-m4", target=target)
    assert (tmp_path / f"lib{target}.a").stat().st_size > 1000


def test_a_zephyr_module_takes_the_same_sources(src: Path, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for this machine")
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR.replace("@SRC@", str(src)))
    cmake(tmp_path, tmp_path / "build")
    assert (tmp_path / "build/policyport/libpolicyport.a").is_file()
    module = (src / "zephyr/module.yml").read_text()
    assert "kconfig: Kconfig" in module and "config POLICYPORT\n" in (src / "Kconfig").read_text()
    assert "CONFIG_POLICYPORT=y" in (EXAMPLES / "zephyr/prj.conf").read_text()


def test_platformio_builds_the_network_alone(src: Path) -> None:
    manifest = json.loads((src / "library.json").read_text())
    taken = {entry[2:-1] for entry in manifest["build"]["srcFilter"] if entry.startswith("+")}
    assert "policy.c" in taken and taken <= {path.name for path in src.iterdir()}
    assert not taken & {"main.c", "pp_startup.c", "pp_bridge.c", PORTS[BOARD.uart.driver]}
    assert all(character.isalnum() or character == "-" for character in manifest["name"])


@pytest.mark.parametrize("example", ["platformio/src/main.c", "zephyr/src/main.c"])
def test_the_examples_are_c(src: Path, tmp_path: Path, example: str) -> None:
    """Their tools bring headers that are not here; those that they name are stood in for."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for this machine")
    (tmp_path / "zephyr").mkdir()
    (tmp_path / "zephyr/kernel.h").write_text("int printk(const char *, ...);\nint k_msleep(int);\n")
    line = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{src}", f"-I{tmp_path}"]
    done = subprocess.run([*line, str(EXAMPLES / example)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
