"""The flash controller's and the watchdog's registers, as RM0090 describes them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.hil.flash_model import PowerSupply, Stm32F7Flash, Stm32Flash
from policyport.hil.watchdog_model import Stm32Watchdog

SECTORS = (64, 64, 128)
KEYR, SR, CR = 0x04, 0x0C, 0x10
PROGRAM, ERASE, START, LOCK, WORDS = 1, 2, 1 << 16, 1 << 31, 2 << 8
SEQUENCE, PARALLELISM, ALIGNMENT = 1 << 7, 1 << 6, 1 << 5


def flash(content: bytes = b"\xff" * 256, power: PowerSupply | None = None, unlocked: bool = True) -> Stm32Flash:
    made = Stm32Flash(bytearray(content), SECTORS, power)
    for key in Stm32Flash.KEYS if unlocked else ():
        made.write(KEYR, key)
    return made


def erase(made: Stm32Flash, sector: int) -> None:
    made.write(CR, WORDS | ERASE | sector << 3)
    made.write(CR, WORDS | ERASE | sector << 3 | START)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_programming_only_clears_bits(first: int, second: int) -> None:
    made = flash()
    made.write(CR, WORDS | PROGRAM)
    for value in (first, second):
        made.store(8, 4, value)
    assert made.content[:16] == b"\xff" * 8 + (first & second).to_bytes(4, "little") + b"\xff" * 4
    assert made.read(SR) == 0
    assert made.power.operations == 2


@pytest.mark.parametrize(("sector", "begin", "end"), [(0, 0, 64), (1, 64, 128), (2, 128, 256)])
def test_erasing_sets_one_sector(sector: int, begin: int, end: int) -> None:
    made = flash(bytes(256))
    erase(made, sector)
    assert made.content == bytes(begin) + b"\xff" * (end - begin) + bytes(256 - end)


@pytest.mark.parametrize(
    ("control", "offset", "size", "error"),
    [(0, 0, 4, SEQUENCE), (PROGRAM | WORDS, 2, 4, ALIGNMENT), (PROGRAM | WORDS, 0, 1, PARALLELISM)],
)
def test_a_store_out_of_order_is_an_error_and_changes_nothing(control: int, offset: int, size: int, error: int) -> None:
    made = flash()
    made.write(CR, control)
    made.store(offset, size, 0)
    assert made.content == b"\xff" * 256
    assert made.read(SR) == error
    made.write(SR, error)
    assert made.read(SR) == 0


def test_an_erase_of_no_sector_is_an_error() -> None:
    made = flash(bytes(256))
    erase(made, 3)
    assert (made.read(SR), made.content) == (SEQUENCE, bytes(256))


def test_locked_nothing_changes() -> None:
    made = flash(bytes(255) + b"\xff", unlocked=False)
    made.write(CR, WORDS | PROGRAM)
    made.store(252, 4, 0)
    erase(made, 0)
    assert made.content == bytes(255) + b"\xff"
    assert made.read(CR) == LOCK


def test_a_wrong_key_shuts_the_controller_until_a_reset() -> None:
    made = flash(unlocked=False)
    made.write(KEYR, 0x45670124)
    for key in Stm32Flash.KEYS:
        made.write(KEYR, key)
    assert made.read(CR) == LOCK
    made.reset()
    for key in Stm32Flash.KEYS:
        made.write(KEYR, key)
    assert made.read(CR) == 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 99))
def test_a_cut_word_has_some_of_its_bits(before: int, value: int, seed: int) -> None:
    made = flash(before.to_bytes(4, "little") + b"\xff" * 252, PowerSupply(1, seed))
    gone: list[bool] = []
    made.connect(lambda begin, end: None, lambda: gone.append(True))
    made.write(CR, WORDS | PROGRAM)
    made.store(0, 4, value)
    after = int.from_bytes(made.content[:4], "little")
    assert after & ~before == 0 and after & (before & value) == before & value
    assert gone == [True]
    made.store(4, 4, 0)  # power is off
    assert made.content[4:8] == b"\xff" * 4


@given(st.binary(min_size=64, max_size=64), st.integers(0, 99))
def test_a_cut_erase_touches_its_sector_alone(before: bytes, seed: int) -> None:
    made = flash(before * 4, PowerSupply(1, seed))
    erase(made, 1)
    assert made.content[:64] + made.content[128:] == before * 3


def test_the_watchdog_bites_unless_it_is_fed() -> None:
    now = 0
    watchdog = Stm32Watchdog(lambda: now, 1000)
    assert watchdog.deadline == math.inf and watchdog.seconds_left() is None
    watchdog.write(0x00, 0xCCCC)
    assert watchdog.seconds_left() == pytest.approx(0.512)
    watchdog.write(0x04, 6)  # still locked
    assert watchdog.read(0x04) == 0
    for offset, value in ((0x00, 0x5555), (0x04, 6), (0x08, 0xFFF), (0x00, 0xAAAA)):
        watchdog.write(offset, value)
    assert watchdog.seconds_left() == pytest.approx(32.768)
    now = 30_000
    assert watchdog.seconds_left() == pytest.approx(2.768)
    watchdog.write(0x00, 0xAAAA)
    assert watchdog.deadline == 62_768
    watchdog.reset()
    assert watchdog.seconds_left() is None


def test_only_the_processors_cache_is_to_be_emptied_on_the_f7() -> None:
    made = Stm32F7Flash(bytearray(b"\xff" * 256), SECTORS)
    for key in made.KEYS:
        made.write(KEYR, key)
    made.write(CR, WORDS | PROGRAM)
    made.store(0, 4, 0)
    made.cache_emptied()
    made.store(4, 4, 0)
    assert made.changes_while_stale == 0
    made.write(0x00, 0)  # the F4's own caches are emptied by this register
    made.store(8, 4, 0)
    assert made.changes_while_stale == 1
