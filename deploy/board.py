"""Boards: one TOML file each in ``deploy/boards/``, read into one dataclass."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policyport.core.errors import ConfigError

FOLDER = Path(__file__).with_name("boards")


@dataclass(frozen=True)
class Region:
    """A stretch of memory."""

    base: int
    """First address."""

    size: int
    """Bytes."""


@dataclass(frozen=True)
class Uart:
    """The serial line to the host."""

    driver: str
    """Name of its port: ``cmsdk``, ``stm32f4``, ``nrf51``."""

    base: int
    irq: int
    """Number of its receive interrupt."""

    baud: int
    """Bits per second."""


@dataclass(frozen=True)
class WaitStates:
    """What waiting for the flash multiplies the cycles of the cycle model by."""

    low: float
    high: float
    source: str
    """Measurement or reason that the two factors come from."""


@dataclass(frozen=True)
class Runner:
    """A program that puts an image on a board."""

    name: str
    command: tuple[str, ...]
    """Its command line; ``{bin}``, ``{hex}``, ``{elf}`` and ``{base}`` are filled in."""


@dataclass(frozen=True)
class Board:
    """What the build, the flasher and the emulators need to know of a board."""

    name: str
    description: str
    core: str
    """ARM core, with an ``f`` behind it where it has a floating-point unit: ``cortex-m4f``."""

    dsp: bool
    """Whether the core has the DSP extension (SMLAD and its like)."""

    mve: bool
    """Whether it has vectors of 128 bits (Helium)."""

    clock_hz: int
    stack_bytes: int
    verified: str
    """What the port was run on."""

    flash: Region
    ram: Region
    uart: Uart
    gcc_flags: tuple[str, ...]
    zig_target: str
    zig_cpu: str
    qemu_machine: str
    """Empty where QEMU does not model it."""

    qemu_icount_shift: int
    """One instruction takes ``2**shift`` ns of the emulated board's time."""

    wait_states: WaitStates
    runners: tuple[Runner, ...]
    """In order of preference; none on a board that exists emulated alone."""

    @property
    def variant(self) -> Literal["thumb", "dsp", "mve"]:
        """The fastest kernels that the core runs."""
        return "mve" if self.mve else "dsp" if self.dsp else "thumb"


def board_names() -> tuple[str, ...]:
    """The boards there are, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_board(name: str) -> Board:
    """A board by name.

    :raises ConfigError: no such board; the nearest names are given
    """
    path = FOLDER / f"{name}.toml"
    if name not in board_names():
        near = difflib.get_close_matches(name, board_names(), 2)
        raise ConfigError(
            "unknown board",
            where="board",
            expected=", ".join(board_names()),
            got=name,
            cure=f"did you mean {' or '.join(near)}?" if near else None,
        )
    return read_board(path)


def read_board(path: Path) -> Board:
    """A board from its TOML file.

    :raises ConfigError: a key that is missing, of a wrong type, or unknown; the nearest that exists is proposed
    """
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("board file does not parse", where=path, got=error) from error
    runners = table.pop("runners", [])
    get = _Getter(table, path)
    board = Board(
        name=get("name", str),
        description=get("description", str),
        core=get("core", str),
        dsp=get("dsp", bool),
        mve=get("mve", bool),
        clock_hz=get("clock_hz", int),
        stack_bytes=get("stack_bytes", int),
        verified=get("verified", str),
        flash=Region(get("flash.base", int), get("flash.size", int)),
        ram=Region(get("ram.base", int), get("ram.size", int)),
        uart=Uart(get("uart.driver", str), get("uart.base", int), get("uart.irq", int), get("uart.baud", int)),
        gcc_flags=tuple(get("toolchain.gcc", list)),
        zig_target=get("toolchain.zig_target", str),
        zig_cpu=get("toolchain.zig_cpu", str),
        qemu_machine=get("emulator.qemu_machine", str),
        qemu_icount_shift=get("emulator.qemu_icount_shift", int),
        wait_states=WaitStates(
            get("wait_states.low", float), get("wait_states.high", float), get("wait_states.source", str)
        ),
        runners=tuple(_runner(row, path) for row in runners),
    )
    get.refuse_others()
    return board


def _runner(row: Mapping[str, Any], path: Path) -> Runner:
    get = _Getter(row, path, "runners.")
    runner = Runner(get("name", str), tuple(get("command", list)))
    get.refuse_others()
    return runner


class _Getter:
    """Values of a nested table by dotted key, with an error that names the key.

    :param table_name: what comes before the keys in errors
    """

    def __init__(self, table: Mapping[str, Any], path: Path, table_name: str = "") -> None:
        self._table = table
        self._path = path
        self._table_name = table_name
        self._known: list[str] = []

    def __call__(self, key: str, kind: type[Any]) -> Any:
        self._known.append(key)
        value: Any = self._table
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(
                f"board key {self._table_name}{key} is missing or of a wrong type",
                where=self._path,
                expected=kind.__name__,
                got=f"{value!r}",
            )
        return value

    def refuse_others(self) -> None:
        """Refuse keys that nobody asked for: a misspelt one would otherwise do nothing, silently.

        :raises ConfigError: names the first, and the keys that there are
        """
        for key in _dotted_keys(self._table):
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                raise ConfigError(
                    f"unknown board key {self._table_name}{key}",
                    where=self._path,
                    expected=", ".join(self._table_name + known for known in self._known),
                    cure=f"did you mean {self._table_name}{near[0]}?" if near else None,
                )


def _dotted_keys(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in _dotted_keys(value))
        else:
            yield key
