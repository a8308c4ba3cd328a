"""EmotioNet: text files with a picture's addresses and 60 columns, one per action unit, from AU1 to AU60."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from policyport.core.errors import ArtifactError
from policyport.train.au.formats.listing import Listing, known, lines, only_known, pictures
from policyport.train.faces.units import UNITS

CODES = {"0": False, "1": True, "999": None}  # 999: not annotated
ADDRESSES, COLUMNS = 2, 60


def read(folder: Path) -> Listing:
    """The pictures that the text files name; each is a subject of its own, for nobody knows who is on it.

    :raises ArtifactError: no text file, a line of another length, a code that is none
    """
    listing, by_name = Listing(), {path.name: path for path in pictures(folder)}
    for path in sorted(folder.rglob("*.txt")):
        for line, where in lines(path):
            words = line.rstrip("\n").split("\t")
            if len(words) != ADDRESSES + COLUMNS:
                raise ArtifactError(
                    "a line that is none of EmotioNet",
                    where=where,
                    expected=f"{ADDRESSES} addresses and {COLUMNS} columns between tabs",
                    got=f"{len(words)} columns",
                )
            if not words[0].strip().lower().startswith(("http", "'http")):
                continue  # a header
            name = PurePosixPath(unquote(urlsplit(words[0].strip().strip("'")).path)).name
            codes = words[ADDRESSES:]
            units = ((unit, known(codes[unit - 1], f"{where}, AU{unit}", CODES)) for unit in UNITS)
            listing.add(by_name.get(name), name, only_known(units))
    return listing.checked(folder, "text files with an address and 60 columns, and the pictures beside them")
