"""A Cortex-M core on Unicorn: memory, registers on the buses, and an exact count of executed instructions."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policyport.hil.block_recorder import BlockRecorder
from policyport.hil.flash_model import FlashController
from policyport.hil.system_registers import DCISW, SystemRegisters
from policyport.hil.uart_models import Uart
from policyport.hil.watchdog_model import Stm32Watchdog

PERIPHERALS = (0x40000000, 0x20000000)
"""Base and size of the peripheral region of the ARMv7-M memory map."""

PRIVATE_BUS = (0xE0000000, 0x00100000)
"""Base and size of the private peripheral bus."""

NOWHERE = 0xFFFFFFFE
"""An address that is never executed: run without an end."""

PAGE_BYTES = 4096

SYSTICK_VECTOR = 15


class CoreFault(Exception):
    """The processor hit something that it cannot execute; the text says what and where."""


@dataclass(frozen=True)
class Memory:
    """Where flash, RAM and the UART of a board lie."""

    flash_base: int
    flash_bytes: int
    vectors: int
    """Address of the vector table: a boot stage that is not run may lie before it."""

    ram_base: int
    ram_bytes: int
    uart_base: int


def scan_instructions(code: bytes | bytearray) -> tuple[int, int]:
    """Number of Thumb instructions in a straight piece of code, and where in it the last one begins.

    The first halfword of a 32-bit instruction has 0b11101, 0b11110 or 0b11111 on top (ARM DDI 0403, A5.1).
    """
    halfwords = struct.unpack(f"<{len(code) // 2}H", bytes(code[: len(code) // 2 * 2]))
    count = position = last = 0
    while position < len(halfwords):
        last = position
        position += 2 if halfwords[position] >> 11 >= 0b11101 else 1
        count += 1
    return count, 2 * last


class CortexM:
    """One core with its flash and RAM; :meth:`run` executes until WFI, a reset request, a fault, or power fails.

    Every basic block is decoded once; its instructions count as executed whenever the block is entered,
    instructions that an IT block skips included, as QEMU's ``-icount`` counts them.

    :param core: ``cortex-m4`` and the like
    :param flash: content of the flash from its base; the rest reads as erased (0xFF)
    :param recorder: told of every block; None for nobody
    :param controller: writes the flash, whose content it holds in the place of ``flash``; None for nobody
    :param watchdog_clock_hz: of the processor, for a watchdog; 0 where there is none
    :param counts: False leaves instructions uncounted, and counters, timers and the watchdog at a stand; it is faster
    """

    def __init__(
        self,
        core: str,
        memory: Memory,
        flash: bytes,
        make_uart: Callable[[], Uart],
        recorder: BlockRecorder | None = None,
        controller: FlashController | None = None,
        watchdog_clock_hz: int = 0,
        counts: bool = True,
    ) -> None:
        self.executed = 0
        self.reset_requested = False
        self.power_lost = False
        self._controller = controller
        self._watchdog = Stm32Watchdog(lambda: self.executed, watchdog_clock_hz) if watchdog_clock_hz else None
        self._deadline = math.inf
        self._tick_at = math.inf  # the count at which SysTick's exception comes
        self._counts = counts
        self._core = core
        self._memory = memory
        self._flash = flash
        self._make_uart = make_uart
        self._recorder = recorder
        self._blocks: dict[tuple[int, int], tuple[int, int]] = {}
        self._bad_address: int | None = None
        self._machine = self._power_up(bytes(memory.ram_bytes))
        self._pc = self._start_address()

    def run(self) -> None:
        """Execute until the core waits for an interrupt, or :attr:`reset_requested` or :attr:`power_lost` is set.

        :raises CoreFault: invalid instruction, access to nothing, or an exception that is not modelled
        """
        import unicorn
        from unicorn.arm_const import UC_ARM_REG_PC

        while True:
            try:
                self._machine.emu_start(self._pc | 1, NOWHERE)
                self._pc = self._machine.reg_read(UC_ARM_REG_PC)
                if self.executed < self._tick_at or self.reset_requested:
                    return
                self._take_systick()
                if self.reset_requested:  # by the firmware's own watchdog
                    return
            except unicorn.UcError as error:
                raise CoreFault(self._describe(error)) from error

    def _take_systick(self) -> None:
        """Run SysTick's handler between two blocks, as a call; nothing of it counts, and all registers are kept."""
        from unicorn import arm_const

        machine, executed, recorder = self._machine, self.executed, self._recorder
        self._tick_at, self._recorder = math.inf, None
        if not machine.reg_read(arm_const.UC_ARM_REG_PRIMASK):
            context = machine.context_save()
            vector = self._memory.vectors + 4 * SYSTICK_VECTOR  # also where the handler returns to: no code lies there
            machine.reg_write(arm_const.UC_ARM_REG_LR, vector | 1)
            machine.emu_start(int.from_bytes(machine.mem_read(vector, 4), "little"), vector)
            machine.context_restore(context)
        self.executed, self._recorder = executed, recorder
        self._tick_at = self._system.next_wrap()

    def reset(self) -> None:
        """Start again from the vector table; RAM keeps its content, as over a system reset of the real core."""
        ram = bytes(self._machine.mem_read(self._memory.ram_base, self._memory.ram_bytes))
        self.executed = 0
        self.reset_requested = False
        self._blocks.clear()  # the flash may hold another firmware by now
        for device in (self._controller, self._watchdog):
            if device is not None:
                device.reset()
        self._deadline = self._tick_at = math.inf
        self._machine = self._power_up(ram)
        self._pc = self._start_address()

    def read(self, address: int, count: int) -> bytes:
        """What lies in memory, RAM or flash."""
        return bytes(self._machine.mem_read(address, count))

    def watchdog_seconds_left(self) -> float | None:
        """Until the watchdog resets a core that sleeps from now on; None where none runs."""
        return None if self._watchdog is None else self._watchdog.seconds_left()

    def sleep(self, seconds: float) -> None:
        """Let time pass in which nothing is executed; the watchdog may reset the core meanwhile."""
        if self._watchdog is not None:
            self._watchdog.deadline -= seconds * self._watchdog.clock_hz
            self._deadline = self._watchdog.deadline
            if self.executed >= self._deadline:
                self.reset()

    def _power_up(self, ram: bytes) -> Any:
        import unicorn
        from unicorn import arm_const

        machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        model = "UC_CPU_ARM_" + self._core.upper().replace("-", "_")
        machine.ctl_set_cpu_model(getattr(arm_const, model))
        memory = self._memory
        machine.mem_map(memory.flash_base, _pages(memory.flash_bytes), unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        flash = self._flash if self._controller is None else bytes(self._controller.content)
        machine.mem_write(memory.flash_base, flash + b"\xff" * (memory.flash_bytes - len(flash)))
        machine.mem_map(memory.ram_base, _pages(memory.ram_bytes))
        machine.mem_write(memory.ram_base, ram)
        self._connect(machine)
        return machine

    def _connect(self, machine: Any) -> None:
        """Put the registers on the buses and the counter on the blocks."""
        import unicorn

        system = self._system = SystemRegisters(self._core, lambda: self.executed, self._request_reset)
        uart = self._make_uart()
        devices: list[tuple[range, Any]] = [(range(self._memory.uart_base, self._memory.uart_base + PAGE_BYTES), uart)]
        devices += [(d.registers, d) for d in (self._controller, self._watchdog) if d is not None]
        storage: dict[int, int] = {}

        def read_peripheral(_machine: Any, offset: int, _size: int, _data: Any) -> int:
            for registers, device in devices:
                if PERIPHERALS[0] + offset in registers:
                    return int(device.read(PERIPHERALS[0] + offset - registers.start))
            return storage.get(offset, 0)

        def write_peripheral(_machine: Any, offset: int, _size: int, value: int, _data: Any) -> None:
            for registers, device in devices:
                if PERIPHERALS[0] + offset in registers:
                    device.write(PERIPHERALS[0] + offset - registers.start, value)
                    break
            else:
                storage[offset] = value
            if self._watchdog is not None:
                self._deadline = self._watchdog.deadline

        def read_system(_machine: Any, offset: int, _size: int, _data: Any) -> int:
            return system.read(PRIVATE_BUS[0] + offset)

        def write_system(_machine: Any, offset: int, _size: int, value: int, _data: Any) -> None:
            system.write(PRIVATE_BUS[0] + offset, value)
            if self._controller is not None and PRIVATE_BUS[0] + offset == DCISW:
                self._controller.cache_emptied()
            if not system.has_dwt:
                self._tick_at = system.next_wrap()

        machine.mmio_map(*PERIPHERALS, read_peripheral, None, write_peripheral, None)
        machine.mmio_map(*PRIVATE_BUS, read_system, None, write_system, None)
        if self._counts:
            machine.hook_add(unicorn.UC_HOOK_BLOCK, self._count_block)
        machine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._note_address)
        if self._controller is not None:
            self._connect_flash(machine, self._controller)

    def _connect_flash(self, machine: Any, controller: FlashController) -> None:
        """Hand stores into the flash to its controller, and what it changes back to the core."""
        base = self._memory.flash_base

        def changed(begin: int, end: int) -> None:
            machine.mem_write(base + begin, bytes(controller.content[begin:end]))
            machine.ctl_remove_cache(base + begin, base + end)
            touched = [block for block in self._blocks if base + begin < sum(block) and block[0] < base + end]
            for block in touched:
                del self._blocks[block]

        def power_off() -> None:
            self.power_lost = True
            machine.emu_stop()

        controller.connect(changed, power_off)

    def _count_block(self, machine: Any, address: int, size: int, _data: Any) -> None:
        block = self._blocks.get((address, size))
        if block is None:
            block = self._blocks[address, size] = scan_instructions(machine.mem_read(address, size))
        if self.executed >= self._tick_at:
            machine.emu_stop()  # before the block, which is entered again after the exception
            return
        count, last = block
        self.executed += count
        if self.executed >= self._deadline:
            self._request_reset()
        if self._recorder is not None:
            self._recorder.enter(address, address + last, address + size, count)

    def _note_address(self, _machine: Any, access: int, address: int, size: int, value: int, _data: Any) -> bool:
        import unicorn

        offset = address - self._memory.flash_base
        if access == unicorn.UC_MEM_WRITE_PROT and self._controller is not None:
            self._controller.store(offset, size, value)
            return True
        self._bad_address = address
        return False

    def _request_reset(self) -> None:
        self.reset_requested = True
        self._machine.emu_stop()

    def _start_address(self) -> int:
        """Set the stack pointer from the vector table.

        :returns: the reset handler's address
        """
        from unicorn.arm_const import UC_ARM_REG_SP

        stack, start = struct.unpack("<II", self._machine.mem_read(self._memory.vectors, 8))
        self._machine.reg_write(UC_ARM_REG_SP, stack)
        return start & ~1

    def _describe(self, error: Exception) -> str:
        from unicorn.arm_const import UC_ARM_REG_LR, UC_ARM_REG_PC, UC_ARM_REG_SP

        pc, lr, sp = (self._machine.reg_read(r) for r in (UC_ARM_REG_PC, UC_ARM_REG_LR, UC_ARM_REG_SP))
        address = "" if self._bad_address is None else f", address 0x{self._bad_address:08x}"
        return f"{error} at pc 0x{pc:08x}{address}, lr 0x{lr:08x}, sp 0x{sp:08x}"


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES
