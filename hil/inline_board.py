"""An emulated board inside this process: it runs while its host waits, every run is the same, and power can be cut."""

from __future__ import annotations

from collections import deque

from policyport.core.errors import BoardError, ToolError
from policyport.deploy.board import Board
from policyport.deploy.bootloader import slots_of
from policyport.hil.cortex_m import CortexM, Memory
from policyport.hil.flash_model import FLASHES, PowerSupply
from policyport.hil.host_link import Wire
from policyport.hil.uart_models import UARTS
from policyport.hil.unicorn_board import core_model


class PowerLostError(BoardError):
    """The board's power was cut."""


class InlineBoard:
    """A board with a flash that it can write; as a :class:`policyport.firmware_bridge.link.Line` it is its own port.

    :param flash: content of its flash, from its base; what is behind it is erased
    :param counts: as of :class:`policyport.hil.cortex_m.CortexM`
    :raises ConfigError: a board without bootloader
    :raises ToolError: a board that Unicorn does not model
    """

    url = "inline"

    def __init__(self, board: Board, flash: bytes, power: PowerSupply | None = None, counts: bool = True) -> None:
        slots, core = slots_of(board), core_model(board)
        if core is None:
            raise ToolError("Unicorn does not model this board", where=board.name)
        self.power = power or PowerSupply()
        self.content = bytearray(flash.ljust(board.flash.size, b"\xff"))
        self.resets = 0
        self._counts = counts
        self.controller = FLASHES[slots.driver](self.content, slots.sectors, self.power)
        self._host = _Host()
        self._board, self._core = board, core
        self._processor = self._power_on()

    def write(self, data: bytes) -> None:
        """Bytes for the board; it does nothing with them until they are waited for."""
        self._host.to_board.extend(data)

    def read(self, timeout_s: float) -> bytes:
        """Run the board until it sleeps; what it has sent.

        :raises PowerLostError: its power went
        """
        self.run()
        data, self._host.to_host = bytes(self._host.to_host), bytearray()
        return data

    def close(self) -> None:
        """Nothing to let go of."""

    def run(self) -> int:
        """Run until it sleeps with nothing to take; the instructions since the last reset.

        :raises PowerLostError: its power went
        """
        while True:
            self._processor.run()
            if self._processor.power_lost:
                self._host.to_host.clear()
                raise PowerLostError(
                    "the board's power was cut", where=f"operation {self.power.operations} on its flash"
                )
            self._wire.flush()
            if self._processor.reset_requested:
                self.resets += 1
                self._processor.reset()
            elif not self._host.to_board:
                return self._processor.executed

    def memory(self, address: int, count: int) -> bytes:
        """What lies in its memory, RAM or flash."""
        return self._processor.read(address, count)

    def cycle_power(self, cut_at: int = 0) -> None:
        """Take the power away and give it again; RAM is lost, the flash stays.

        :param cut_at: operation on the flash that is cut short from now on, 0 for none
        """
        self._host = _Host()
        self.power.restore(cut_at)
        self.controller.reset()
        self._processor = self._power_on()

    def _power_on(self) -> CortexM:
        board = self._board
        self._wire = Wire(self._host)
        flash, ram = board.flash, board.ram
        memory = Memory(flash.base, flash.size, flash.base, ram.base, ram.size, board.uart.base)
        return CortexM(
            self._core,
            memory,
            b"",
            lambda: UARTS[board.uart.driver](self._wire),
            controller=self.controller,
            watchdog_clock_hz=board.clock_hz,
            counts=self._counts,
        )


class _Host:
    """The host's end of the wire: bytes that lie ready."""

    url = "inline"

    def __init__(self) -> None:
        self.to_board: deque[int] = deque()
        self.to_host = bytearray()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether there is a byte for the board; nothing comes while it runs."""
        return bool(self.to_board)

    def receive(self) -> bytes:
        """All that there is for the board."""
        data = bytes(self.to_board)
        self.to_board.clear()
        return data

    def send(self, data: bytes) -> None:
        """Bytes of the board's."""
        self.to_host.extend(data)
