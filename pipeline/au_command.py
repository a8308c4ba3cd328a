"""``policyport au``: action units of the faces in pictures, by the float network, its integers, or a board."""

from __future__ import annotations

import argparse
import csv
import sys
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TextIO

SUMMARY = "find faces in pictures and say which action units they show"
RUN = Path("runs/au")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("source", metavar="PICTURES", help="an image, a folder of images, a film, or camera:0")
    parser.add_argument(
        "--model",
        type=Path,
        default=RUN,
        metavar="DIR",
        help=f"folder of a run, or of a train, quantize or deploy artifact in it [default: {RUN}]",
    )
    parser.add_argument(
        "--by",
        choices=("float", "integers", "board"),
        default="float",
        help="who looks: the float network, its integers in numpy, or the board [default: float]",
    )
    parser.add_argument("--port", default="", help="pyserial URL of the flashed board [default: an emulated one]")
    parser.add_argument(
        "--wait-s", type=float, default=0.0, help="seconds to wait for a port that another process holds [default: 0]"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the rows here [default: standard output]")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="write each picture with its faces here")
    parser.add_argument(
        "--confidence", type=_share, default=0.5, metavar="SHARE", help="least confidence of a face [default: 0.5]"
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to 1")
    return value


def execute(arguments: argparse.Namespace) -> int:
    """Write a row per face and frame.

    :raises UsageError: pictures or a model that are not there, or a model that sees no action units
    :raises ToolError: a package that finds faces or reads films is not installed
    :raises BoardError: no board, a busy port, no answer
    """
    from policyport.pipeline.au import Shown, annotate, columns, looking, recognize, row
    from policyport.pipeline.au_pictures import pictures
    from policyport.train.faces.finder import FaceFinder

    seen = faces = 0
    with ExitStack() as stack:
        policy = stack.enter_context(looking(arguments.model, arguments.by, arguments.port, arguments.wait_s))
        finder = FaceFinder(arguments.confidence)
        found_pictures = pictures(arguments.source)
        first = next(found_pictures)  # before anything is written: there may be none
        stream = sys.stdout if arguments.out is None else stack.enter_context(_opened(arguments.out))
        rows = csv.DictWriter(stream, columns(policy.task))
        rows.writeheader()
        for picture in chain([first], found_pictures):
            found = finder(picture.pixels)
            shown = [Shown(face, *recognize(policy, picture.pixels, face)) for face in found]
            rows.writerows(row(policy.task, picture, number, face) for number, face in enumerate(shown))
            stream.flush()
            if arguments.annotate:
                annotate(policy.task, picture, shown, arguments.annotate)
            seen, faces = seen + 1, faces + len(found)
    print(f"{faces} faces in {seen} pictures", file=sys.stderr)
    return 0


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", newline="")
