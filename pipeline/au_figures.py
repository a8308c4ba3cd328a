"""Measured tables of the page on action units: `python -m policyport.pipeline.au_figures docs/au.md`.

Runs the recipes, each of which measures its network at 8 and at 4 bits on the emulated board, where that is not done.
Takes the study of the losses from ``runs/au-study`` (``policyport study au --out runs/au-study``): every setting that
has three seeds or more there; one that has not keeps its row of the page.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.artifact import open_artifact
from policyport.core.errors import UsageError
from policyport.pipeline.au_study import REGIMES, VARIANTS, markdown, recorded, rows_of, units_markdown
from policyport.pipeline.figures import write_blocks
from policyport.pipeline.recipe import Recipe, read_recipe

RECIPES = (Path("recipes/au.toml"), Path("recipes/au-depthwise.toml"))
STUDY = Path("runs/au-study/cells")
SEEDS = 3
"""What a setting of the study has at least on the page."""


@dataclass(frozen=True)
class Measured:
    """One network at one width of its weights."""

    recipe: str
    parameters: int
    """Weights and biases."""

    weight_bits: int
    result: dict[str, Any]
    """Its ``result.json``."""


def measured(recipe: Recipe) -> list[Measured]:
    """What a recipe and its variants found, from their folders.

    :raises ArtifactError: a run that is not finished
    :raises UsageError: a recipe that trains no network for action units
    """
    if recipe.task != "au":
        raise UsageError("no recipe for action units", where=recipe.path, expected='task = "au"', got=recipe.task)
    parameters = open_artifact(recipe.folder / "train", "train").manifest.figures["parameters"]
    folders = {recipe.folder: recipe, **{recipe.folder / other.name: other for other in recipe.variants}}
    return [
        Measured(
            recipe.path.name,
            parameters,
            one.configs["quantize"].weight_bits,
            json.loads(open_artifact(folder / "hil", "hil").file("result.json").read_text()),
        )
        for folder, one in folders.items()
    ]


def results_table(found: Sequence[Measured]) -> str:
    """A row per network and width of its weights, as Markdown."""
    lines = [
        "| network | weights | mean F1, float32 | on the board | mean AUC | calls as float32 | parity | instructions"
        " | flash, policy of it | arena |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        seen, size, count = one.result["recognition"], one.result["footprint"], one.result["latency"]["inference"]
        equal = "every layer equal" if one.result["parity"]["equal"] else "differs"
        lines.append(
            f"| {one.result['model']} | {one.parameters:,} of {one.weight_bits} bits | {seen['float_f1']:.3f}"
            f" | {seen['board_f1']:.3f} | {seen['board_auc']:.3f} | {100 * seen['agreement']:.2f} % | {equal}"
            f" | {count['p50']:,} | {size['flash_bytes']:,} B, {size['policy_flash_bytes']:,} B"
            f" | {size['arena_bytes']:,} B |"
        )
    return "\n".join(lines)


def units_table(found: Sequence[Measured]) -> str:
    """F1 of each unit, a column per network in float32 and per width of its weights.

    Every network has the same units and test pictures.
    """
    columns: dict[str, list[float | None]] = {}
    for one in found:
        labels, name = one.result["recognition"]["labels"], one.result["model"]
        columns[f"{name} float32"] = [label["float_f1"] for label in labels]
        columns[f"{name} {one.weight_bits} bits"] = [label["board_f1"] for label in labels]
    lines = [f"| unit | pictures | {' | '.join(columns)} |", f"|{'---|' * (2 + len(columns))}"]
    for index, label in enumerate(found[0].result["recognition"]["labels"]):
        words = ("" if column[index] is None else f"{column[index]:.3f}" for column in columns.values())
        lines.append(f"| {label['name']} | {label['positives']} | {' | '.join(words)} |")
    return "\n".join(lines)


def note(found: Sequence[Measured]) -> str:
    """Where the figures come from."""
    first = found[0].result
    board, recipes = first["board"], " and ".join(dict.fromkeys(f"recipes/{one.recipe}" for one in found))
    return (
        f"By {recipes}, {first['recognition']['pictures']} rendered pictures of persons that the networks were not "
        f"trained on, each recognized by the emulated {board['name']} ({board['core']}, {board['emulator']})."
    )


def with_kept_rows(table: str, before: str) -> str:
    """A table of the study, and those rows of an earlier one whose setting (the first four columns) it lacks.

    In the order of regimes, of persons with labels, of variants, of persons without.
    """
    lines = table.splitlines()
    there = {_setting(row) for row in lines[2:]}
    kept = [row for row in before.splitlines()[2:] if row.startswith("|") and _setting(row) not in there]
    return "\n".join([*lines[:2], *sorted([*lines[2:], *kept], key=_place)])


def _setting(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1:5])


def _place(row: str) -> tuple[int, int, int, int]:
    regime, persons, losses, _ = _setting(row)
    labelled, unlabelled = map(int, persons.split(" / "))
    return list(REGIMES).index(regime), labelled, list(VARIANTS).index(losses.split()[0]), unlabelled


def block_of(page: Path, name: str) -> str:
    """What lies between the markers of a block; nothing where the page has none."""
    found = re.search(rf"<!-- figures:{name} -->\n(.*?)<!-- /figures:{name} -->", page.read_text(), re.DOTALL)
    return found[1] if found else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of Markdown files."""
    from policyport.pipeline import cli

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:au --> markers")
    parser.add_argument(
        "--recipes", type=Path, nargs="+", default=RECIPES, metavar="RECIPE.toml", help="what is run and written"
    )
    given = parser.parse_args(arguments)
    for recipe in given.recipes:
        code = cli.main(["run", str(recipe)])
        if code:
            return code
    found = [one for recipe in given.recipes for one in measured(read_recipe(recipe))]
    blocks = {"au": "\n\n".join((note(found), results_table(found), units_table(found)))}
    rows = [row for row in rows_of(recorded(STUDY)) if len(row.f1) >= SEEDS]
    for page in given.pages:
        if rows:
            blocks["au-study"] = with_kept_rows(markdown(rows), block_of(page, "au-study"))
        alone = [row for row in rows if row.setting.variant == "labels"]
        if alone:
            blocks["au-units"] = units_markdown(alone[0])
        write_blocks([page], blocks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
