"""Contact sheets: many faces, and one face that shows each unit: `python -m policyport.train.faces.sheet DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from policyport.train.faces.person import draw_person
from policyport.train.faces.scene import Conditions, Pose, render
from policyport.train.faces.units import NAMES, UNITS, Expression, draw_expression

CAPTION = 14  # pixels below each picture
FRONTAL = Pose(0.12, 0.0, 0.0, 15.0)


def many(count: int, side: int, seed: int) -> list[tuple[NDArray[np.uint8], str]]:
    """`count` persons, one picture each, with the units that it shows."""
    found = []
    for index in range(count):
        generator = np.random.default_rng([seed, index])
        person, shown = draw_person(generator), draw_expression(generator)
        units = [str(unit) for unit, there in zip(UNITS, shown.present, strict=True) if there]
        found.append((render(person, shown, generator, side=side), "AU " + " ".join(units) if units else "neutral"))
    return found


def every_unit(side: int, seed: int) -> list[tuple[NDArray[np.uint8], str]]:
    """One person, frontal, who shows nothing and then each unit alone at full intensity."""
    person = draw_person(np.random.default_rng(seed))
    found = []
    for unit in (None, *UNITS):
        there = np.array([other == unit for other in UNITS])
        shown = Expression(there.astype(np.float32), there)
        generator = np.random.default_rng(seed)
        picture = render(person, shown, generator, side=side, conditions=Conditions(degradation=0.0), pose=FRONTAL)
        found.append((picture, "neutral" if unit is None else f"{unit} {NAMES[unit]}"))
    return found


def write_sheet(pictures: list[tuple[NDArray[np.uint8], str]], columns: int, path: Path) -> None:
    """Write pictures with their captions, row by row, as one image."""
    from PIL import Image, ImageDraw

    side = len(pictures[0][0])
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, caption) in enumerate(pictures):
        x, y = index % columns * side, index // columns * (side + CAPTION)
        sheet.paste(Image.fromarray(picture), (x, y))
        draw.text((x + 2, y + side), caption, "black", font_size=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> None:
    """Write faces.png and units.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_sheet(many(options.count, options.side, options.seed), 8, options.folder / "faces.png")
    write_sheet(every_unit(options.side, options.seed), 7, options.folder / "units.png")


if __name__ == "__main__":
    main()
