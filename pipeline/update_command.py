"""``policyport keys``, ``sign`` and ``update``: who may make firmware, an image of it, and that onto a board."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policyport.deploy.board import Board
    from policyport.deploy.toolchain import Toolchain
    from policyport.firmware_bridge.client import Bridge
    from policyport.firmware_bridge.image import Image
    from policyport.firmware_bridge.keys import PrivateKey

KEYS_SUMMARY = "make a key that signs firmware, or show one"
SIGN_SUMMARY = "link a deployed policy for a board's two slots, sign it, and write one update file"
UPDATE_SUMMARY = "install a signed firmware over the serial line, resuming where a transfer ended, and confirm it"
CHECKED_OBSERVATIONS = 8
LARGEST_VERSION = (1 << 32) - 1


def add_keys(parser: argparse.ArgumentParser) -> None:
    """The flags of keys."""
    below = parser.add_subparsers(title="what to do", metavar="new|show", required=True, dest="what")
    new = below.add_parser("new", help="write a private key, and its public half beside it as FILE.pub")
    new.add_argument("file", type=Path, metavar="FILE", help="the private key, readable by you alone")
    show = below.add_parser("show", help="say by which name images call a key, and its public half")
    show.add_argument("file", type=Path, metavar="FILE", help="a private or a public key")


def keys(arguments: argparse.Namespace) -> int:
    """Make or show a key.

    :raises UsageError: no key there, one that others may read, or a file that a new one would overwrite
    """
    from policyport.firmware_bridge.keys import key_id, new_key, read_public

    public = new_key(arguments.file) if arguments.what == "new" else read_public(arguments.file)
    print(f"key {key_id(public)}, public {public.hex()}")
    return 0


def add_sign(parser: argparse.ArgumentParser) -> None:
    """The flags of sign."""
    parser.add_argument("model", type=Path, metavar="DEPLOY", help="folder of a run, or of its deploy artifact")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key that signs [no default]")
    parser.add_argument(
        "--version-number",
        type=int,
        required=True,
        metavar="N",
        help="a board takes an image only over a smaller number [no default]",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="update file [default: update.ppu beside the deploy]")
    parser.add_argument(
        "--factory",
        type=Path,
        metavar="FILE",
        help="also write a new board's flash, as Intel HEX where it ends in .hex: bootloader and image [default: no]",
    )
    parser.add_argument(
        "--trust",
        type=Path,
        nargs="+",
        metavar="KEY",
        help="public keys of the factory's bootloader, the first to sign first [default: the signing key alone]",
    )


def sign(arguments: argparse.Namespace) -> int:
    """Write the update file, and the factory's flash where it is asked for.

    :raises ConfigError: a board without bootloader, or a number that is no version
    :raises UsageError: a key that does not read
    :raises ToolError: no compiler, or no package that signs
    """
    from policyport.core.errors import ConfigError
    from policyport.deploy.board import load_board
    from policyport.deploy.toolchain import find_toolchain
    from policyport.firmware_bridge.image import write_images
    from policyport.firmware_bridge.keys import read_private
    from policyport.pipeline.model_folder import find_model

    version = arguments.version_number
    if not 1 <= version <= LARGEST_VERSION:
        raise ConfigError("no such version", where="--version-number", expected=f"1 to {LARGEST_VERSION}", got=version)
    deployed = find_model(arguments.model, ("deploy",), "no firmware here", "policyport deploy MODEL --board stm32f405")
    board = load_board(deployed.manifest.figures["board"])
    key, toolchain = read_private(arguments.key), find_toolchain()
    trusted = _trusted(arguments.trust, key)
    images = build_images(deployed.path / "src", board, version, key, toolchain)
    out = arguments.out or deployed.path.parent / "update.ppu"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_images(out, images)
    header = images[0].header
    print(f"{out}: version {version} for {board.name}, {header.size:,} bytes, key {header.key}")
    if arguments.factory is not None:
        _write_factory(arguments.factory, board, images[0], trusted, toolchain)
    return 0


def build_images(src: Path, board: Board, version: int, key: PrivateKey, toolchain: Toolchain) -> tuple[Image, ...]:
    """A signed image for each of a board's slots.

    :param src: folder of sources as ``deploy`` leaves it
    :raises ConfigError: the board has no bootloader
    :raises ToolError: the compiler fails, or the firmware is larger than a slot
    """
    import tempfile

    from policyport.deploy.bootloader import IMAGE_ROOM_BYTES, build_slot_firmware, slots_of
    from policyport.firmware_bridge.image import sign_image

    images = []
    for slot, base in enumerate(slots_of(board).slots):
        with tempfile.TemporaryDirectory(prefix="policyport-sign-") as folder:
            built = build_slot_firmware(src, board, slot, version, toolchain, Path(folder))
            content, build_id = built.bin.read_bytes(), built.build_id
        address = base + IMAGE_ROOM_BYTES
        images.append(sign_image(content, key, board=board.name, address=address, version=version, build_id=build_id))
    return tuple(images)


def _trusted(paths: list[Path] | None, key: PrivateKey) -> list[bytes]:
    """The public keys of a factory's bootloader, [32] each."""
    from policyport.core.errors import ConfigError
    from policyport.firmware_bridge.keys import key_id, read_public

    trusted = [read_public(path) for path in paths] if paths else [key.public_bytes]
    if key.public_bytes not in trusted:
        raise ConfigError(
            "the factory's bootloader would not start its own image",
            where="--trust",
            expected=f"the signing key {key_id(key.public_bytes)} among them",
            got=", ".join(key_id(public) for public in trusted),
        )
    return trusted


def _write_factory(path: Path, board: Board, image: Image, trusted: list[bytes], toolchain: Toolchain) -> None:
    from policyport.deploy.bootloader import build_bootloader, factory_content
    from policyport.deploy.firmware import intel_hex
    from policyport.firmware_bridge.image import FLAGS

    bootloader = build_bootloader(board, trusted, toolchain)
    content = factory_content(board, bootloader, image.slot_content(FLAGS[:3]))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".hex":
        path.write_text(intel_hex(content, board.flash.base))
    else:
        path.write_bytes(content)
    number = f"{len(trusted)} public key{'s' if len(trusted) > 1 else ''}"
    print(f"{path}: bootloader of {bootloader.flash_bytes:,} bytes with {number}, and this image")


def add_update(parser: argparse.ArgumentParser) -> None:
    """The flags of update."""
    parser.add_argument("image", type=Path, metavar="IMAGE.ppu", help="update file of policyport sign")
    parser.add_argument("--port", default="", help="pyserial URL of the board [default: an emulated one]")
    parser.add_argument(
        "--flash",
        type=Path,
        metavar="FILE",
        help="flash of the emulated board, kept [default: factory.bin beside IMAGE]",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="DEPLOY",
        help="folder of the deploy artifact, whose integers the new image must compute to be confirmed [default: none]",
    )
    parser.add_argument(
        "--wait-s", type=float, default=0.0, metavar="S", help="seconds to wait for a port that is held [default: 0]"
    )


def update(arguments: argparse.Namespace) -> int:
    """Install, start and confirm; the same line resumes what was interrupted.

    :raises ConfigError: the board refuses the image, or has no bootloader
    :raises UsageError: no update file, or no flash of an emulated board
    :raises IdentityError: the new image did not start or was not confirmed; the old one goes on
    :raises ParityError: the new image's integers differ; it is not confirmed
    :raises BoardError: no board, a busy port, no answer
    """
    from policyport.core.errors import BoardError
    from policyport.core.progress import progress
    from policyport.deploy.board import load_board
    from policyport.firmware_bridge import updater
    from policyport.firmware_bridge.client import Bridge
    from policyport.firmware_bridge.image import read_images
    from policyport.hil.rig import EmulatedRig, Rig, SerialRig

    images = read_images(arguments.image)
    board = load_board(images[0].header.board)
    flash = arguments.flash or arguments.image.with_name("factory.bin")
    if not arguments.port:
        _require_flash(flash, board)
    rig: Rig = SerialRig(board, arguments.port) if arguments.port else EmulatedRig(board, flash, "unicorn", keep=True)
    with rig:
        try:
            with (
                Bridge.open(rig.url, baud=board.uart.baud, wait_s=arguments.wait_s) as bridge,
                progress("bytes", images[0].header.size) as advance,
            ):
                done = updater.update(bridge, images, advance, _checker(arguments.check, bridge))
        except BoardError:
            rig.check_alive()
            raise
    header = done.image.header
    print(
        f"{board.name} runs version {header.version}, build {header.build_id[:12]}, and it is confirmed: "
        f"{done.sent_bytes:,} bytes sent, {done.resumed_at:,} were there"
    )
    return 0


def _require_flash(path: Path, board: Board) -> None:
    """A file that is taken for a board's flash becomes as long as one: so it has to be one.

    :raises UsageError: no such file, no flash with an image in a slot, or another board's
    """
    from policyport.core.errors import UsageError
    from policyport.deploy.bootloader import slots_of
    from policyport.firmware_bridge.image import BOARD_NAME, MAGIC

    content = path.read_bytes() if path.is_file() else b""
    places = [base - board.flash.base for base in slots_of(board).slots]
    held = [content[place:][BOARD_NAME].rstrip(b"\0") for place in places if content.startswith(MAGIC, place)]
    if len(content) != board.flash.size and not held:
        raise UsageError(
            "no flash of an emulated board with a bootloader",
            where=path,
            expected=f"{MAGIC.decode()} where a slot begins, at {' or '.join(f'{place:#x}' for place in places)}",
            got=f"{len(content)} bytes" if content else "nothing",
            cure="policyport sign DEPLOY --key FILE --version-number 1 --factory FLASH writes one; or name a --port",
        )
    if held and board.name.encode() not in held:
        raise UsageError("the flash of another board", where=path, expected=board.name, got=held[0].decode("latin-1"))


def _checker(deployed: Path | None, bridge: Bridge) -> Callable[[Image], None] | None:
    """Compares the integers of the image that runs with the artifact's, before it is confirmed."""
    if deployed is None:
        return None
    import numpy as np
    from policyport.core.progress import progress
    from policyport.deploy.program import read_program
    from policyport.hil import parity
    from policyport.pipeline.model_folder import find_model

    artifact = find_model(deployed, ("deploy",), "no deployed policy to compare with", "policyport deploy MODEL")
    program = read_program(artifact.path)
    with np.load(artifact.file("vectors.npz")) as arrays:
        inputs = arrays["input"][:CHECKED_OBSERVATIONS].astype(np.int64)

    def check(image: Image) -> None:
        with progress("parity", len(inputs)) as advance:
            figures = parity.compare(bridge, program, inputs, advance)
        parity.require_equal(figures, artifact.path / "vectors.npz")

    return check
