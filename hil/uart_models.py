"""Register models of UARTs, as far as a polled driver sees them.

A model gets the offset of a register from the UART's base. Bits that a driver may set and read back
(enables, baud rate) are plain storage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from policyport.hil.host_link import Wire


class Uart(Protocol):
    """A UART's registers."""

    def read(self, offset: int) -> int:
        """The 32 bits at ``offset``."""
        ...

    def write(self, offset: int, value: int) -> None:
        """Store ``value`` at ``offset``."""


class CmsdkUart:
    """ARM CMSDK APB UART (MPS2 boards), DDI 0479, section 4.3."""

    DATA, STATE = 0x00, 0x04
    RX_FULL = 1 << 1

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._stored: dict[int, int] = {}

    def read(self, offset: int) -> int:
        """See :class:`Uart`."""
        if offset == self.STATE:
            return self.RX_FULL if self._wire.poll() else 0
        if offset == self.DATA:
            return self._wire.take()
        return self._stored.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """See :class:`Uart`."""
        if offset == self.DATA:
            self._wire.put(value & 0xFF)
        elif offset == 0x0C:  # INTCLEAR: a one clears, nothing is stored
            self._stored[offset] = 0
        else:
            self._stored[offset] = value


class _Registers:
    """A UART of which status and data are modelled; what else is written is read back."""

    STATUS: ClassVar[int]
    RECEIVED: ClassVar[int]
    SENT: ClassVar[int]
    IDLE: ClassVar[int]
    """The status while no byte waits."""

    WAITING: ClassVar[int]
    """The status while one does."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._stored: dict[int, int] = {}

    def read(self, offset: int) -> int:
        """See :class:`Uart`."""
        if offset == self.STATUS:
            return self.WAITING if self._wire.poll() else self.IDLE
        if offset == self.RECEIVED:
            return self._wire.take()
        return self._stored.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """See :class:`Uart`."""
        if offset == self.SENT:
            self._wire.put(value & 0xFF)
        elif offset not in (self.STATUS, self.RECEIVED):
            self._stored[offset] = value


class Stm32Usart(_Registers):
    """STM32F1/F2/F4 USART, RM0090, section 30.6: SR and DR."""

    STATUS, RECEIVED, SENT = 0x00, 0x04, 0x04
    IDLE = 1 << 7 | 1 << 6  # TXE, TC
    WAITING = IDLE | 1 << 5  # RXNE


class Stm32F7Usart(_Registers):
    """STM32F7 USART, RM0385, section 31.8: ISR, RDR and TDR."""

    STATUS, RECEIVED, SENT = 0x1C, 0x24, 0x28
    IDLE, WAITING = Stm32Usart.IDLE, Stm32Usart.WAITING


class Pl011(_Registers):
    """ARM PrimeCell PL011, DDI 0183, section 3.3: FR and DR."""

    STATUS, RECEIVED, SENT = 0x18, 0x00, 0x00
    IDLE, WAITING = 1 << 4, 0  # RXFE


class Nrf51Uart:
    """Nordic nRF51 UART, reference manual 3.0, section 29: events are registers that software clears."""

    RXDRDY, TXDRDY, RXD, TXD = 0x108, 0x11C, 0x518, 0x51C

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._stored: dict[int, int] = {}
        self._cleared = False
        self._sent = 0

    def read(self, offset: int) -> int:
        """See :class:`Uart`."""
        if offset == self.RXDRDY:
            return 0 if self._cleared else int(self._wire.poll())
        if offset == self.RXD:
            self._cleared = False  # the next byte in the FIFO raises the event again
            return self._wire.take()
        return self._sent if offset == self.TXDRDY else self._stored.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """See :class:`Uart`."""
        if offset == self.RXDRDY:
            self._cleared = value == 0 and self._wire.holds_byte
        elif offset == self.TXD:
            self._wire.put(value & 0xFF)
            self._sent = 1
        elif offset == self.TXDRDY:
            self._sent = value & 1
        else:
            self._stored[offset] = value


UARTS: dict[str, Callable[[Wire], Uart]] = {
    "cmsdk": CmsdkUart,
    "lm3s": Pl011,
    "nrf51": Nrf51Uart,
    "rp2040": Pl011,
    "stm32f1": Stm32Usart,
    "stm32f4": Stm32Usart,
    "stm32f7": Stm32F7Usart,
}
"""Driver name, as the board's TOML gives it, to register model."""
