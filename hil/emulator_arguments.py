"""The command line that the processes of emulated boards share."""

from __future__ import annotations

import argparse
from pathlib import Path


def emulator_parser(module: str, summary: str, flash: str) -> argparse.ArgumentParser:
    """``--board``, ``--flash`` and ``--link``.

    :param module: its name in :mod:`policyport.hil`
    :param summary: first line of its docstring
    :param flash: what the file is that it runs
    """
    parser = argparse.ArgumentParser(prog=f"python -m policyport.hil.{module}", description=summary)
    parser.add_argument("--board", required=True, help="name of a board")
    parser.add_argument("--flash", required=True, type=Path, help=flash)
    parser.add_argument("--link", choices=("pty", "socket"), default="pty", help="what the host opens [default: pty]")
    return parser


def add_profile(parser: argparse.ArgumentParser) -> None:
    """``--profile``, for emulators that can say what was executed."""
    parser.add_argument("--profile", type=Path, help="folder with markers.txt, for regions.txt [default: none]")
