"""The private peripheral bus of an emulated Cortex-M: DWT cycle counter, SysTick, system control.

What the firmware may set and read back is plain storage; only these have a behaviour:

- DWT CYCCNT and SysTick count executed instructions, one tick each;
- AIRCR.SYSRESETREQ asks for a reset;
- ICSR.PENDSTSET and CSR.COUNTFLAG tell that SysTick wrapped; a core without CYCCNT takes its exception then;
- interrupt and fault status registers read as "nothing pending".
"""

from __future__ import annotations

import math
from collections.abc import Callable

DWT_CTRL, DWT_CYCCNT = 0xE0001000, 0xE0001004
SYST_CSR, SYST_RVR, SYST_CVR = 0xE000E010, 0xE000E014, 0xE000E018
CPUID, ICSR, AIRCR, DEMCR = 0xE000ED00, 0xE000ED04, 0xE000ED0C, 0xE000EDFC
DCISW = 0xE000EF60
"""Empties a line of the data cache."""

NVIC = range(0xE000E100, 0xE000E400)
MPU_TYPE = 0xE000ED90

CYCCNT_ENABLE = 1 << 0
TRACE_ENABLE = 1 << 24
PENDSTSET = 1 << 26
COUNTFLAG = 1 << 16
SYSTICK_ENABLE = 1 << 0
SYSTICK_EXCEPTION = 1 << 1
RESET_REQUEST = 0x05FA0004
"""VECTKEY and SYSRESETREQ."""

CPUID_OF_CORE = {
    "cortex-m0": 0x410CC200,
    "cortex-m3": 0x412FC231,
    "cortex-m4": 0x410FC241,
    "cortex-m7": 0x411FC272,
    "cortex-m33": 0x410FD213,
}
"""ARM core to what its CPUID register reads."""


class SystemRegisters:
    """Registers from 0xE0000000 on, by absolute address.

    :param core: one of :data:`CPUID_OF_CORE`
    :param executed: gives the number of instructions executed so far
    :param reset: called when the firmware asks for a system reset
    """

    def __init__(self, core: str, executed: Callable[[], int], reset: Callable[[], None]) -> None:
        self._executed = executed
        self._reset = reset
        self.has_dwt = core != "cortex-m0"
        self._stored = {CPUID: CPUID_OF_CORE[core]}
        self._cyccnt_start = 0
        self._systick_start = 0
        self._wraps_seen = 0

    def read(self, address: int) -> int:
        """The 32 bits at ``address``."""
        if address == DWT_CYCCNT:
            return self._cyccnt()
        if address == SYST_CVR:
            return self._systick()[1]
        if address in (SYST_CSR, ICSR):
            return self._stored.get(address, 0) | self._wrap_flag(address)
        return self._stored.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Store ``value`` at ``address``."""
        if address == AIRCR:
            if value & 0xFFFF0004 == RESET_REQUEST:
                self._reset()
        elif address == DWT_CYCCNT:
            self._cyccnt_start = self._executed() - value
        elif address == SYST_CVR:  # any write clears the counter
            self._systick_start, self._wraps_seen = self._executed(), 0
        elif address == ICSR:
            self._wraps_seen = self._systick()[0]
        elif address not in NVIC and address not in (CPUID, MPU_TYPE):
            self._stored[address] = value

    def next_wrap(self) -> float:
        """The count of executed instructions at which SysTick wraps next and raises its exception; infinity: never."""
        control = self._stored.get(SYST_CSR, 0)
        if not (control & SYSTICK_ENABLE and control & SYSTICK_EXCEPTION):
            return math.inf
        return self._systick_start + (self._systick()[0] + 1) * self._period()

    def _period(self) -> int:
        return (self._stored.get(SYST_RVR, 0) & 0xFFFFFF) + 1

    def _cyccnt(self) -> int:
        enabled = self._stored.get(DEMCR, 0) & TRACE_ENABLE and self._stored.get(DWT_CTRL, 0) & CYCCNT_ENABLE
        return (self._executed() - self._cyccnt_start) & 0xFFFFFFFF if enabled and self.has_dwt else 0

    def _systick(self) -> tuple[int, int]:
        """Wraps since the counter was last cleared, and its value, which counts down."""
        if not self._stored.get(SYST_CSR, 0) & SYSTICK_ENABLE:
            return 0, 0
        period = self._period()
        wraps, phase = divmod(self._executed() - self._systick_start, period)
        return wraps, (period - phase) % period

    def _wrap_flag(self, address: int) -> int:
        wraps = self._systick()[0]
        wrapped = wraps > self._wraps_seen
        if address == SYST_CSR:
            self._wraps_seen = wraps  # COUNTFLAG is cleared by reading it
        return (COUNTFLAG if address == SYST_CSR else PENDSTSET) if wrapped else 0
