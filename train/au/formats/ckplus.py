"""CK+: a text file per sequence for its last frame, a line per unit that is present, its intensity beside it."""

from __future__ import annotations

import re
from pathlib import Path

from policyport.core.errors import ArtifactError
from policyport.train.au.formats.listing import Listing, lines, pictures, whole
from policyport.train.faces.units import UNITS

NAME = re.compile(r"(S\d+)_\d+_\d+_facs\.txt")


def read(folder: Path) -> Listing:
    """The peak frames; every unit that the file does not name is absent, one of unknown intensity (0) is present.

    :raises ArtifactError: no label file, a line that is none
    """
    listing, by_stem = Listing(), {path.stem: path for path in pictures(folder)}
    for path in sorted(folder.rglob("*_facs.txt")):
        name = NAME.fullmatch(path.name)
        if name is None:
            raise ArtifactError("no name of a sequence", where=path, expected="S005_001_00000011_facs.txt")
        present = dict.fromkeys(UNITS, False)
        for line, where in lines(path):
            words = line.split()
            if len(words) != 2:
                raise ArtifactError("a line that is none of CK+", where=where, expected="unit and intensity", got=line)
            unit, _ = (whole(word, where) for word in words)
            if unit in present:
                present[unit] = True
        listing.add(by_stem.get(path.name.removesuffix("_facs.txt")), name[1], present)
    return listing.checked(folder, "FACS/S005/001/S005_001_00000011_facs.txt and S005/001/S005_001_00000011.png")
