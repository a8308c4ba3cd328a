"""The table of supported boards in the documentation, from their TOML files.

python -m policyport.pipeline.boards_page docs/boards.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from policyport.deploy.board import Board, board_names, load_board
from policyport.pipeline.figures import write_blocks

BLOCK = "boards"


def boards_table() -> str:
    """Every board as a row of Markdown."""
    lines = [
        "| board | what | core | MHz | flash | RAM | UART port | flashed by | its port was run on |",
        "|---|---|---|---:|---:|---:|---|---|---|",
    ]
    return "\n".join([*lines, *(_row(load_board(name)) for name in board_names())])


def _row(board: Board) -> str:
    updates = ["update"] if board.bootloader is not None else []
    runners = ", ".join((*(runner.name for runner in board.runners), "emulator", *updates))
    return (
        f"| `{board.name}` | {board.description} | {board.core} | {board.clock_hz / 1e6:g}"
        f" | {board.flash} | {board.ram} | {board.uart.driver}"
        f" | {runners} | {board.verified} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into Markdown files."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m policyport.pipeline.boards_page", description=summary)
    parser.add_argument("pages", type=Path, nargs="+", help=f"Markdown files with <!-- figures:{BLOCK} --> markers")
    write_blocks(parser.parse_args(arguments).pages, {BLOCK: boards_table()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
