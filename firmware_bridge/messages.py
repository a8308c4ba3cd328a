"""What frames carry: types, payload layouts, and their values as Python sees them."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

import numpy as np
from policyport.core.errors import ProtocolError
from policyport.core.semantics import Integers


class Type(enum.IntEnum):
    """Requests; a reply's type has :data:`REPLY` set."""

    HELLO = 0x01
    ECHO = 0x02
    INFER = 0x03
    RUN_MANY = 0x04
    TRACE = 0x05
    MEMORY = 0x06
    RESET = 0x07
    CODEC_BEGIN = 0x08
    CODEC_ROWS = 0x09
    CODEC_MORE = 0x0A
    BOOT_ENTER = 0x10
    BOOT_CONFIRM = 0x11
    BOOT_STATUS = 0x12
    BOOT_BEGIN = 0x13
    BOOT_WRITE = 0x14
    BOOT_FINISH = 0x15
    BOOT_START = 0x16


REPLY = 0x80
BOOT, FAULT, NAK = 0xF0, 0xF1, 0xFF
"""Frames that nobody asked for."""

STATUS = {
    1: "unknown request",
    2: "payload of a wrong length",
    3: "no such layer or element, or data with a wrong checksum",
    16: "no image of this format, or larger than a slot",
    17: "an image for another board",
    18: "signed by a key that the bootloader does not know",
    19: "the signature does not match: altered, or not signed by that key",
    20: "not newer than the confirmed image",
    21: "signed by a key that the confirmed image's key has replaced",
    22: "linked for the slot that is in use",
    23: "the flash did not take what was written",
    24: "not where the last write ended",
    25: "the image's hash does not match",
    26: "no image has been begun, or not all of it has come",
}
COUNTERS = {1: "dwt", 2: "systick", 3: "emulator", 4: "perf", 5: "clock"}
RESET_CAUSES = {0: "power", 1: "request", 2: "fault", 3: "watchdog"}

TICKS = struct.Struct("<I")
COUNT = struct.Struct("<H")
TRACE_REQUEST = struct.Struct("<HHI")
"""Layer, zero, first element."""

TRACE_REPLY = struct.Struct("<II")
"""Ticks, first element."""

NAME_BYTES = 32
"""Of a board's or compiler's name, at most."""

_HELLO = struct.Struct("<HHIIBBBBII16s32sHBBI")
_LAYER = struct.Struct("<HBB")
_MEMORY = struct.Struct("<III")
_FAULT = struct.Struct("<9I")


@dataclass(frozen=True)
class Identity:
    """Who answers: HELLO's reply."""

    build_id: str
    """Hex of 16 bytes: what the firmware was built from."""

    model_sha256: str
    """Hex: the integer program it runs."""

    protocol: int
    max_payload: int
    """Bytes."""

    input_size: int
    input_bits: int
    output_size: int
    output_bits: int
    layers: tuple[tuple[int, int], ...]
    """(elements, bits) of each layer's output."""

    board: str
    clock_hz: int
    counter: str
    """``dwt`` or ``systick``; under Linux ``emulator`` (instructions), ``perf`` (cycles) or ``clock`` (nanoseconds)."""

    counter_overhead_ticks: int
    reset_cause: str
    compiler: str

    @property
    def tick_hz(self) -> int:
        """Ticks per second: the processor's clock, or what a clock of its own has."""
        return 1_000_000_000 if self.counter == "clock" else self.clock_hz

    @classmethod
    def parse(cls, payload: bytes) -> Identity:
        """Read a HELLO reply.

        :raises ProtocolError: it is shorter than it says
        """
        try:
            fields = _HELLO.unpack_from(payload)
            layer_count, board_bytes, compiler_bytes = fields[12:15]
            texts_end = _HELLO.size + board_bytes + compiler_bytes
            board = payload[_HELLO.size : _HELLO.size + board_bytes].decode()
            compiler = payload[_HELLO.size + board_bytes : texts_end].decode()
            rows = (_LAYER.unpack_from(payload, texts_end + _LAYER.size * layer) for layer in range(layer_count))
            layers = tuple((low | high << 16, bits) for low, bits, high in rows)
        except (struct.error, UnicodeDecodeError) as error:
            raise ProtocolError("the board's HELLO does not read as one", got=payload.hex()) from error
        return cls(
            build_id=fields[10].hex(),
            model_sha256=fields[11].hex(),
            protocol=fields[0],
            max_payload=fields[1],
            input_size=fields[8],
            input_bits=fields[6],
            output_size=fields[9],
            output_bits=fields[7],
            layers=layers,
            board=board,
            clock_hz=fields[2],
            counter=COUNTERS.get(fields[4], "none"),
            counter_overhead_ticks=fields[3],
            reset_cause=RESET_CAUSES.get(fields[5], "unknown"),
            compiler=compiler,
        )

    def pack(self) -> bytes:
        """A HELLO reply that :meth:`parse` reads as this; of names, what 32 bytes hold."""
        board, compiler = (_cut(name) for name in (self.board, self.compiler))
        head = _HELLO.pack(
            *(self.protocol, self.max_payload, self.clock_hz, self.counter_overhead_ticks),
            *(_number(COUNTERS, self.counter), _number(RESET_CAUSES, self.reset_cause)),
            *(self.input_bits, self.output_bits, self.input_size, self.output_size),
            *(bytes.fromhex(self.build_id), bytes.fromhex(self.model_sha256)),
            *(len(self.layers), len(board), len(compiler), 0),
        )
        rows = (_LAYER.pack(size & 0xFFFF, bits, size >> 16) for size, bits in self.layers)
        return head + board + compiler + b"".join(rows)


@dataclass(frozen=True)
class Inference:
    """One inference."""

    output: Integers
    """[outputs]"""

    ticks: int
    """Of the board's counter, its overhead included."""


@dataclass(frozen=True)
class TraceLayer:
    """One layer's output."""

    values: Integers
    """[elements]"""

    ticks: int


@dataclass(frozen=True)
class Memory:
    """What the running firmware knows of its RAM."""

    stack_bytes: int
    """Reserved."""

    stack_used_bytes: int
    """Deepest use so far, from the paint."""

    ram_static_bytes: int

    @classmethod
    def parse(cls, payload: bytes) -> Memory:
        """Read a MEMORY reply.

        :raises ProtocolError: another length
        """
        if len(payload) != _MEMORY.size:
            raise ProtocolError("the board's MEMORY does not read as one", got=payload.hex())
        return cls(*_MEMORY.unpack(payload))

    def pack(self) -> bytes:
        """The reply that :meth:`parse` reads as this."""
        return _MEMORY.pack(self.stack_bytes, self.stack_used_bytes, self.ram_static_bytes)


def _cut(name: str) -> bytes:
    """As much of a name as fits, no character in half."""
    return name.encode()[:NAME_BYTES].decode(errors="ignore").encode()


def _number(names: dict[int, str], name: str) -> int:
    return next(number for number, known in names.items() if known == name)


def describe_fault(payload: bytes) -> str:
    """A FAULT frame in words: the exception, where, and the fault status registers; of a program its signal."""
    if len(payload) != _FAULT.size:
        return f"unreadable fault report {payload.hex()}"
    exception, pc, lr, _, cfsr, hfsr, bfar, mmfar, sp = _FAULT.unpack(payload)
    if exception & _SIGNAL:
        name = _SIGNALS.get(exception & 0xFF, f"signal {exception & 0xFF}")
        why = ": stack overflow" if cfsr >> 20 & 1 else ""
        return f"{name} at pc 0x{pc:08x}, lr 0x{lr:08x}, sp 0x{sp:08x}, address 0x{mmfar:08x}{why}"
    names = {3: "HardFault", 4: "MemManage", 5: "BusFault", 6: "UsageFault"}
    reasons = [text for bit, text in _CFSR_BITS.items() if cfsr >> bit & 1]
    return (
        f"{names.get(exception & 0x1FF, f'exception {exception & 0x1FF}')} at pc 0x{pc:08x}, lr 0x{lr:08x}, "
        f"sp 0x{sp:08x}, CFSR 0x{cfsr:08x}, HFSR 0x{hfsr:08x}, BFAR 0x{bfar:08x}, MMFAR 0x{mmfar:08x}"
        + (f": {', '.join(reasons)}" if reasons else "")
    )


_SIGNAL = 0x1000
"""Set where the first word of a FAULT holds not a Cortex-M's exception, but the number of a Linux signal."""

_SIGNALS = {4: "SIGILL", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
"""As Linux numbers them on ARM."""

_CFSR_BITS = {
    0: "instruction access violation",
    1: "data access violation",
    4: "stacking violation (stack overflow)",
    9: "precise bus error",
    10: "imprecise bus error",
    12: "bus error while stacking",
    16: "undefined instruction",
    17: "invalid state",
    18: "invalid pc load",
    20: "stack overflow",
    24: "unaligned access",
    25: "division by zero",
}
"""Bits of the configurable fault status register (ARMv7-M ARM, B3.2.15)."""


def pack_values(q: Integers, bits: int) -> bytes:
    """Integers as they travel: int8 or int16, little-endian."""
    return np.ascontiguousarray(q, np.int64).astype("<i1" if bits == 8 else "<i2").tobytes()


def unpack_values(data: bytes, bits: int) -> Integers:
    """The reverse of :func:`pack_values`, as int64."""
    return np.frombuffer(data, "<i1" if bits == 8 else "<i2").astype(np.int64)
