"""The parts of the emulated board: UART registers, system registers, the wire, the decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.hil.cortex_m import scan_instructions
from policyport.hil.host_link import IDLE_POLLS, Wire
from policyport.hil.system_registers import (
    AIRCR,
    COUNTFLAG,
    CPUID,
    DEMCR,
    DWT_CTRL,
    DWT_CYCCNT,
    ICSR,
    PENDSTSET,
    SYST_CSR,
    SYST_CVR,
    SYST_RVR,
    TRACE_ENABLE,
    SystemRegisters,
)
from policyport.hil.uart_models import CmsdkUart, Nrf51Uart, Pl011, Stm32F7Usart, Stm32Usart


class Host:
    """A link whose bytes lie ready, and that remembers whether it was waited for."""

    url = "none"

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.sent = b""
        self.late = b""
        self.blocked = 0

    def wait(self, timeout_s: float | None) -> bool:
        if timeout_s is None and not self.data:
            self.blocked += 1
            self.data, self.late = self.late, b""
        return bool(self.data)

    def receive(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def send(self, data: bytes) -> None:
        self.sent += data


def test_wire_blocks_only_once_the_firmware_does_nothing_but_poll() -> None:
    host = Host()
    wire = Wire(host)
    assert not any(wire.poll() for _ in range(IDLE_POLLS))
    wire.put(1)  # the firmware does something: the count of polls starts again
    assert not any(wire.poll() for _ in range(IDLE_POLLS))
    assert (host.blocked, host.sent) == (0, b"")
    host.late = b"x"
    assert wire.poll()
    assert (host.blocked, host.sent) == (1, b"\x01")
    assert wire.take() == ord("x")


def drain_cmsdk(uart: CmsdkUart) -> bytes:
    return bytes(uart.read(0) for _ in range(4) if uart.read(4) & 2)


def test_cmsdk() -> None:
    host = Host(b"ab")
    uart = CmsdkUart(Wire(host))
    uart.write(0x08, 3)
    uart.write(0x0C, 2)
    assert uart.read(0x08) == 3
    assert uart.read(0x0C) == 0
    assert drain_cmsdk(uart) == b"ab"
    assert uart.read(0x04) & 1 == 0  # never full
    uart.write(0, 0x141)
    uart._wire.flush()
    assert host.sent == b"A"


def test_stm32() -> None:
    host = Host(b"ab")
    uart = Stm32Usart(Wire(host))
    uart.write(0x0C, 0x200C)
    assert uart.read(0x0C) == 0x200C
    received = bytes(uart.read(4) for _ in range(4) if uart.read(0) & 0x20)
    assert received == b"ab"
    assert uart.read(0) & 0xC0 == 0xC0
    uart.write(4, ord("B"))
    uart._wire.flush()
    assert host.sent == b"B"


def test_stm32f7() -> None:
    host = Host(b"ab")
    uart = Stm32F7Usart(Wire(host))
    uart.write(0x00, 0x2D)
    assert uart.read(0x00) == 0x2D
    received = bytes(uart.read(0x24) for _ in range(4) if uart.read(0x1C) & 0x20)
    assert received == b"ab"
    assert uart.read(0x1C) & 0xC0 == 0xC0
    uart.write(0x28, ord("B"))
    uart._wire.flush()
    assert host.sent == b"B"


def test_pl011() -> None:
    host = Host(b"ab")
    uart = Pl011(Wire(host))
    uart.write(0x30, 0x301)
    assert uart.read(0x30) == 0x301
    received = bytes(uart.read(0) for _ in range(4) if not uart.read(0x18) & 0x10)
    assert received == b"ab"
    assert uart.read(0x18) & 0x28 == 0  # neither full nor busy
    uart.write(0, ord("D"))
    uart._wire.flush()
    assert host.sent == b"D"


def test_nrf51_events_are_cleared_by_software() -> None:
    host = Host(b"ab")
    uart = Nrf51Uart(Wire(host))
    uart.write(0x108, 0)  # nothing received yet: clearing must not hide the first byte
    received = b""
    while uart.read(0x108) and len(received) < 4:
        uart.write(0x108, 0)
        assert uart.read(0x108) == 0
        received += bytes([uart.read(0x518)])
    assert received == b"ab"
    assert uart.read(0x11C) == 0
    uart.write(0x51C, ord("C"))
    assert uart.read(0x11C) == 1
    uart.write(0x11C, 0)
    assert uart.read(0x11C) == 0
    uart._wire.flush()
    assert host.sent == b"C"


class Clock:
    """A settable count of executed instructions, and whether a reset was asked for."""

    def __init__(self, core: str = "cortex-m4") -> None:
        self.now = 0
        self.resets = 0
        self.registers = SystemRegisters(core, lambda: self.now, self.reset)

    def reset(self) -> None:
        self.resets += 1


def test_cyccnt_counts_once_enabled() -> None:
    clock = Clock()
    clock.now = 100
    assert clock.registers.read(DWT_CYCCNT) == 0
    clock.registers.write(DEMCR, TRACE_ENABLE)
    clock.registers.write(DWT_CTRL, 1)
    clock.registers.write(DWT_CYCCNT, 0)
    clock.now = 142
    assert clock.registers.read(DWT_CYCCNT) == 42
    clock.now = 100 + 2**32 + 7
    assert clock.registers.read(DWT_CYCCNT) == 7


def test_cortex_m0_has_no_cyccnt() -> None:
    clock = Clock("cortex-m0")
    clock.registers.write(DEMCR, TRACE_ENABLE)
    clock.registers.write(DWT_CTRL, 1)
    clock.now = 5
    assert clock.registers.read(DWT_CYCCNT) == 0
    assert clock.registers.read(CPUID) == 0x410CC200


def test_systick_counts_down_and_tells_that_it_wrapped() -> None:
    clock = Clock()
    registers = clock.registers
    registers.write(SYST_RVR, 99)
    registers.write(SYST_CVR, 123)
    registers.write(SYST_CSR, 7)
    clock.now = 1
    assert registers.read(SYST_CVR) == 99
    clock.now = 60
    assert registers.read(SYST_CVR) == 40
    assert registers.read(ICSR) & PENDSTSET == 0
    clock.now = 130
    assert registers.read(SYST_CVR) == 70
    assert registers.read(ICSR) & PENDSTSET
    assert registers.read(SYST_CSR) == 7 | COUNTFLAG
    assert registers.read(SYST_CSR) == 7
    clock.now = 250
    assert registers.read(ICSR) & PENDSTSET
    registers.write(ICSR, 1 << 25)
    assert registers.read(ICSR) & PENDSTSET == 0


@pytest.mark.parametrize(("value", "resets"), [(0x05FA0004, 1), (0x05FA0700 | 4, 1), (4, 0), (0x05FA0000, 0)])
def test_only_a_keyed_request_resets(value: int, resets: int) -> None:
    clock = Clock()
    clock.registers.write(AIRCR, value)
    assert clock.resets == resets


def test_pending_interrupts_read_as_none() -> None:
    clock = Clock()
    clock.registers.write(0xE000E200, 1)
    assert clock.registers.read(0xE000E200) == 0


@given(st.lists(st.sampled_from(["0138", "4ff04024", "00f025f8", "fce7", "08bf", "ade9f041"])))
def test_instructions_are_told_apart_by_their_first_halfword(code: list[str]) -> None:
    count, last = scan_instructions(bytes.fromhex("".join(code)))
    assert (count, last) == (len(code), len("".join(code[:-1])) // 2)
