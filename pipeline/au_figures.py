"""Measured tables of the page on action units: `python -m policyport.pipeline.au_figures docs/au.md`.

Trains by recipes/au.toml where that is not done, measures the same network at 8 and at 4 bits on the emulated board,
and takes the study of the losses from ``runs/au-study`` (``policyport study au --out runs/au-study``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policyport.pipeline.figures import replace_block

TRAINED, STUDY = Path("runs/au/train"), Path("runs/au-study/study.md")
WIDTHS = (8, 4)
PICTURES = "512"


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


def measure(bits: int) -> dict[str, Any]:
    """Quantize, compile, flash and measure the trained network; what is done is skipped."""
    from policyport.pipeline import cli

    folder = Path(f"runs/au-{bits}bit")
    steps = (
        ["quantize", str(TRAINED), "--weight-bits", str(bits), "--activations", "int8"],
        ["deploy", str(folder / "quantize"), "--board", "mps2-an386"],
        ["flash", str(folder / "deploy")],
        [
            "hil",
            str(folder / "deploy"),
            "--pictures",
            PICTURES,
            "--parity-observations",
            "8",
            "--latency-observations",
            "8",
        ],
    )
    for step in steps:
        code = cli.main([*step, "--out", str(folder / step[0])])
        if code:
            raise SystemExit(code)
    table: dict[str, Any] = json.loads((folder / "hil/result.json").read_text())
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of a Markdown file."""
    from policyport.pipeline import cli

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:au --> markers")
    given = parser.parse_args(arguments)
    code = cli.main(["run", "recipes/au.toml", "--until", "train"])
    if code:
        return code
    results = {bits: measure(bits) for bits in WIDTHS}
    board, pictures = results[WIDTHS[0]]["board"], results[WIDTHS[0]]["recognition"]["pictures"]
    note = (
        f"{results[WIDTHS[0]]['model']} by recipes/au.toml, {pictures} rendered pictures of persons that it was not "
        f"trained on, each recognized by the emulated {board['name']} ({board['core']}, {board['emulator']})."
    )
    blocks = {"au": "\n\n".join((note, results_table(results), units_table(results)))}
    if STUDY.is_file():
        blocks["au-study"] = STUDY.read_text().rstrip()
    for page in given.pages:
        text = page.read_text()
        for name, content in blocks.items():
            text = replace_block(text, name, content)
        page.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
