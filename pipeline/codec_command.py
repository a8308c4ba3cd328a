"""``policyport encode`` and ``policyport decode``: a picture to a coded file, by integers or by a board, and back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policyport.core.artifact import Artifact
    from policyport.core.codec_picture import Picture
    from policyport.hil.codec import PictureEncoder

ENCODE_SUMMARY = "code a picture as the board's encoder does, by its integers here or on the board"
DECODE_SUMMARY = "make a picture of a coded file, also of one that was cut short"
RUN = Path("runs/codec")
CURE = "policyport run recipes/codec.toml"
HIGHEST = 15


def add_encode(parser: argparse.ArgumentParser) -> None:
    """The flags of encode."""
    parser.add_argument("source", type=Path, metavar="IN.png", help="a picture of any size, grey or in colour")
    _add_out(parser, "OUT.ppc", "the coded file")
    parser.add_argument(
        "--quality", type=int, default=6, metavar="0..15", help="from coarse to fine quantizer steps [default: 6]"
    )
    parser.add_argument(
        "--on-board",
        action="store_true",
        help="send the rows to the board that was flashed, and write what it codes [default: no]",
    )
    parser.add_argument("--port", default="", help="pyserial URL of the board [default: the emulated one]")
    parser.add_argument(
        "--wait-s", type=float, default=0.0, help="seconds to wait for a port that another process holds [default: 0]"
    )


def add_decode(parser: argparse.ArgumentParser) -> None:
    """The flags of decode."""
    parser.add_argument("source", type=Path, metavar="IN.ppc", help="a coded file")
    _add_out(parser, "OUT.png", "the picture, of a format that its suffix names")


def _add_out(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    parser.add_argument("out", type=Path, metavar=name, help=what)
    parser.add_argument(
        "--model",
        type=Path,
        default=RUN,
        metavar="DIR",
        help=f"folder of a run, or of an artifact in it [default: {RUN}]",
    )


def encode(arguments: argparse.Namespace) -> int:
    """Write the file, and say what it takes.

    :raises UsageError: no picture there, or no such quality
    :raises ArtifactError: no model there
    :raises BoardError: no board, a busy port, no answer
    """
    from policyport.core.errors import UsageError
    from policyport.hil.codec import PictureEncoder
    from policyport.pipeline.model_folder import find_model

    if not 0 <= arguments.quality <= HIGHEST:
        raise UsageError("no such quality", where="--quality", expected=f"0 to {HIGHEST}", got=arguments.quality)
    picture = read_picture(arguments.source)
    deployed = find_model(arguments.model, ("deploy",), "no image encoder here", CURE)
    encoder = PictureEncoder.open(deployed)
    if arguments.on_board:
        data = _on_board(deployed, encoder, picture, arguments)
    else:
        data = encoder.encode(picture, arguments.quality)
    _write(arguments.out, data)
    pixels = picture.shape[0] * picture.shape[1]
    print(f"{len(data):,} bytes, {8 * len(data) / pixels:.3f} bits per pixel", file=sys.stderr)
    return 0


def decode(arguments: argparse.Namespace) -> int:
    """Write the picture; of a file that was cut short or altered it says so.

    :raises UsageError: no file there, or a picture format that cannot be written
    :raises ArtifactError: no model there, or a file that is no picture of it
    """
    from PIL import Image
    from policyport.core.errors import UsageError
    from policyport.hil.codec import PictureDecoder
    from policyport.pipeline.model_folder import find_model

    if not arguments.source.is_file():
        raise UsageError("no such file", where=arguments.source, expected="a .ppc file of policyport encode")
    model = find_model(arguments.model, ("deploy", "quantize", "train"), "no image decoder here", CURE)
    picture, problem = PictureDecoder(model.path).decode(arguments.source.read_bytes(), arguments.source)
    try:
        Image.fromarray(picture).save(arguments.out)
    except (OSError, ValueError) as error:
        raise UsageError("the picture cannot be written", where=arguments.out, got=error) from error
    if problem:
        print(f"policyport: {arguments.source}: {problem}: a picture in less detail was written", file=sys.stderr)
    return 0


def read_picture(path: Path) -> Picture:
    """A picture file, [rows, columns] where it is grey, else [rows, columns, 3]; transparency is left out.

    :raises UsageError: there is none, or it does not read as one
    """
    import numpy as np
    from PIL import Image
    from policyport.core.errors import UsageError

    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "LA")
            return np.array(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError) as error:
        raise UsageError("no picture that reads", where=path, got=error) from error


def _on_board(deployed: Artifact, encoder: PictureEncoder, picture: Picture, arguments: argparse.Namespace) -> bytes:
    from policyport.core.progress import progress
    from policyport.deploy.board import load_board
    from policyport.firmware_bridge.client import Bridge
    from policyport.hil.rig import open_rig

    board = load_board(deployed.manifest.config["board"])
    flashed = deployed.path.parent / "flash" / "flash.bin"
    with (
        open_rig(board, flashed, port=arguments.port, emulator="auto") as rig,
        Bridge.open(rig.url, wait_s=arguments.wait_s) as bridge,
        progress("rows", picture.shape[0]) as advance,
    ):
        data, ticks = encoder.encode_on_board(bridge, picture, arguments.quality, advance)
    count = rig.instructions(ticks, 0)
    print(f"{count:,} {rig.unit}, {count / (picture.shape[0] * picture.shape[1]):.1f} per pixel", file=sys.stderr)
    return data


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".partial")
    fresh.write_bytes(data)
    fresh.replace(path)
