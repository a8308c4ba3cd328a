"""Measured tables of the documentation: runs what they show and writes them between their markers.

    python -m policyport.pipeline.figures README.md docs/bench.md

The recipes' results come from their runs under ``runs/``, the comparison from ``runs/bench``; both are made first
where they are missing or stale.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RECIPES = ("cartpole", "pendulum", "dqn")


def results_table(results: Sequence[dict[str, Any]]) -> str:
    """The recipes' results as Markdown, from their ``result.json``."""
    lines = [
        "| policy | float32 return | return on the board | actions as float32 | parity | instructions p50 (max)"
        " | flash, policy of it | RAM, policy of it | stack used |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        loop, count, size = result["loop"], result["latency"]["inference"], result["footprint"]
        equal = "every layer equal" if result["parity"]["equal"] else "differs"
        agreement = "" if loop["agreement"] is None else f"{100 * loop['agreement']:.2f} %"
        lines.append(
            f"| {result['model']} | {_mean(loop['float_returns'])} | {_mean(loop['board_returns'])} | {agreement}"
            f" | {equal} | {count['p50']:,} ({count['max']:,})"
            f" | {size['flash_bytes']:,} B, {size['policy_flash_bytes']:,} B"
            f" | {size['ram_bytes']:,} B, {size['policy_ram_bytes']:,} B"
            f" | {result['memory']['stack_used_bytes']:,} B |"
        )
    board = results[0]["board"]
    note = f"Emulated {board['name']} ({board['core']}, {board['emulator']}); 20 seeded episodes each."
    return "\n".join([*lines, "", note])


def _mean(returns: Sequence[float]) -> str:
    import numpy as np

    spread = np.std(returns, ddof=1) if len(returns) > 1 else 0.0
    return f"{np.mean(returns):.1f} ± {spread:.1f}"


def replace_block(text: str, name: str, content: str) -> str:
    """The text with what lies between the markers of block ``name`` replaced."""
    pattern = re.compile(rf"(<!-- figures:{name} -->\n).*?(<!-- /figures:{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def write_blocks(pages: Iterable[Path], blocks: Mapping[str, str]) -> None:
    """Replace each block in the Markdown files that have it."""
    for page in pages:
        text = page.read_text()
        for name, content in blocks.items():
            text = replace_block(text, name, content)
        page.write_text(text)


def _boards() -> tuple[str, ...]:
    """What a benchmark takes by itself, and those that run Linux, where the emulator of their programs is installed."""
    from policyport.deploy.board import board_names, load_board
    from policyport.hil.qemu_user_board import QEMU
    from policyport.pipeline.bench import Request, find_boards

    linux = [name for name in board_names() if load_board(name).linux and shutil.which(QEMU)]
    return (*(board.name for board in find_boards(Request(Path()))), *linux)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of Markdown files."""
    from policyport.pipeline import cli
    from policyport.pipeline.bench import Request, run_bench
    from policyport.pipeline.bench_command import say
    from policyport.pipeline.bench_output import NOTES, page_markdown, write_files
    from policyport.pipeline.bench_peers import load_peers
    from policyport.pipeline.bench_tables import markdown, summary_table

    parser = argparse.ArgumentParser(
        prog="python -m policyport.pipeline.figures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:NAME --> markers")
    given = parser.parse_args(arguments)
    results = []
    for recipe in RECIPES:
        code = cli.main(["run", f"recipes/{recipe}.toml"])
        if code:
            return code
        results.append(json.loads(Path("runs", recipe, "hil", "result.json").read_text()))
    rows = run_bench(Request(Path("runs/bench"), boards=_boards()), say)
    write_files(rows, Path("runs/bench"))
    peers = load_peers()
    blocks = {
        "results": results_table(results),
        "peers": f"{markdown(summary_table(rows, peers))}\n\n{NOTES[0]}",
        "bench": page_markdown(rows, peers),
    }
    write_blocks(given.pages, blocks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
