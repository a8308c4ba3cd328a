"""Builds a TCG plugin for the QEMU that is installed, once: the library is kept in the user's cache folder."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.core.cache import cache_folder
from policyport.core.errors import ToolError
from policyport.core.install import either, system_install
from policyport.deploy.host import find_compiler
from policyport.hil.execution_profile import MARKERS, REGIONS

SOURCE = Path(__file__).with_name("tcg_plugin.c")

INTERFACE = SOURCE.with_name("tcg_interface.h")

FLAGS = (
    *("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"),
    f"-I{INTERFACE.parent}",
)

LINK_FLAGS = {"linux": ("-Wl,--allow-shlib-undefined",), "darwin": ("-Wl,-undefined,dynamic_lookup",)}
"""QEMU itself has the functions that the plugin calls."""

FIRST_INTERFACE = 1
"""What QEMU 7.2 takes; later ones name the least that they take, and the plugin uses nothing that changed since."""

PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Plugin:
    """What to build, and how it is found out that a QEMU takes it."""

    source: Path
    """Without arguments it refuses with its own name, a colon and ``no`` what it lacks."""

    idle: tuple[str, ...]
    """QEMU's arguments with which it loads plugins and runs nothing."""

    cure: str
    """Where a QEMU does not load it."""


PROFILER = Plugin(
    SOURCE, ("-M", "none", "-nodefaults", "-display", "none"), "use the other emulator: --emulator unicorn"
)

USER_MODE_CURE = "install a QEMU whose user mode was built with TCG plugins, as Debian's is"

COUNTER = Plugin(Path(__file__).with_name("tcg_counter.c"), (os.devnull,), USER_MODE_CURE)
"""For programs in QEMU's user mode that read their own count."""


def plugin_arguments(qemu: str, folder: Path) -> list[str]:
    """QEMU's options that load the plugin.

    :param qemu: the program
    :param folder: with ``markers.txt``; ``regions.txt`` is written there
    :raises ToolError: this QEMU takes no plugins, or there is no compiler for this machine
    """
    return _load(build_plugin(qemu), f"markers={folder / MARKERS}", f"regions={folder / REGIONS}")


def counter_arguments(qemu: str, file: Path) -> list[str]:
    """QEMU's options that load the plugin which counts.

    :param qemu: the program, of user mode
    :param file: of 8 bytes, which will hold the count
    :raises ToolError: as :func:`plugin_arguments`
    """
    return _load(build_plugin(qemu, COUNTER), f"count={file}")


def _load(library: Path, *options: str) -> list[str]:
    return ["-plugin", ",".join(part.replace(",", ",,") for part in (str(library), *options))]


def takes_plugins(qemu: str) -> bool:
    """Whether the plugin can be built here and loaded by a QEMU."""
    try:
        build_plugin(qemu)
    except ToolError:
        return False
    return True


@functools.cache
def build_plugin(qemu: str, plugin: Plugin = PROFILER) -> Path:
    """The library for a QEMU, built on first use.

    :raises ToolError: as :func:`plugin_arguments`
    """
    compiler = find_compiler()
    library = _library(compiler, FIRST_INTERFACE, plugin)
    answer = _probe(qemu, library, plugin)
    least = re.search(r"minimum version of (\d+)", answer)
    if least is not None:
        library = _library(compiler, int(least[1]), plugin)
        answer = _probe(qemu, library, plugin)
    if f"{plugin.source.stem}: no " not in answer:
        raise ToolError(
            "this QEMU does not load the plugin that counts",
            where=qemu,
            expected=plugin.source.name,
            got=answer.strip(),
            cure=plugin.cure,
        )
    return library


def _library(compiler: Sequence[str], interface: int, plugin: Plugin = PROFILER) -> Path:
    """A library that tells QEMU a version of the interface, from the cache or built into it."""
    command = [*compiler, *FLAGS, *LINK_FLAGS.get(sys.platform, ()), f"-DPLUGIN_INTERFACE={interface}"]
    text = plugin.source.read_bytes() + INTERFACE.read_bytes()
    digest = hashlib.sha256(" ".join(command).encode() + text).hexdigest()[:16]
    library = cache_folder() / f"{plugin.source.stem}-{digest}.so"
    if library.is_file():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        built = Path(scratch) / library.name
        done = subprocess.run(
            [*command, str(plugin.source), "-o", str(built)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ToolError("the plugin that counts does not compile", where=" ".join(command), got=done.stderr[:2000])
        built.rename(library)
    return library


def _probe(qemu: str, library: Path, plugin: Plugin = PROFILER) -> str:
    """What a QEMU says to the plugin without arguments: the plugin's own refusal where it takes it."""
    program = shutil.which(qemu)
    if program is None:
        raise ToolError(f"{qemu} is not installed", cure=either(*system_install(Path(qemu).name)))
    command = [program, "-plugin", str(library).replace(",", ",,"), *plugin.idle]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False).stderr
