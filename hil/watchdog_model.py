"""Register model of a watchdog that resets the processor unless it is fed."""

from __future__ import annotations

import math
from collections.abc import Callable


class Stm32Watchdog:
    """The independent watchdog of STM32F4: RM0090, section 21. Its time is the executed instructions', one a cycle.

    :param executed: instructions executed so far
    :param clock_hz: of the processor
    """

    registers = range(0x40003000, 0x40003010)
    OSCILLATOR_HZ = 32_000
    KR, PR, RLR = 0x00, 0x04, 0x08
    START, UNLOCK, RELOAD = 0xCCCC, 0x5555, 0xAAAA

    def __init__(self, executed: Callable[[], int], clock_hz: int) -> None:
        self._executed = executed
        self.clock_hz = clock_hz
        self.reset()

    def reset(self) -> None:
        """The processor was reset: it stands still."""
        self._divider, self._reload, self._unlocked = 0, 0xFFF, False
        self.deadline: float = math.inf
        """Count of executed instructions at which it bites."""

    def read(self, offset: int) -> int:
        """The 32 bits at ``offset``."""
        return {self.PR: self._divider, self.RLR: self._reload}.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Store ``value`` at ``offset``."""
        if offset == self.KR:
            self._unlocked = value == self.UNLOCK
            if value == self.START or (value == self.RELOAD and self.deadline < math.inf):
                self.deadline = self._executed() + self.clock_hz * self._period_s()
        elif self._unlocked and offset == self.PR:
            self._divider = value & 7
        elif self._unlocked and offset == self.RLR:
            self._reload = value & 0xFFF

    def seconds_left(self) -> float | None:
        """Until it bites, if the processor sleeps from now on; None where it stands still."""
        left = (self.deadline - self._executed()) / self.clock_hz
        return None if math.isinf(left) else max(0.0, left)

    def _period_s(self) -> float:
        """Longest time between two feedings; dividers above 256 do not exist."""
        return 4 * 2 ** min(self._divider, 6) * (self._reload + 1) / self.OSCILLATOR_HZ
