"""Boards: one TOML file each in ``deploy/boards/``, read into one dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.errors import ConfigError
from policyport.core.table_reader import TableReader, read_toml
from policyport.deploy.variant import AARCH64_VARIANTS, Variant

FOLDER = Path(__file__).with_name("boards")


@dataclass(frozen=True)
class Region:
    """A stretch of memory."""

    base: int
    """First address."""

    size: int
    """Bytes."""

    def __str__(self) -> str:
        """Its size as a table shows it."""
        if self.size == 0:
            return "none"
        return f"{self.size >> 30} GB" if self.size >= 1 << 30 else f"{self.size >> 10} kB"


@dataclass(frozen=True)
class Uart:
    """The serial line to the host."""

    driver: str
    """Name of its port: a key of ``firmware.PORTS``; under Linux the kernel drives it."""

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
class UsbId:
    """A USB device by which a board is seen: its own, or that of a probe that is soldered or plugged to it."""

    vid: int
    pid: int
    what: str
    """Name of the device."""

    probe: bool
    """Whether it programs the board: its serial number is then what flash programs call the probe's."""

    serial_prefix: str
    """How its serial number begins on this board, where many boards share the device; empty for any."""

    def matches(self, vid: int, pid: int, serial_number: str) -> bool:
        """Whether a USB device is such a one; serial numbers are compared without case."""
        return (vid, pid) == (self.vid, self.pid) and serial_number.lower().startswith(self.serial_prefix.lower())


@dataclass(frozen=True)
class Runner:
    """A program that puts an image on a board, or a volume that takes one."""

    name: str
    command: tuple[str, ...]
    """Its command line; ``{bin}``, ``{hex}``, ``{elf}``, ``{unit}``, ``{base}``, ``{port}`` and ``{host}`` are filled
    in, and an argument ``{select}`` becomes ``select``. Empty where a UF2 volume takes the image."""

    select: tuple[str, ...]
    """Arguments that select a probe by ``{probe}``; left out where none is named."""

    check: tuple[str, ...]
    """Command line that looks at the board and writes nothing, filled in likewise; empty where there is none."""

    expect: str
    """Regular expression that what ``check`` prints must match, ``{probe}`` standing for the one named, or for any."""

    check_script: tuple[str, ...]
    """Lines, filled in likewise, of the file that ``{script}`` stands for in ``check``."""

    script: tuple[str, ...]
    """The same for ``command``."""

    uf2_boards: tuple[str, ...]
    """Board-IDs in the INFO_UF2.TXT of volumes that take the image; empty where a program flashes."""

    uf2_family: int
    """Family of the processor in UF2 blocks; 0 where a program flashes."""

    after: tuple[str, ...] = ()
    """Command line that starts what was written, filled in likewise; empty where the first command does."""


@dataclass(frozen=True)
class Bootloader:
    """Where a bootloader and the two images that it chooses from lie in a board's flash."""

    driver: str
    """Name of its flash's driver, in ``firmware_bridge/device/boot/flash``: ``stm32f4``."""

    watchdog: str
    """Name of its watchdog's driver, there too: ``stm32``."""

    size: int
    """Bytes for it, from the flash's base."""

    sectors: tuple[int, ...]
    """Bytes of each sector that is erased as one, from the flash's base on."""

    slots: tuple[int, ...]
    """First address of each slot; sectors begin there."""

    slot_bytes: int


@dataclass(frozen=True)
class Board:
    """What the build, the flasher and the emulators need to know of a board."""

    name: str
    description: str
    core: str
    """ARM core, with an ``f`` behind it where it is a Cortex-M with a floating-point unit: ``cortex-m4f``."""

    dsp: bool
    """Whether the core has the DSP extension (SMLAD and its like)."""

    mve: bool
    """Whether it has vectors of 128 bits (Helium)."""

    clock_hz: int
    stack_bytes: int
    """Reserved for what answers the host: the firmware, or under Linux one thread."""

    verified: str
    """What the port was run on."""

    flash: Region
    """Empty under Linux, where a program is a file."""

    boot_bytes: int
    """Of a stage before the vectors that a boot ROM runs where its last four, a checksum, hold; 0 on most chips."""

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
    usb: tuple[UsbId, ...]
    """None on a board that exists emulated alone."""

    runners: tuple[Runner, ...]
    """In order of preference; none on a board that exists emulated alone."""

    bootloader: Bootloader | None = None
    """None where none was written for its flash."""

    linux: bool = False
    """Whether it runs Linux on AArch64: its firmware is a program, which talks over whatever line Linux has."""

    @property
    def variant(self) -> Variant:
        """The fastest kernels that the core runs."""
        if self.linux:
            return AARCH64_VARIANTS.get(self.core, "c")
        return "mve" if self.mve else "dsp" if self.dsp else "thumb"


def board_names() -> tuple[str, ...]:
    """The boards there are, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_board(name: str, where: object = "board") -> Board:
    """A board by name.

    :param where: what names it, for the error
    :raises ConfigError: no such board; the nearest names are given
    """
    path = FOLDER / f"{name}.toml"
    if name not in board_names():
        near = difflib.get_close_matches(name, board_names(), 2)
        raise ConfigError(
            "unknown board",
            where=where,
            expected=", ".join(board_names()),
            got=name,
            cure=f"did you mean {' or '.join(near)}?" if near else None,
        )
    return read_board(path)


def read_board(path: Path) -> Board:
    """A board from its TOML file.

    :raises ConfigError: a key that is missing, of a wrong type, or unknown; the nearest that exists is proposed
    """
    table = read_toml(path, "board file")
    usb, runners = table.pop("usb", []), table.pop("runners", [])
    get = TableReader(table, path, "board")
    common: dict[str, Any] = {
        "name": get("name", str),
        "description": get("description", str),
        "core": get("core", str),
        "clock_hz": get("clock_hz", int),
        "stack_bytes": get("stack_bytes", int),
        "verified": get("verified", str),
        "gcc_flags": tuple(get("toolchain.gcc", list)),
        "zig_target": get("toolchain.zig_target", str),
        "zig_cpu": get("toolchain.zig_cpu", str),
        "usb": tuple(_usb_id(row, path) for row in usb),
        "runners": tuple(_runner(row, path) for row in runners),
    }
    board = _linux_board(get, common) if "linux" in table else _microcontroller(get, common, "bootloader" in table)
    get.refuse_others()
    return board


def _linux_board(get: TableReader, common: Mapping[str, Any]) -> Board:
    return Board(
        **common,
        dsp=False,
        mve=False,
        flash=Region(0, 0),
        boot_bytes=0,
        ram=Region(0, get("linux.ram", int)),
        uart=Uart("linux", 0, 0, get("linux.baud", int)),
        qemu_machine="",
        qemu_icount_shift=0,
        wait_states=WaitStates(1.0, 1.0, "programs run from RAM"),
        linux=True,
    )


def _microcontroller(get: TableReader, common: Mapping[str, Any], has_bootloader: bool) -> Board:
    return Board(
        **common,
        dsp=get("dsp", bool),
        mve=get("mve", bool),
        flash=Region(get("flash.base", int), get("flash.size", int)),
        boot_bytes=get("flash.boot_bytes", int, default=0),
        ram=Region(get("ram.base", int), get("ram.size", int)),
        uart=Uart(get("uart.driver", str), get("uart.base", int), get("uart.irq", int), get("uart.baud", int)),
        qemu_machine=get("emulator.qemu_machine", str),
        qemu_icount_shift=get("emulator.qemu_icount_shift", int),
        wait_states=WaitStates(
            get("wait_states.low", float), get("wait_states.high", float), get("wait_states.source", str)
        ),
        bootloader=_bootloader(get) if has_bootloader else None,
    )


def _bootloader(get: TableReader) -> Bootloader:
    return Bootloader(
        driver=get("bootloader.driver", str),
        watchdog=get("bootloader.watchdog", str),
        size=get("bootloader.size", int),
        sectors=tuple(get("bootloader.sectors", list)),
        slots=tuple(get("bootloader.slots", list)),
        slot_bytes=get("bootloader.slot_bytes", int),
    )


def _usb_id(row: Mapping[str, Any], path: Path) -> UsbId:
    get = TableReader(row, path, "board", "usb.")
    found = UsbId(
        get("vid", int), get("pid", int), get("what", str), get("probe", bool), get("serial_prefix", str, default="")
    )
    get.refuse_others()
    return found


def _runner(row: Mapping[str, Any], path: Path) -> Runner:
    get = TableReader(row, path, "board", "runners.")
    runner = Runner(
        name=get("name", str),
        command=tuple(get("command", list, default=[])),
        select=tuple(get("select", list, default=[])),
        check=tuple(get("check", list, default=[])),
        expect=get("expect", str, default=""),
        check_script=tuple(get("check_script", list, default=[])),
        script=tuple(get("script", list, default=[])),
        uf2_boards=tuple(get("uf2_boards", list, default=[])),
        uf2_family=get("uf2_family", int, default=0),
        after=tuple(get("after", list, default=[])),
    )
    get.refuse_others()
    if bool(runner.command) == bool(runner.uf2_boards):
        raise ConfigError(f"runner {runner.name} needs a command, or UF2 boards, and not both", where=path)
    return runner
