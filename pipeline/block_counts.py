"""What a Linux program executes in QEMU's user mode while it measures: how often each of its blocks, exactly."""

from __future__ import annotations

import bisect
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import ProtocolError, ToolError
from policyport.core.install import either, system_install
from policyport.hil.tcg_plugin import USER_MODE_CURE, Plugin, build_plugin

QEMU = "qemu-aarch64"

COUNTER = Plugin(Path(__file__).with_name("block_counts.c"), (os.devnull,), USER_MODE_CURE)

INTERPRETER = "python3"
"""What the name of the program begins with that calls what is measured."""


@dataclass(frozen=True)
class Block:
    """Instructions that are executed one behind the other."""

    address: int
    instructions: int
    executions: int


@dataclass(frozen=True)
class Mapped:
    """A file in a program's memory."""

    start: int
    end: int
    """First address behind it."""

    offset: int
    """Of the start, in the file."""

    file: str

    @property
    def is_library(self) -> bool:
        """Whether it is called by the Python interpreter, and is not that itself."""
        return not self.file.rpartition("/")[2].startswith(INTERPRETER)


Region = tuple[Block, ...]
"""What was executed between two marks."""


def qemu_version() -> str:
    """Of the QEMU that is installed, as ``qemu 7.2.22``.

    :raises ToolError: there is none
    """
    program = shutil.which(QEMU)
    if program is None:
        raise ToolError(f"{QEMU} is not installed", cure=either(*system_install(QEMU)))
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return f"qemu {said.split('version ')[1].split()[0]}"


def run_counted(
    command: Sequence[str], core: str, root: Path, environment: Mapping[str, str], timeout_s: float
) -> list[Region]:
    """Run a program for AArch64 and count in its regions.

    :param command: program and arguments; the program marks its regions as ``block_counts.c`` says
    :param core: as QEMU's ``-cpu`` takes it
    :param root: where the program's absolute paths are looked for first
    :param environment: all of its environment
    :raises ToolError: no QEMU, one without plugins, or the program failed
    """
    version = qemu_version()
    library = build_plugin(QEMU, COUNTER)
    with tempfile.TemporaryDirectory(prefix="policyport-counts-") as folder:
        counts = Path(folder) / "counts.txt"
        plugin = ",".join(part.replace(",", ",,") for part in (str(library), f"counts={counts}"))
        line = [QEMU, "-cpu", core, "-L", str(root), "-plugin", plugin, *command]
        try:
            done = subprocess.run(
                line, capture_output=True, text=True, timeout=timeout_s, check=False, env={**environment}
            )
        except subprocess.TimeoutExpired as error:
            raise ToolError("an emulated program took too long", where=" ".join(line), expected=timeout_s) from error
        if done.returncode:
            raise ToolError(
                "an emulated program failed", where=f"{version}, {' '.join(line)}", got=done.stderr.strip()[-2000:]
            )
        return read_regions(counts.read_text())


def read_regions(text: str) -> list[Region]:
    """The regions of the plugin's file.

    :raises ProtocolError: it is torn
    """
    regions: list[Region] = []
    blocks: list[Block] | None = None
    for line in text.splitlines():
        if line == "region" and blocks is None:
            blocks = []
        elif line == "end" and blocks is not None:
            regions.append(tuple(blocks))
            blocks = None
        elif blocks is not None and len(fields := line.split()) == 3:
            blocks.append(Block(int(fields[0], 16), int(fields[1]), int(fields[2])))
        else:
            raise ProtocolError("counts that do not read as such", expected="region, blocks, end", got=line)
    if blocks is not None:
        raise ProtocolError("counts that end in the middle of a region", got=f"{len(blocks)} blocks without an end")
    return regions


def read_maps(text: str) -> list[Mapped]:
    """The files of ``/proc/self/maps``."""
    found = []
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            found.append(Mapped(start, end, int(fields[2], 16), fields[5]))
    return found


def library_instructions(region: Region, maps: Sequence[Mapped]) -> int:
    """Instructions executed outside of the Python interpreter itself: in the libraries that it calls."""
    return sum(block.instructions * block.executions for block, _ in _in_libraries(region, maps))


def count_words(region: Region, maps: Sequence[Mapped], wanted: Iterable[tuple[int, int]]) -> int:
    """How many executed instructions of libraries are of given encodings.

    :param wanted: mask and value of the 32-bit word, each
    """
    pairs = tuple(wanted)
    total = 0
    for block, place in _in_libraries(region, maps):
        at = block.address - place.start + place.offset
        code = _content(place.file)[at : at + 4 * block.instructions]
        words = (int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4))
        total += block.executions * sum(any(word & mask == value for mask, value in pairs) for word in words)
    return total


def _in_libraries(region: Region, maps: Sequence[Mapped]) -> Iterator[tuple[Block, Mapped]]:
    """Each block of a library, and where that lies."""
    starts = [place.start for place in maps]  # in the order of addresses, as Linux lists them
    for block in region:
        place = maps[bisect.bisect_right(starts, block.address) - 1]
        if not place.start <= block.address < place.end:
            raise ProtocolError("code outside of every file", got=hex(block.address))
        if place.is_library:
            yield block, place


@functools.cache
def _content(file: str) -> bytes:
    return Path(file).read_bytes()
