"""Which instructions a measured region executed, how often, and from where each was reached.

An emulator that is asked for it (``--profile FOLDER``) reads ``markers.txt`` and appends to ``regions.txt`` whenever
the firmware has measured something: how many instructions ran between the return of ``pp_counter_begin`` and the entry
of ``pp_counter_now``, and every *jump*: a step to an instruction that does not lie right behind the one before.
How often each instruction ran follows from these, because what comes in must go out.
"""

from __future__ import annotations

import bisect
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from policyport.core.errors import ProtocolError, ToolError

MARKERS, REGIONS = "markers.txt", "regions.txt"

IGNORED = ("pp_systick_handler", "pp_counter_wrapped")
"""Functions that an interrupt runs in the middle of a measurement, and that the firmware's count leaves out."""

TOP = 1 << 32
"""The first number that is no address."""

Jump = tuple[int, int]
"""(address of the instruction before, address of the one after)"""


@dataclass(frozen=True)
class Markers:
    """Where measured regions begin and end in a firmware."""

    begin: int
    """Entry of ``pp_counter_begin``; a region begins where it returns to."""

    end: int
    """Entry of ``pp_counter_now``; a region ends there."""

    ignored: tuple[range, ...]
    """Addresses whose instructions count as not executed."""

    @classmethod
    def of_firmware(cls, elf: Path) -> Markers:
        """Find them by their symbols.

        :raises ToolError: the firmware has no counter
        """
        functions = _functions(elf)
        for name in ("pp_counter_begin", "pp_counter_now"):
            if name not in functions:
                raise ToolError(
                    f"no function {name} in the firmware", where=elf, cure="build it with policyport deploy"
                )
        begin, end = functions["pp_counter_begin"].start, functions["pp_counter_now"].start
        return cls(begin, end, tuple(functions[name] for name in IGNORED if name in functions))

    def write(self, folder: Path) -> None:
        """Write ``markers.txt``."""
        rows = [("begin", self.begin, self.begin), ("end", self.end, self.end)]
        rows += [("ignore", span.start, span.stop) for span in self.ignored]
        (folder / MARKERS).write_text("".join(f"{name} {low:x} {high:x}\n" for name, low, high in rows))

    @classmethod
    def read(cls, folder: Path) -> Markers:
        """Read what :meth:`write` wrote."""
        rows = [line.split() for line in (folder / MARKERS).read_text().splitlines()]
        spans = {name: int(low, 16) for name, low, _ in rows}
        ignored = tuple(range(int(low, 16), int(high, 16)) for name, low, high in rows if name == "ignore")
        return cls(spans["begin"], spans["end"], ignored)


@dataclass(frozen=True)
class Region:
    """One measured stretch of execution."""

    executed: int
    """Instructions, counted one by one, those that an IT block skips included."""

    first: int
    """Address of the first of them."""

    last: int
    """Address of the last."""

    jumps: Mapping[Jump, int]
    """How often execution went from one address to another that is not the next."""

    def without_steps(self, code: Code) -> Region:
        """The same without jumps from an instruction to the one right behind it: QEMU calls an instruction of two bytes
        that ends two bytes before a page's end four bytes long, because it has looked at the next one by then.
        """
        jumps = {jump: count for jump, count in self.jumps.items() if jump[1] != jump[0] + code.size(jump[0])}
        return replace(self, jumps=jumps)

    def write(self, folder: Path) -> None:
        """Append it to ``regions.txt``."""
        lines = [f"region {self.executed} {self.first:x} {self.last:x}"]
        lines += [f"{source:x} {target:x} {count}" for (source, target), count in self.jumps.items()]
        with (folder / REGIONS).open("a") as stream:
            stream.write("\n".join([*lines, "end\n"]))


def read_regions(folder: Path) -> list[Region]:
    """The regions of ``regions.txt``, in the order in which they were measured."""
    regions: list[Region] = []
    jumps: dict[Jump, int] = {}
    head = (0, 0, 0)
    for line in (folder / REGIONS).read_text().splitlines():
        words = line.split()
        if words[0] == "region":
            jumps, head = {}, (int(words[1]), int(words[2], 16), int(words[3], 16))
        elif words[0] == "end":
            regions.append(Region(*head, jumps))
        else:
            jumps[int(words[0], 16), int(words[1], 16)] = int(words[2])
    return regions


class Code:
    """The bytes of a firmware by address, and its functions.

    :param sections: address to content
    :param functions: name to addresses
    """

    def __init__(self, sections: Mapping[int, bytes], functions: Mapping[str, range]) -> None:
        self._sections = sorted(sections.items())
        self._starts = [address for address, _ in self._sections]
        self._functions = sorted((span.start, span.stop, name) for name, span in functions.items())

    @classmethod
    def of_firmware(cls, elf: Path) -> Code:
        """The code of an ELF file, where it is executed: code that is copied to RAM at its address there."""
        from elftools.elf.elffile import ELFFile

        with elf.open("rb") as stream:
            sections = {s["sh_addr"]: s.data() for s in ELFFile(stream).iter_sections() if _has_content(s)}
        return cls(sections, _functions(elf))

    def size(self, address: int) -> int:
        """Bytes of the instruction at an address: 4 where the first halfword has 0b11101 or more on top
        (Arm DDI 0403, A5.1), else 2."""
        (halfword,) = struct.unpack("<H", self.read(address, 2))
        return 4 if halfword >> 11 >= 0b11101 else 2

    def read(self, address: int, size: int) -> bytes:
        """Content of an address range.

        :raises ProtocolError: nothing lies there
        """
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0:
            start, content = self._sections[at]
            found = content[address - start : address - start + size]
            if len(found) == size:
                return found
        raise ProtocolError("the profile names an address that is not in the firmware", where=f"0x{address:08x}")

    def function(self, address: int) -> str:
        """Name of the function that an address lies in; empty for none."""
        at = bisect.bisect_right(self._functions, (address, 1 << 32, "")) - 1
        if at < 0 or not self._functions[at][0] <= address < self._functions[at][1]:
            return ""
        return self._functions[at][2]


def instruction_counts(region: Region, code: Code) -> dict[int, int]:
    """How often each instruction of a region was executed, by address, ascending.

    At an address come in: the region itself if it begins there, jumps to it, and what went on from the
    instruction before; out go jumps from it, and the region's end.

    :raises ProtocolError: what comes in is not what goes out, or the sum is not what was counted
    """
    incoming, outgoing = Counter({region.first: 1}), Counter({region.last: 1})
    for (source, target), count in region.jumps.items():
        incoming[target] += count
        outgoing[source] += count
    counts: dict[int, int] = {}
    flow = address = 0
    for target in [*sorted(incoming), TOP]:
        while flow and address < target:
            counts[address] = flow
            flow -= outgoing[address]
            address += code.size(address)
            if flow < 0:
                _torn(address)
        if flow and address != target:
            _torn(address)
        flow, address = flow + incoming[target], target
    if sum(counts.values()) != region.executed:
        raise ProtocolError(
            "the profile of a region does not add up", expected=region.executed, got=sum(counts.values())
        )
    return counts


def _torn(address: int) -> NoReturn:
    raise ProtocolError("the jumps of a region contradict each other", where=f"0x{address:08x}")


def sum_by_function(values: Mapping[int, int], code: Code) -> dict[str, int]:
    """Sums per function of values by address (counts, cycles), the largest first."""
    totals: Counter[str] = Counter()
    for address, value in values.items():
        totals[code.function(address)] += value
    return dict(totals.most_common())


def _functions(elf: Path) -> dict[str, range]:
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        table: Any = ELFFile(stream).get_section_by_name(".symtab")
        found = [(s.name, s["st_value"] & ~1, s["st_size"]) for s in table.iter_symbols() if _is_function(s)]
    return {name: range(address, address + size) for name, address, size in found}


def _is_function(symbol: Any) -> bool:
    return bool(symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF")


def _has_content(section: Any) -> bool:
    return bool(section["sh_flags"] & 0x2) and section["sh_type"] == "SHT_PROGBITS"
