"""The generated C on this machine: a shared library, called through ctypes.

It is the same ``policy.c`` that runs on the board; only the compiler differs.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from policyport.core.closing import Closing
from policyport.core.errors import ObservationError, ToolError
from policyport.core.install import either, pip_install, system_install
from policyport.core.semantics import Integers

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
"""What the generated C must compile with, on every compiler."""

KERNEL_FOLDER = Path(__file__).with_name("kernels")
"""Names the C files of an inference beside ``policy.c``; whatever else lies in a folder of sources is firmware."""

VALUES = """#include "policy.h"

void pp_layer_values(uint32_t layer, int32_t *values);

void pp_layer_values(uint32_t layer, int32_t *values)
{
    for (uint32_t i = 0; i < pp_layers[layer].size; i++) {
        values[i] = pp_layer_value(layer, i);
    }
}
"""
"""Every element of a layer in one call."""


class HostLibrary(Closing):
    """A compiled policy.

    :param folder: with ``policy.c``, ``policy.h`` and their kernels, as ``codegen.write_sources`` left it
    :param compiler: command of a host C compiler; None looks for one
    :param flags: further compiler flags, sanitizers say
    :raises ToolError: no compiler, or it refused the code
    """

    def __init__(self, folder: Path, compiler: Sequence[str] | None = None, flags: Sequence[str] = ()) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="policyport-host-")
        path = Path(self._temporary.name) / "policy.so"
        try:
            _compile(folder, path, compiler or find_compiler(), flags)
        except ToolError:
            self._temporary.cleanup()
            raise
        self._library = ctypes.CDLL(str(path))
        self._library.pp_layer_values.argtypes = [ctypes.c_uint32, ctypes.c_void_p]
        self._library.pp_run_layer.argtypes = [ctypes.c_uint32]
        macros = _macros(folder / "policy.h")
        self.input_size = macros["PP_INPUT_SIZE"]
        self.output_size = macros["PP_OUTPUT_SIZE"]
        self.layer_count = macros["PP_LAYER_COUNT"]
        self._input_type = np.dtype(f"int{macros['PP_INPUT_BITS']}")
        self._output_type = np.dtype(f"int{macros['PP_OUTPUT_BITS']}")

    @property
    def model_sha256(self) -> str:
        """Hex hash of the program that was compiled in."""
        return bytes((ctypes.c_uint8 * 32).in_dll(self._library, "pp_model_sha256")).hex()

    def infer(self, q_input: Integers) -> Integers:
        """[n, inputs] integers to [n, outputs], by ``pp_infer``.

        :raises ObservationError: on another shape, or values outside the input type
        """
        inputs = self._checked(q_input)
        outputs = np.empty((len(inputs), self.output_size), self._output_type)
        for row, out in zip(inputs, outputs, strict=True):
            self._library.pp_infer(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(out.ctypes.data))
        return outputs.astype(np.int64)

    def trace(self, q_input: Integers) -> list[Integers]:
        """[inputs] integers to every layer's output, by ``pp_run_layer``; one [outputs] array per layer."""
        row = self._checked(np.asarray(q_input)[None, :])[0]
        self._library.pp_load(ctypes.c_void_p(row.ctypes.data))
        outputs = []
        for layer in range(self.layer_count):
            self._library.pp_run_layer(layer)
            values = np.empty(self._layer_size(layer), np.int32)
            self._library.pp_layer_values(layer, values.ctypes.data)
            outputs.append(values.astype(np.int64))
        return outputs

    def close(self) -> None:
        """Remove the library's file."""
        self._temporary.cleanup()

    def _layer_size(self, layer: int) -> int:
        infos = (_LayerInfo * self.layer_count).in_dll(self._library, "pp_layers")
        return int(infos[layer].size)

    def _checked(self, q_input: Integers) -> Integers:
        q = np.asarray(q_input)
        limits = np.iinfo(self._input_type)
        if q.ndim != 2 or q.shape[1] != self.input_size:
            raise ObservationError("quantized input of a wrong shape", expected=f"(n, {self.input_size})", got=q.shape)
        if q.size and (q.min() < limits.min or q.max() > limits.max):
            raise ObservationError("quantized input out of range", expected=str(self._input_type), got=int(q.max()))
        return np.ascontiguousarray(q, self._input_type)


class _LayerInfo(ctypes.Structure):
    """``pp_layer_info_t`` of policy.h."""

    _fields_ = (("size", ctypes.c_uint32, 24), ("bits", ctypes.c_uint32, 8))


def _macros(header: Path) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"#define (PP_\w+) (\d+)", header.read_text())}


def find_compiler() -> tuple[str, ...]:
    """Command of a C compiler for this machine.

    :raises ToolError: none is installed
    """
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return (found,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    raise ToolError(
        "no C compiler for this machine",
        expected="cc, gcc or clang on PATH, or the ziglang package",
        cure=either(pip_install("[rig]"), *system_install("cc")),
    )


def _compile(folder: Path, library: Path, compiler: Sequence[str], flags: Sequence[str]) -> None:
    known = (*KERNEL_FOLDER.glob("*.c"), Path("pp_codec.c"), Path("pp_codec_tables.c"))
    kernels = sorted(path.name for path in known if (folder / path.name).is_file())
    values = library.with_name("pp_layer_values.c")
    values.write_text(VALUES)
    sources = [*(folder / name for name in ("policy.c", *kernels)), values]
    compile_library(sources, folder, library, compiler, (*FLAGS, *flags))


def compile_library(
    sources: Sequence[Path], include: Path, library: Path, compiler: Sequence[str], flags: Sequence[str]
) -> None:
    """Compile C files into a shared library.

    :param include: folder of their headers
    :raises ToolError: the compiler refused them
    """
    files = map(str, sources)
    command = [*compiler, *flags, "-shared", "-fPIC", f"-I{include}", "-o", str(library), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(
            "the host compiler refused the generated C",
            where=include,
            got=done.stderr.strip()[:2000],
            cure="report this as a bug with the C file attached",
        )
