"""What a firmware takes of flash and RAM, split exactly by who takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WRITABLE, _ALLOCATED = 0x1, 0x2


def measure(elf: Path, policy_objects: frozenset[str]) -> dict[str, Any]:
    """Flash and RAM of a linked firmware, in bytes.

    Flash is every allocated section that has content, RAM every writable one or one without content.
    The parts add up to the whole: what no symbol of the policy covers is the bridge's.

    The stack is a section, or under Linux, where it is a thread's, the object ``pp_stack``.

    :param policy_objects: names of the symbols that belong to the policy, as its object files define them
    """
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        image = ELFFile(stream)
        sections = [section for section in image.iter_sections() if section["sh_flags"] & _ALLOCATED]
        flash = sum(s["sh_size"] for s in sections if s["sh_type"] != "SHT_NOBITS")
        in_ram = [s for s in sections if _is_ram(s)]
        ram = sum(s["sh_size"] for s in in_ram)
        policy = [symbol for symbol in _symbols(image) if symbol[0] in policy_objects]
        stack = next((s["sh_size"] for s in sections if s.name == ".stack"), 0) or _size_of(image, "pp_stack")
        writable = [_span(s) for s in in_ram]
        arena = sum(size for _, kind, at, size in policy if kind == "STT_OBJECT" and _inside(at, writable))
        code = sum(size for _, kind, _, size in policy if kind == "STT_FUNC")
        constants = sum(size for _, kind, at, size in policy if kind == "STT_OBJECT" and not _inside(at, writable))
    return {
        "flash_bytes": flash,
        "policy_flash_bytes": code + constants,
        "policy_code_bytes": code,
        "policy_constant_bytes": constants,
        "bridge_flash_bytes": flash - code - constants,
        "ram_bytes": ram,
        "policy_ram_bytes": arena,
        "arena_bytes": arena,
        "stack_bytes": stack,
        "bridge_ram_bytes": ram - arena - stack,
    }


def defined_symbols(objects: list[Path]) -> frozenset[str]:
    """Names of the functions and objects that object files define, static ones included."""
    from elftools.elf.elffile import ELFFile

    names = set()
    for path in objects:
        with path.open("rb") as stream:
            names |= {name for name, _, _, _ in _symbols(ELFFile(stream))}
    return frozenset(names)


def symbol_map(elf: Path) -> str:
    """Every function and object of a firmware by address: address, bytes, type, name; the same for any linker."""
    from elftools.elf.elffile import ELFFile

    with elf.open("rb") as stream:
        rows = sorted((at, size, kind, name) for name, kind, at, size in _symbols(ELFFile(stream)))
    lines = [f"{at:08x} {size:6d} {kind.removeprefix('STT_').lower():6s} {name}" for at, size, kind, name in rows]
    return "\n".join(["address   bytes type   name", *lines]) + "\n"


def _symbols(image: Any) -> Iterator[tuple[str, str, int, int]]:
    """(name, type, address, size) of every function and object that is defined, each address once."""
    table = image.get_section_by_name(".symtab")
    seen = set()
    for symbol in table.iter_symbols():
        kind = symbol["st_info"]["type"]
        if kind not in ("STT_FUNC", "STT_OBJECT") or symbol["st_shndx"] == "SHN_UNDEF" or symbol["st_size"] == 0:
            continue
        key = (symbol["st_shndx"], symbol["st_value"])
        if key not in seen:
            seen.add(key)
            yield symbol.name, kind, symbol["st_value"], symbol["st_size"]


def _size_of(image: Any, symbol: str) -> int:
    return next(size for name, _, _, size in _symbols(image) if name == symbol)


def _is_ram(section: Any) -> bool:
    """Writable, or without content: lld does not mark a reserved stack as writable."""
    return bool(section["sh_flags"] & _WRITABLE) or section["sh_type"] == "SHT_NOBITS"


def _span(section: Any) -> tuple[int, int]:
    return section["sh_addr"], section["sh_addr"] + section["sh_size"]


def _inside(address: int, spans: list[tuple[int, int]]) -> bool:
    return any(begin <= address < end for begin, end in spans)
