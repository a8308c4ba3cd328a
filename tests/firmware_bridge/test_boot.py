"""The bootloader's core, compiled with sanitizers: what it installs, refuses, and starts after power cuts."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from boot_rig import (
    BASE,
    CONFIRM,
    FIRST,
    NEXT,
    NO_SLOT,
    SANITIZERS,
    SLOTS,
    STRANGE,
    TRY,
    HostBoard,
    PowerCut,
    compile_boot,
    flash_with,
    release,
    releases,
)
from hypothesis import example, given
from hypothesis import strategies as st
from policyport.core.errors import ConfigError, IdentityError, RefusedError
from policyport.firmware_bridge.image import Image
from policyport.firmware_bridge.messages import Type
from policyport.firmware_bridge.updater import BootStatus, update

OLD, NEW = releases(4), releases(5)


def ignore(done: float, note: str = "") -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_boot(tmp_path_factory.mktemp("boot") / "boot", SANITIZERS)


@pytest.fixture
def board(executable: Path) -> Iterator[HostBoard]:
    made = HostBoard(executable)
    yield made
    assert made.close() == 0


@pytest.fixture(scope="module")
def shared(executable: Path) -> Iterator[HostBoard]:
    """One for all examples of a property."""
    made = HostBoard(executable)
    yield made
    assert made.close() == 0


def new_board(board: HostBoard, *more: Image) -> None:
    """Version 4 in the first slot, confirmed, and running."""
    board.load(flash_with(OLD[0]), *OLD, *NEW, *more)
    assert board.power() == 0


@given(st.binary(max_size=300))
@example(b"a" * 55)
@example(b"a" * 56)
@example(b"a" * 111)
@example(b"a" * 112)
@example(b"a" * 128)
def test_hashes_equal_hashlib(shared: HostBoard, data: bytes) -> None:
    asked = struct.pack("<I", len(data)) + data
    assert shared.ask(b"2" + asked, 32) == hashlib.sha256(data).digest()
    assert shared.ask(b"5" + asked, 64) == hashlib.sha512(data).digest()


def test_an_update_installs_starts_and_is_confirmed(board: HostBoard) -> None:
    new_board(board)
    done = update(board, NEW, ignore)
    assert (done.image, done.resumed_at) == (NEW[1], 0)
    assert board.running == 1
    assert board.power() == 1  # also after power was off
    board.know(*releases(6))
    assert update(board, releases(6), ignore).image == releases(6)[0]
    assert board.power() == 0


def test_an_image_that_is_not_confirmed_is_started_once(board: HostBoard) -> None:
    new_board(board)
    with pytest.raises(InterruptedError):
        update(board, NEW, ignore, check=interrupt)
    assert (board.running, board.trial) == (1, True)
    assert board.power() == 0
    assert board.power(TRY, 1) == 0  # not a second time
    assert update(board, NEW, ignore).sent_bytes == NEW[1].header.size
    assert board.power() == 1


def interrupt(image: Image) -> None:
    raise InterruptedError


def test_confirming_is_for_what_was_tried(board: HostBoard) -> None:
    new_board(board)
    board.request(Type.BOOT_ENTER, b"")
    send(board, NEW[1])
    assert board.power(CONFIRM, 1) == 0
    assert board.power(TRY, 1) == 1


def send(board: HostBoard, image: Image) -> None:
    """An image's transfer."""
    board.request(Type.BOOT_BEGIN, image.header_bytes)
    for at in (0, 1000):
        board.request(Type.BOOT_WRITE, chunk(at, image.firmware[at : at + 1000]))
    board.request(Type.BOOT_FINISH, b"")


def chunk(at: int, data: bytes) -> bytes:
    """The payload of a BOOT_WRITE."""
    return struct.pack("<II", at, zlib.crc32(data)) + data


def altered(image: Image, at: int) -> bytes:
    """A header with one bit of it flipped."""
    header = bytearray(image.header_bytes)
    header[at] ^= 1
    return bytes(header)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (release(5, 1, STRANGE).header_bytes, 18),
        (release(5, 1, board="other").header_bytes, 17),
        (release(4, 1).header_bytes, 20),
        (release(3, 1).header_bytes, 20),
        (release(5, 0).header_bytes, 22),
        (release(5, 1).header_bytes[:128] + bytes(64), 19),
        (altered(release(5, 1), 24), 19),
        (altered(release(5, 1), 80), 19),
        (altered(release(5, 1), 190), 19),
        (altered(release(5, 1), 0), 16),
        (altered(release(5, 1), 4), 16),
        (release(5, 1, size=2564).header_bytes, 16),
        (release(5, 1).header_bytes[:191], 2),
        (b"", 2),
    ],
)
def test_a_refused_image_changes_nothing(board: HostBoard, header: bytes, status: int) -> None:
    new_board(board)
    board.request(Type.BOOT_ENTER, b"")
    before = board.flash()
    with pytest.raises(RefusedError) as refused:
        board.request(Type.BOOT_BEGIN, header)
    assert refused.value.status == status
    assert board.flash() == before
    assert board.power() == 0


def test_an_image_that_was_altered_after_its_header_is_not_started(board: HostBoard) -> None:
    new_board(board)
    board.request(Type.BOOT_ENTER, b"")
    wrong = bytearray(NEW[1].firmware)
    wrong[700] ^= 4
    with pytest.raises(RefusedError) as refused:
        send(board, Image(NEW[1].header, NEW[1].signature, bytes(wrong)))
    assert refused.value.status == 25
    board.request(Type.BOOT_START, b"")
    assert board.running == 0
    assert update(board, NEW, ignore).sent_bytes == NEW[1].header.size


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (chunk(4, b"1234"), 24),
        (struct.pack("<II", 0, 0) + b"1234", 3),
        (chunk(0, b"123"), 2),
        (struct.pack("<II", 0, 0), 2),
        (b"", 2),
        (chunk(0, bytes(1504)), 24),
    ],
)
def test_writes_that_do_not_fit_are_refused(board: HostBoard, payload: bytes, status: int) -> None:
    new_board(board)
    board.request(Type.BOOT_ENTER, b"")
    for expected in (26, status):
        with pytest.raises(RefusedError) as refused:
            board.request(Type.BOOT_WRITE, payload)
        assert refused.value.status == expected
        board.request(Type.BOOT_BEGIN, NEW[1].header_bytes)
    with pytest.raises(RefusedError) as refused:
        board.request(Type.BOOT_FINISH, b"")
    assert refused.value.status == 26


def test_keys_go_forward_only(board: HostBoard) -> None:
    new_board(board)
    by_next, by_first = releases(5, NEXT), releases(6, FIRST)
    board.know(*by_next)
    update(board, by_next, ignore)
    assert board.power() == 1
    with pytest.raises(ConfigError, match="refuses this image"):
        update(board, by_first, ignore)
    assert board.running == 1  # goes on


def test_a_board_without_any_image_waits_for_one(board: HostBoard) -> None:
    board.load(flash_with(), *OLD)
    assert board.power() == NO_SLOT
    assert update(board, OLD, ignore).image == OLD[0]
    assert board.power() == 0


def test_status_describes_both_slots(board: HostBoard) -> None:
    board.load(flash_with(OLD[0], NEW[1]), *OLD, *NEW)
    assert board.power() == 1
    board.request(Type.BOOT_ENTER, b"")
    status = BootStatus.parse(board.request(Type.BOOT_STATUS, b""))
    assert (status.board, status.chunk_bytes, status.slot_bytes) == ("host", 1016, 3072)
    assert [(slot.base, slot.header) for slot in status.slots] == [(SLOTS[0], OLD[0].header), (SLOTS[1], NEW[1].header)]
    assert [(s.ready, s.tried, s.confirmed, s.abandoned, s.valid) for s in status.slots] == [
        (True,) * 3 + (False, True)
    ] * 2
    assert [slot.in_use for slot in status.slots] == [False, True]


def test_a_damaged_image_gives_way_to_the_older_one(board: HostBoard) -> None:
    flash = bytearray(flash_with(OLD[0], NEW[1]))
    flash[SLOTS[1] - BASE + 900] ^= 8
    board.load(bytes(flash), *OLD, *NEW)
    assert board.power() == 0


def test_a_trial_that_was_rolled_back_is_told(board: HostBoard) -> None:
    new_board(board)

    def reset(image: Image) -> None:
        board.power()  # the watchdog

    with pytest.raises(IdentityError, match="was not confirmed"):
        update(board, NEW, ignore, check=reset)


def run_with_cut(board: HostBoard, at: int, seed: int) -> None:
    """Cut the power at one write or erase: an image that is whole starts, and the update goes on to its end."""
    new_board(board)
    board.cut(at, seed)
    with pytest.raises(PowerCut):
        update(board, NEW, ignore)
    assert board.power() in (0, 1)  # and is whole: see HostBoard.power
    assert update(board, NEW, ignore).image == NEW[1]
    assert board.power() == 1


def count_operations(board: HostBoard) -> int:
    new_board(board)
    before = board.operations()
    update(board, NEW, ignore)
    return board.operations() - before


def test_power_cut_at_every_write_and_erase(board: HostBoard) -> None:
    operations = count_operations(board)
    assert (
        operations == 2 + 48 + 1500 // 4 - 12 + 3 + 1
    )  # sectors, header, words but erased ones, flags, the slot given up
    for at in range(1, operations + 1):
        run_with_cut(board, at, seed=at)


def test_a_cut_transfer_goes_on_where_it_ended(board: HostBoard) -> None:
    new_board(board)
    board.cut(300)
    with pytest.raises(PowerCut):
        update(board, NEW, ignore)
    board.power()
    done = update(board, NEW, ignore)
    assert done.resumed_at == 4 * (300 - 1 - 2 - 48 - 1 + 10)
    assert done.resumed_at + done.sent_bytes == done.image.header.size


def run_with_cuts(board: HostBoard, draw: random.Random, operations: int) -> None:
    """Cut the power again and again, over a slot that holds an old image, and go on each time."""
    board.load(flash_with(OLD[0], releases(3)[1]), *OLD, *NEW, *releases(3))
    board.power()
    for _ in range(draw.randrange(1, 6)):
        board.cut(draw.randrange(1, operations), draw.randrange(1 << 32))
        try:
            update(board, NEW, ignore)
        except PowerCut:
            assert board.power_through_cuts() in (0, 1)
    board.cut(0)
    assert board.power() in (0, 1)
    assert update(board, NEW, ignore).image.header.version == 5
    board.power()
    assert board.running != NO_SLOT and board.build() == NEW[board.running].header.build_id


def test_many_cuts_in_one_update(board: HostBoard) -> None:
    operations = count_operations(board)
    draw = random.Random(0)
    for _ in range(60):
        run_with_cuts(board, draw, operations)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_updates_with_many_cuts(board: HostBoard) -> None:
    operations = count_operations(board)
    draw = random.Random(1)
    for _ in range(2000):
        run_with_cuts(board, draw, operations)


@given(st.binary(min_size=192, max_size=192))
def test_no_header_of_random_bytes_is_taken(shared: HostBoard, data: bytes) -> None:
    assert check_header(shared, data) != 0


@given(st.integers(0, 191), st.integers(1, 255), st.sampled_from([FIRST, NEXT]))
def test_a_header_with_any_byte_changed_is_not_taken(shared: HostBoard, at: int, change: int, key: object) -> None:
    header = bytearray(release(5, 1, key).header_bytes)  # type: ignore[arg-type]
    assert check_header(shared, bytes(header)) == 0
    header[at] ^= change
    assert check_header(shared, bytes(header)) in (16, 17, 18, 19, 22)


def check_header(board: HostBoard, header: bytes) -> int:
    return board.ask(b"H" + struct.pack("<I", len(header)) + header, 1)[0]


requests = st.tuples(
    st.integers(0x10, 0x17),
    st.one_of(
        st.binary(max_size=64),
        st.sampled_from([NEW[1].header_bytes, OLD[1].header_bytes]),
        st.integers(0, 300).map(lambda word: chunk(4 * word, NEW[1].firmware[4 * word :][:400])),
    ),
)


@given(st.lists(requests, max_size=30))
def test_no_requests_harm_the_image_in_use(shared: HostBoard, asked: list[tuple[int, bytes]]) -> None:
    new_board(shared)
    shared.request(Type.BOOT_ENTER, b"")
    for kind, payload in asked:
        try:
            shared.request(kind, payload)
        except RefusedError as refused:
            assert refused.status in (1, 2, 3, *range(16, 27))
    assert shared.flash()[: SLOTS[1] - BASE] == flash_with(OLD[0])[: SLOTS[1] - BASE]
    assert shared.power() == 0
