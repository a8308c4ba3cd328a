"""RAF-AU: one text file, a line per picture with the units that are present, as 1+2+L4+25, or null."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from policyport.core.errors import ArtifactError
from policyport.train.au.formats.listing import Listing, lines, pictures
from policyport.train.faces.units import UNITS

FILE = "RAFAU_label.txt"
UNIT = re.compile(r"[LRlr]?(\d+)[A-Ea-e]?")  # of one side, or with an intensity


def read(folder: Path) -> Listing:
    """The pictures that the file names, aligned ones first; a unit on one side counts as present.

    :raises ArtifactError: no such file, a line that is none
    """
    found = sorted(folder.rglob(FILE))
    if not found:
        raise ArtifactError("no labels of RAF-AU", where=folder, expected=FILE)
    listing, by_stem = Listing(), {path.stem: path for path in pictures(folder)}
    for line, where in lines(found[0]):
        words = line.split()
        if len(words) != 2:
            raise ArtifactError("a line that is none of RAF-AU", where=where, expected="0001.jpg 1+2+L4+25", got=line)
        stem = PurePosixPath(words[0]).stem
        present = dict.fromkeys(UNITS, False)
        for word in () if words[1].lower() == "null" else words[1].split("+"):
            unit = UNIT.fullmatch(word)
            if unit is None:
                raise ArtifactError(
                    "no action unit", where=where, expected="a number, L or R before it", got=repr(word)
                )
            if int(unit[1]) in present:
                present[int(unit[1])] = True
        listing.add(by_stem.get(f"{stem}_aligned", by_stem.get(stem)), stem, present)
    return listing.checked(folder, f"{FILE} and pictures, 0001_aligned.jpg")
