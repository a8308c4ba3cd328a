"""BP4D: a CSV per subject and task, rows of frames, columns of action units; pictures in SUBJECT/TASK/FRAME.jpg."""

from __future__ import annotations

import re
from pathlib import Path

from policyport.train.au.formats.listing import Listing, by_number, known, only_known, rows, subfolder, whole
from policyport.train.faces.units import BP4D

CODES = {"0": False, "1": True, "9": None}  # 9: not coded
NAME = re.compile(r"([FM]\d{3})_(T\d)\.csv")
FOLDS = (
    ("F001", "M007", "F018", "F008", "F002", "M004", "F010", "F009", "M012", "M001", "F016", "M014", "F023", "M008"),
    ("M011", "F003", "M010", "M002", "F005", "F022", "M018", "M017", "F013", "M016", "F020", "F011", "M013", "M005"),
    ("F007", "F015", "F006", "F019", "M006", "M009", "F012", "M003", "F004", "F021", "F017", "M015", "F014"),
)


def read(folder: Path) -> Listing:
    """The frames that AU_OCC codes, and the pictures of each.

    :raises ArtifactError: no file of codes, a column that is missing, a code that is none
    """
    listing = Listing(folds=FOLDS)
    for path in sorted(folder.rglob("*.csv")):
        name = NAME.fullmatch(path.name)
        if name is None:
            continue
        subject, task = name.groups()
        place = subfolder(folder, subject, task)
        frames = by_number(place) if place else {}
        for row, where in rows(path, ("0", *map(str, BP4D))):
            units = ((unit, known(row[str(unit)], f"{where}, AU{unit}", CODES)) for unit in BP4D)
            listing.add(frames.get(whole(row["0"], where)), subject, only_known(units))
    return listing.checked(folder, "AUCoding/AU_OCC/F001_T1.csv and its pictures, F001/T1/2440.jpg")
