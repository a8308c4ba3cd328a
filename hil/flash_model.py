"""Register model of a flash controller: erase by sectors, programming that only clears bits, power that can be cut.

What is modelled is what RM0090 says of the STM32F405 (sections 3.6 and 3.9): the keys, the lock, the sequence that a
store, an erase must follow, and the errors where it does not. Time is not modelled: nothing is ever busy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

WORD = 4
ERASED = 0xFF


class PowerSupply:
    """Counts the operations that change the flash, and goes off in the midst of one.

    :param cut_at: number of the operation, from 1, that is cut short; 0 for none
    :param seed: of what a cut operation leaves
    """

    def __init__(self, cut_at: int = 0, seed: int = 0) -> None:
        self.operations = 0
        self.cut_at = cut_at
        self.is_off = False
        self.random = random.Random(seed)

    def fails(self) -> bool:
        """Whether the operation that begins now is the one that is cut short."""
        self.operations += 1
        self.is_off = self.operations == self.cut_at
        return self.is_off

    def restore(self, cut_at: int = 0) -> None:
        """Switch it on again, counting anew."""
        self.operations, self.cut_at, self.is_off = 0, cut_at, False


class FlashController(Protocol):
    """What a core needs of the controller of its flash."""

    content: Any
    """All of the flash, from its base; mutable bytes."""

    registers: range
    """Addresses of its registers."""

    def read(self, offset: int) -> int:
        """The 32 bits at ``offset`` of the registers."""
        ...

    def write(self, offset: int, value: int) -> None:
        """Store ``value`` at ``offset`` of the registers."""

    def store(self, offset: int, size: int, value: int) -> None:
        """The processor stores ``value`` of ``size`` bytes at ``offset`` of the flash."""

    def reset(self) -> None:
        """The processor was reset."""

    def cache_emptied(self) -> None:
        """The processor has emptied its data cache."""

    def connect(self, changed: Callable[[int, int], None], power_off: Callable[[], None]) -> None:
        """Tell who hears of changes, ``(begin, end)`` in the flash, and who goes down when power fails."""


class Stm32Flash:
    """The flash interface of STM32F4: RM0090, section 3.9.

    :param content: mutable bytes of the whole flash
    :param sectors: bytes of each sector, from the flash's base on
    """

    registers = range(0x40023C00, 0x40023C18)
    ACR, KEYR, SR, CR = 0x00, 0x04, 0x0C, 0x10
    CACHES, FORGET = 1 << 9 | 1 << 10, 1 << 11 | 1 << 12
    KEYS = (0x45670123, 0xCDEF89AB)
    PROGRAM, SECTOR_ERASE, START, LOCK = 1 << 0, 1 << 1, 1 << 16, 1 << 31
    SEQUENCE_ERROR, PARALLELISM_ERROR, ALIGNMENT_ERROR, WRITE_PROTECTION_ERROR = 1 << 7, 1 << 6, 1 << 5, 1 << 4
    PARALLEL_BYTES = 4
    """By 32 bits, as a supply from 2.7 V on allows."""

    def __init__(self, content: Any, sectors: Sequence[int], power: PowerSupply | None = None) -> None:
        self.content = content
        self.power = power or PowerSupply()
        self._sectors = tuple(sectors)
        self._changed: Callable[[int, int], None] = lambda begin, end: None
        self._power_off: Callable[[], None] = lambda: None
        self.changes_while_stale = 0
        """Writes and erases before which the caches were not emptied of the one before. The caches are not modelled."""

        self.reset()

    def connect(self, changed: Callable[[int, int], None], power_off: Callable[[], None]) -> None:
        """See :class:`FlashController`."""
        self._changed, self._power_off = changed, power_off

    def reset(self) -> None:
        """See :class:`FlashController`: locked, no error, caches off and empty."""
        self._access = 0
        self._is_stale = False
        self._control = self.LOCK
        self._status = 0
        self._keys: list[int] = []
        self._shut = False

    def cache_emptied(self) -> None:
        """See :class:`FlashController`: this processor has none."""

    def read(self, offset: int) -> int:
        """See :class:`FlashController`."""
        return {self.ACR: self._access, self.SR: self._status, self.CR: self._control}.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """See :class:`FlashController`."""
        if self.power.is_off:  # what the core still does until it stops
            return
        if offset == self.ACR:
            self._access = value
            self._is_stale = self._is_stale and not (value & self.FORGET == self.FORGET and not value & self.CACHES)
        elif offset == self.KEYR:
            self._unlock(value)
        elif offset == self.SR:
            self._status &= ~value
        elif offset == self.CR and not self._control & self.LOCK:
            self._control = value & ~self.START
            if value & self.START:
                self._erase(value)

    def _unlock(self, key: int) -> None:
        """Two keys in order; a wrong one shuts the controller until the next reset."""
        self._keys.append(key)
        self._shut = self._shut or tuple(self._keys) != self.KEYS[: len(self._keys)]
        if tuple(self._keys) == self.KEYS:
            self._keys.clear()
            if not self._shut:
                self._control &= ~self.LOCK

    def store(self, offset: int, size: int, value: int) -> None:
        """See :class:`FlashController`: programs where the controller is set up for it, else an error is noted."""
        if self.power.is_off:
            return
        if self._control & self.LOCK or not self._control & self.PROGRAM:
            self._status |= self.SEQUENCE_ERROR
        elif size != 1 << (self._control >> 8 & 3) or size > self.PARALLEL_BYTES:
            self._status |= self.PARALLELISM_ERROR
        elif offset % size:
            self._status |= self.ALIGNMENT_ERROR
        else:
            self._program(offset, size, value & ((1 << 8 * size) - 1))

    def _note_change(self) -> None:
        self.changes_while_stale += self._is_stale
        self._is_stale = True

    def _program(self, offset: int, size: int, value: int) -> None:
        cut = self.power.fails()
        whole = int.from_bytes(self.content[offset : offset + size], "little")
        fallen = whole & value
        if cut:  # some of the bits that were to fall have fallen
            fallen = whole & (fallen | self.power.random.getrandbits(8 * size))
        self._note_change()
        self.content[offset : offset + size] = fallen.to_bytes(size, "little")
        self._changed(offset, offset + size)
        if cut:
            self._power_off()

    def _erase(self, control: int) -> None:
        number = control >> 3 & 0xF
        if not control & self.SECTOR_ERASE or number >= len(self._sectors):
            self._status |= self.SEQUENCE_ERROR
            return
        self._note_change()
        cut = self.power.fails()
        begin = sum(self._sectors[:number])
        end = begin + self._sectors[number]
        self.content[begin:end] = self._half_erased(begin, end) if cut else bytes([ERASED]) * (end - begin)
        self._changed(begin, end)
        if cut:
            self._power_off()

    def _half_erased(self, begin: int, end: int) -> bytes:
        """What a cut erase leaves: bits risen here and there, all of it zero for a part, or words of any kind."""
        draw = self.power.random
        before = int.from_bytes(self.content[begin:end], "little")
        noise = draw.getrandbits(8 * (end - begin))
        kind = draw.randrange(3)
        if kind == 0:
            after = before | noise
        elif kind == 1:  # an erase first programs all to zero
            after = before >> (middle := 8 * draw.randrange(end - begin)) << middle
        else:
            after = before ^ noise
        return after.to_bytes(end - begin, "little")


class Stm32F7Flash(Stm32Flash):
    """The flash interface of STM32F7: RM0385, sections 3.3 and 3.7. As STM32F4's, but the caches are the processor's.

    A cache that was not emptied after a change counts whether it is on or not.
    """

    FORGET, CACHES = 0, 0

    def write(self, offset: int, value: int) -> None:
        """See :class:`FlashController`."""
        stale = self._is_stale
        super().write(offset, value)
        self._is_stale = stale if offset == self.ACR else self._is_stale

    def cache_emptied(self) -> None:
        """See :class:`FlashController`."""
        self._is_stale = False


FLASHES: dict[str, type[Stm32Flash]] = {"stm32f4": Stm32Flash, "stm32f7": Stm32F7Flash}
"""Driver name, as the bootloader's table of the board's TOML gives it, to register model."""
