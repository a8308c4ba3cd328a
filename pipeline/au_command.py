"""``policyport au``: action units of the faces in pictures, by the float network, its integers, or a board."""

from __future__ import annotations

import argparse
import csv
import sys
from contextlib import ExitStack
from pathlib import Path

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
        help="who looks: the float network, its integers in numpy, or the board that was flashed [default: float]",
    )
    parser.add_argument("--port", default="", help="pyserial URL of the board [default: the emulated one]")
    parser.add_argument(
        "--wait-s", type=float, default=0.0, help="seconds to wait for a port that another process holds [default: 0]"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the rows here [default: standard output]")
    parser.add_argument("--annotate", type=Path, metavar="DIR", help="write each picture with its faces here")
    parser.add_argument("--confidence", type=float, default=0.5, help="least confidence of a face [default: 0.5]")


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
        stream = sys.stdout if arguments.out is None else stack.enter_context(arguments.out.open("w", newline=""))
        rows = csv.DictWriter(stream, columns(policy.task))
        rows.writeheader()
        for picture in pictures(arguments.source):
            found = finder(picture.pixels)
            shown = [Shown(face, *recognize(policy, picture.pixels, face)) for face in found]
            rows.writerows(row(policy.task, picture, number, face) for number, face in enumerate(shown))
            stream.flush()
            if arguments.annotate:
                annotate(policy.task, picture, shown, arguments.annotate)
            seen, faces = seen + 1, faces + len(found)
    print(f"{faces} faces in {seen} pictures", file=sys.stderr)
    return 0
