"""A folder of pictures and a table of them: labels.csv with path, subject and a column per action unit."""

from __future__ import annotations

import re
from pathlib import Path

from policyport.core.errors import ArtifactError
from policyport.train.au.formats.listing import Listing, known, only_known, rows

FILE = "labels.csv"
CODES = {"1": True, "0": False, "": None, "-1": None, "9": None, "999": None}
COLUMN = re.compile(r"AU0*(\d+)")


def read(folder: Path) -> Listing:
    """The pictures of the table; a cell that is empty, -1, 9 or 999 is unknown.

    :raises ArtifactError: no table, no column of an action unit, a code that is none, a path out of the folder
    """
    path = folder / FILE
    listing = Listing()
    for row, where in rows(path, ("path", "subject")):
        columns = {int(unit[1]): name for name in row if (unit := COLUMN.fullmatch(name))}
        if not columns:
            raise ArtifactError("no column of an action unit", where=path, expected="AU1, AU2, ...", got=", ".join(row))
        picture = folder / row["path"]
        if folder.resolve() not in picture.resolve().parents:
            raise ArtifactError("a picture outside of the folder", where=where, got=row["path"])
        units = ((unit, known(row[name], f"{where}, {name}", CODES)) for unit, name in columns.items())
        listing.add(picture if picture.is_file() else None, row["subject"], only_known(units))
    return listing.checked(folder, f"{FILE} with path, subject, AU1, ... and the pictures it names")
