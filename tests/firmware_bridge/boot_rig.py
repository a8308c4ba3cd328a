"""A board whose bootloader runs on this machine: flash in RAM, power that can be cut, two releases to install."""

from __future__ import annotations

import dataclasses
import random
import shutil
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from policyport.core.errors import RefusedError
from policyport.deploy.board import Board, Bootloader, Region, load_board
from policyport.deploy.bootloader import BOOT, DEVICE, MONOCYPHER, boot_header
from policyport.firmware_bridge.image import FLAGS, Image, sign_image
from policyport.firmware_bridge.keys import PrivateKey
from policyport.firmware_bridge.messages import Type

HERE = Path(__file__).parent
BASE = 0x08000000
SECTORS = (1024, 1024, 1024, 2048, 1024, 2048)
SLOTS = (BASE + 2048, BASE + 5120)
SLOT_BYTES = 3072
NO_SLOT = 0xFF
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
ENTER, TRY, CONFIRM = 1, 2, 3
"""Commands in the mailbox."""

BOARD: Board = dataclasses.replace(
    load_board("stm32f405"),
    name="host",
    flash=Region(BASE, sum(SECTORS)),
    bootloader=Bootloader("host", "host", 2048, SECTORS, SLOTS, SLOT_BYTES),
)


class PowerCut(Exception):
    """The board's power has gone."""


def key_of(seed: int) -> PrivateKey:
    """A key that is the same each time."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return PrivateKey(key.public_key().public_bytes_raw(), key)


FIRST, NEXT, STRANGE = key_of(1), key_of(2), key_of(3)
"""The key in use, the one after it, and one that the bootloader does not know."""


def firmware(version: int, size: int = 1500) -> bytes:
    """Bytes with runs that look erased, at their end too."""
    data = bytearray(random.Random(version).randbytes(size))
    data[400:440] = b"\xff" * 40
    data[-8:] = b"\xff" * 8
    return bytes(data)


def release(version: int, slot: int, key: PrivateKey = FIRST, board: str = "host", size: int = 1500) -> Image:
    """A signed image for a slot."""
    build_id = f"{version:030x}{slot:02x}"
    address = SLOTS[slot] + 512
    return sign_image(firmware(version, size), key, board=board, address=address, version=version, build_id=build_id)


def releases(version: int, key: PrivateKey = FIRST) -> tuple[Image, ...]:
    """An update: an image for each slot."""
    return tuple(release(version, slot, key) for slot in range(2))


def flash_with(*images: Image) -> bytes:
    """A flash with confirmed images."""
    content = bytearray(b"\xff" * sum(SECTORS))
    for image in images:
        at = image.header.address - 512 - BASE
        data = image.slot_content(FLAGS[:3])
        content[at : at + len(data)] = data
    return bytes(content)


def compile_boot(target: Path, flags: tuple[str, ...]) -> Path:
    """The executable of ``boot_host.c`` with the bootloader's core."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler is not None
    (target.parent / "pp_boot_build.h").write_text(boot_header(BOARD, [FIRST.public_bytes, NEXT.public_bytes]))
    sources = [HERE / "boot_host.c", *(BOOT / name for name in ("pp_boot.c", "pp_image.c", "pp_sha2.c"))]
    includes = [f"-I{path}" for path in (target.parent, HERE, BOOT, DEVICE, MONOCYPHER)]
    strict = ["-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror"]
    vendored = target.with_suffix(".o")  # not ours to warn of
    subprocess.run([compiler, "-O1", "-c", str(MONOCYPHER / "monocypher.c"), "-o", str(vendored)], check=True)
    command = [compiler, "-std=c99", "-O1", *strict, *flags, *includes, *map(str, sources), str(DEVICE / "pp_frame.c")]
    subprocess.run([*command, str(vendored), "-o", str(target)], check=True)
    return target


class HostBoard:
    """The board, as :func:`policyport.firmware_bridge.updater.update` sees one.

    :param executable: what :func:`compile_boot` made
    """

    def __init__(self, executable: Path) -> None:
        self._process = subprocess.Popen([str(executable)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.running = NO_SLOT
        self.trial = False
        self.good: dict[tuple[bytes, int], str] = {}
        """Firmware and its address to its build id: what may be started."""

    def close(self) -> int:
        """End it; the exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(10)
        self._process.stdout.close()
        return code

    def ask(self, command: bytes, reply_bytes: int = 0) -> bytes:
        """A command of ``boot_host.c``, and so many bytes behind its K."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(command)
        self._process.stdin.flush()
        first = self._process.stdout.read(1)
        if first == b"X":
            raise PowerCut
        assert first == b"K", "the bootloader ended"
        return self._process.stdout.read(reply_bytes)

    def load(self, flash: bytes, *known: Image) -> None:
        """Fill the flash; of ``known`` it may start what is whole."""
        self.ask(b"L" + flash)
        self.good = {}
        self.know(*known)
        self.cut(0)

    def know(self, *images: Image) -> None:
        """Add images that may be started."""
        self.good |= {(image.firmware, image.header.address): image.header.build_id for image in images}

    def flash(self) -> bytes:
        """The flash's content."""
        return self.ask(b"D", sum(SECTORS))

    def cut(self, at: int, seed: int = 1) -> None:
        """Cut the power at so many writes and erases from here; 0 for never."""
        self.ask(b"C" + struct.pack("<II", at, seed))

    def operations(self) -> int:
        """Writes and erases so far."""
        return int.from_bytes(self.ask(b"N", 4), "little")

    def power(self, command: int = 0, slot: int = NO_SLOT) -> int:
        """Start the board; the slot whose image runs. What runs must be an image that is known and whole."""
        self.running = NO_SLOT
        self.running, self.trial = self.ask(b"P" + bytes((command, slot)), 2)
        if self.running != NO_SLOT:
            assert self.build() is not None, "an image was started that is not whole"
        return self.running

    def power_through_cuts(self) -> int:
        """Start the board; where its start was cut short, once more, as then nothing is asked of it."""
        try:
            return self.power()
        except PowerCut:
            return self.power()

    def build(self) -> str | None:
        """Build id of the image that runs; None where it is none that is known."""
        address = SLOTS[self.running] + 512
        flash = self.flash()
        found = [
            build
            for (data, where), build in self.good.items()
            if where == address and flash[address - BASE :].startswith(data)
        ]
        return found[0] if found else None

    def hello(self) -> Any:
        """What the firmware answers."""
        if self.running == NO_SLOT:
            raise RefusedError("no", status=1)
        return SimpleNamespace(build_id=self.build())

    def request(self, kind: int, payload: bytes, timeout_s: float | None = None) -> bytes:
        """One request to the bootloader, or to the firmware's side of an update."""
        if self.running != NO_SLOT:
            commands = {Type.BOOT_ENTER: ENTER, Type.BOOT_CONFIRM: CONFIRM}
            if kind not in commands:
                raise RefusedError("no", status=1)
            self.power(commands[Type(kind)], self.running)
            return b""
        status, count = struct.unpack("<BH", self.ask(b"R" + struct.pack("<BH", kind, len(payload)) + payload, 3))
        reply = self._process.stdout.read(count)  # type: ignore[union-attr]
        if status:
            raise RefusedError("no", status=status, got=status)
        if kind == Type.BOOT_START:
            slot = self.ask(b"T", 1)[0]
            self.power(TRY if slot != NO_SLOT else 0, slot)
        return reply

    def restart(self, kind: int, timeout_s: float | None = None) -> None:
        """A request after which a firmware starts."""
        self.request(kind, b"")
