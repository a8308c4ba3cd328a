"""Measured tables of the page on action units: `python -m policyport.pipeline.au_figures docs/au.md`.

Runs recipes/au.toml, which measures the same network at 8 and at 4 bits on the emulated board, where that is not done,
and takes the study of the losses from ``runs/au-study`` (``policyport study au --out runs/au-study``): all cells there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policyport.pipeline.au_study import markdown, recorded, rows_of
from policyport.pipeline.figures import write_blocks

RESULTS = {8: Path("runs/au/hil/result.json"), 4: Path("runs/au/4bit/hil/result.json")}
"""Width of the weights to where it is measured."""

STUDY = Path("runs/au-study/cells")


def results_table(results: dict[int, dict[str, Any]]) -> str:
    """Width of the weights to its ``result.json``, as Markdown."""
    lines = [
        "| weights | mean F1, float32 | on the board | mean AUC | calls as float32 | parity | instructions"
        " | flash, policy of it | arena |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for bits, result in results.items():
        found, size, count = result["recognition"], result["footprint"], result["latency"]["inference"]
        equal = "every layer equal" if result["parity"]["equal"] else "differs"
        lines.append(
            f"| {bits} bits | {found['float_f1']:.3f} | {found['board_f1']:.3f} | {found['board_auc']:.3f}"
            f" | {100 * found['agreement']:.2f} % | {equal} | {count['p50']:,}"
            f" | {size['flash_bytes']:,} B, {size['policy_flash_bytes']:,} B | {size['arena_bytes']:,} B |"
        )
    return "\n".join(lines)


def units_table(results: dict[int, dict[str, Any]]) -> str:
    """F1 of each unit, a column per width."""
    labels = {bits: result["recognition"]["labels"] for bits, result in results.items()}
    first = next(iter(labels.values()))
    lines = [
        f"| unit | pictures | float32 | {' | '.join(f'{bits} bits' for bits in labels)} |",
        f"|{'---|' * (3 + len(labels))}",
    ]
    for index, label in enumerate(first):
        columns = [label["float_f1"], *(found[index]["board_f1"] for found in labels.values())]
        words = ("" if value is None else f"{value:.3f}" for value in columns)
        lines.append(f"| {label['name']} | {label['positives']} | {' | '.join(words)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of a Markdown file."""
    from policyport.pipeline import cli

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:au --> markers")
    given = parser.parse_args(arguments)
    code = cli.main(["run", "recipes/au.toml"])
    if code:
        return code
    results = {bits: json.loads(path.read_text()) for bits, path in RESULTS.items()}
    first = results[8]
    board, pictures = first["board"], first["recognition"]["pictures"]
    note = (
        f"{first['model']} by recipes/au.toml, {pictures} rendered pictures of persons that it was not "
        f"trained on, each recognized by the emulated {board['name']} ({board['core']}, {board['emulator']})."
    )
    blocks = {"au": "\n\n".join((note, results_table(results), units_table(results)))}
    if STUDY.is_dir():
        blocks["au-study"] = markdown(rows_of(recorded(STUDY)))
    write_blocks(given.pages, blocks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
