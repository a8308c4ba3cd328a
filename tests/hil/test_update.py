"""Updates of an emulated board: the real bootloader and firmware, the host's real side, power cut where it hurts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ConfigError, IdentityError, RefusedError, ToolError
from policyport.deploy.board import Board, board_names, load_board
from policyport.deploy.bootloader import (
    IMAGE_ROOM_BYTES,
    build_bootloader,
    build_slot_firmware,
    factory_content,
    slots_of,
)
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.toolchain import Toolchain, find_toolchain
from policyport.deploy.vectors import Spec, random_program
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.image import FLAGS, Image, sign_image
from policyport.firmware_bridge.keys import PrivateKey
from policyport.firmware_bridge.messages import Type
from policyport.firmware_bridge.updater import enter, update
from policyport.hil.inline_board import InlineBoard
from policyport.hil.power_cuts import count_operations, cut_at

pytest.importorskip("unicorn", reason="the package unicorn is not installed")
BOARDS = [name for name in board_names() if load_board(name).bootloader is not None]


def key_of(seed: int) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return PrivateKey(key.public_key().public_bytes_raw(), key)


KEY = key_of(7)


@dataclass(frozen=True)
class Workshop:
    """What images are made of."""

    board: Board
    src: Path
    toolchain: Toolchain
    folder: Path

    def image(self, version: int, slot: int) -> Image:
        out = self.folder / f"{version}-{slot}"
        out.mkdir()
        firmware = build_slot_firmware(self.src, self.board, slot, version, self.toolchain, out)
        address = slots_of(self.board).slots[slot] + IMAGE_ROOM_BYTES
        content = firmware.bin.read_bytes()
        name, build_id = self.board.name, firmware.build_id
        return sign_image(content, KEY, board=name, address=address, version=version, build_id=build_id)


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest) -> Board:
    return load_board(request.param)


@pytest.fixture(scope="module")
def workshop(board: Board, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    try:
        toolchain = find_toolchain()
    except ToolError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("update")
    src = folder / "src"
    src.mkdir()
    write_sources(random_program(Spec((2, 2), (8, 8), ("",)), np.random.default_rng(5)), "dsp", src)
    add_device_sources(src, board)
    return Workshop(board, src, toolchain, folder)


@pytest.fixture(scope="module")
def old(workshop: Workshop) -> Image:
    return workshop.image(1, 0)


@pytest.fixture(scope="module")
def new(workshop: Workshop) -> Image:
    return workshop.image(2, 1)


@pytest.fixture(scope="module")
def factory(workshop: Workshop, old: Image) -> bytes:
    bootloader = build_bootloader(workshop.board, [KEY.public_bytes], workshop.toolchain)
    assert bootloader.flash_bytes <= slots_of(workshop.board).size
    return factory_content(workshop.board, bootloader, old.slot_content(FLAGS[:3]))


def ignore(done: float, note: str = "") -> None:
    """Progress that nobody looks at."""


@pytest.mark.slow
def test_the_bootloader_fits_with_every_compiler(workshop: Workshop) -> None:
    for name in ("gcc", "zig"):
        try:
            toolchain = find_toolchain(name)
        except ToolError:
            continue
        built = build_bootloader(workshop.board, [key_of(i).public_bytes for i in range(4)], toolchain)
        assert built.flash_bytes < 0.98 * slots_of(workshop.board).size


def test_an_update_runs_and_stays(board: Board, factory: bytes, old: Image, new: Image) -> None:
    emulated = InlineBoard(board, factory)
    bridge = Bridge(emulated)
    assert bridge.hello().build_id == old.header.build_id
    told: list[float] = []
    done = update(bridge, (new,), lambda at, note="": told.append(at))
    assert (done.resumed_at, done.sent_bytes) == (0, new.header.size)
    assert told[0] == 0 and told[-1] == new.header.size and told == sorted(told)
    assert emulated.resets == 3  # into the bootloader, to the trial, to be confirmed
    assert emulated.content[: len(factory)] == factory
    assert emulated.controller.changes_while_stale == 0
    # Instructions are counted as on a board that never held another firmware.
    fresh = InlineBoard(board, bytes(emulated.content))
    bridge.reset()
    Bridge(fresh).reset()
    assert emulated.run() == fresh.run() > 1_000_000  # before any request: its length depends on its number
    assert bridge.hello().build_id == Bridge(fresh).hello().build_id == new.header.build_id


def test_a_reset_before_the_confirmation_goes_back(board: Board, factory: bytes, old: Image, new: Image) -> None:
    emulated = InlineBoard(board, factory, counts=False)
    bridge = Bridge(emulated)

    def reset(image: Image) -> None:
        assert bridge.hello().build_id == new.header.build_id
        bridge.reset()

    with pytest.raises(IdentityError, match="not confirmed"):
        update(bridge, (new,), ignore, check=reset)
    assert bridge.hello().build_id == old.header.build_id
    assert update(bridge, (new,), ignore).sent_bytes == new.header.size


def test_an_image_that_hangs_is_reset_by_the_watchdog(
    board: Board, workshop: Workshop, factory: bytes, old: Image
) -> None:
    main = workshop.src / "main.c"
    kept = main.read_text()
    main.write_text('int main(void);\nint main(void) { for (;;) { __asm volatile("nop"); } }\n')
    try:
        hanging = workshop.image(3, 1)
    finally:
        main.write_text(kept)
    slow = dataclasses.replace(board, clock_hz=2_000)  # 33 s of the watchdog are then 65,536 instructions
    emulated = InlineBoard(slow, factory)
    bridge = Bridge(emulated)
    with pytest.raises(IdentityError, match="did not start"):
        update(bridge, (hanging,), ignore)
    assert bridge.hello().build_id == old.header.build_id
    assert emulated.resets == 3  # into the bootloader, to the trial, by the watchdog


def test_a_board_takes_no_image_of_another_key(board: Board, factory: bytes, old: Image, new: Image) -> None:
    emulated = InlineBoard(board, factory, counts=False)
    header, key = dataclasses.replace(new.header, key=key_of(8).public_bytes[:8].hex()), key_of(8)
    with pytest.raises(ConfigError, match="a key that the bootloader does not know"):
        update(Bridge(emulated), (Image(header, key.sign(header.pack()), new.firmware),), ignore)
    assert Bridge(emulated).hello().build_id == old.header.build_id
    assert emulated.power.operations == 0


def test_an_update_of_another_board_is_not_sent(board: Board, factory: bytes, new: Image) -> None:
    emulated = InlineBoard(board, factory, counts=False)
    header = dataclasses.replace(new.header, board="stm32f411")
    with pytest.raises(ConfigError, match="for another board"):
        update(Bridge(emulated), (Image(header, KEY.sign(header.pack()), new.firmware),), ignore)
    assert emulated.power.operations == 0


def test_a_firmware_without_bootloader_says_how_to_get_one(workshop: Workshop, new: Image) -> None:
    out = workshop.folder / "plain"
    out.mkdir()
    firmware = build_firmware(workshop.src, workshop.board, workshop.toolchain, out)
    bridge = Bridge(InlineBoard(workshop.board, firmware.bin.read_bytes(), counts=False))
    with pytest.raises(ConfigError, match="policyport sign --factory"):
        update(bridge, (new,), ignore)
    assert bridge.hello().build_id == firmware.build_id


def test_a_repeated_request_is_not_carried_out_twice(board: Board, factory: bytes, new: Image) -> None:
    from policyport.firmware_bridge.frame import Frame, encode

    emulated = InlineBoard(board, factory, counts=False)
    enter(Bridge(emulated))
    frame = encode(Frame(Type.BOOT_BEGIN, 9, 0, new.header_bytes))
    emulated.write(frame)
    first, operations = emulated.read(0), emulated.power.operations
    emulated.write(frame)
    assert emulated.read(0) == first
    assert emulated.power.operations == operations == 2 + 48 - new.header_bytes.count(b"\xff" * 4)


def test_the_bootloader_refuses_what_it_does_not_know(board: Board, factory: bytes) -> None:
    bridge = Bridge(InlineBoard(board, factory, counts=False))
    enter(bridge)
    for kind in (Type.INFER, Type.BOOT_CONFIRM, Type.HELLO):
        with pytest.raises(RefusedError):
            bridge.request(kind, b"")


Cuts = Callable[[int], list[int]]


def check_cuts(board: Board, factory: bytes, new: Image, choose: Cuts) -> None:
    operations = count_operations(board, factory, (new,))
    words = [new.firmware[at : at + 4] for at in range(0, new.header.size, 4)]
    written = sum(word != b"\xff" * 4 for word in words)
    assert operations == 2 + 48 - new.header_bytes.count(b"\xff" * 4) + written + 3
    cuts = choose(operations)
    done = cut_at(board, factory, (new,), cuts, 0, ignore)
    assert done.cuts == done.started_old + done.started_new == len(cuts)
    assert done.resumed == sum(1 for cut in cuts if operations - written - 3 + 1 < cut < operations)


def test_power_cuts_at_chosen_writes_and_erases(board: Board, factory: bytes, new: Image) -> None:
    check_cuts(board, factory, new, lambda count: [2, 3, count // 2, count - 2, count - 1, count])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_power_cuts_at_every_write_and_erase(board: Board, factory: bytes, new: Image) -> None:
    check_cuts(board, factory, new, lambda count: list(range(1, count + 1)))
