"""Aff-Wild2: a text file per video, a header of units, a row per frame; pictures in cropped_aligned/VIDEO/00001.jpg."""

from __future__ import annotations

from pathlib import Path

from policyport.train.au.formats.listing import Listing, by_number, known, only_known, rows, subfolder

UNITS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
CODES = {"0": False, "1": True, "-1": None}  # -1: the frame is not annotated
SETS = ("Train_Set", "Validation_Set")


def read(folder: Path) -> Listing:
    """The annotated frames of both sets; row n is picture n. A video of several people has a suffix, _left or _right.

    The one fold tests Validation_Set, as long as the test set's labels are not published.

    :raises ArtifactError: no text file, a header without the units, a code that is none
    """
    files = {part: sorted(folder.rglob(f"{part}/*.txt")) for part in SETS}
    tested = tuple(path.stem for path in files["Validation_Set"])
    listing = Listing(folds=(tested,) if tested else ())
    for path in sorted(path for part in files.values() for path in part):
        place = subfolder(folder, "cropped_aligned", path.stem) or subfolder(folder, path.stem)
        frames = by_number(place) if place else {}
        for number, (row, where) in enumerate(rows(path, (f"AU{unit}" for unit in UNITS)), start=1):
            units = ((unit, known(row[f"AU{unit}"], f"{where}, AU{unit}", CODES)) for unit in UNITS)
            listing.add(frames.get(number), path.stem, only_known(units))
    return listing.checked(folder, "Train_Set/VIDEO.txt and cropped_aligned/VIDEO/00001.jpg")
