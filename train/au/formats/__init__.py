"""Data sets of faces with action units, as their authors lay them out: one reader each, all giving a listing.

Nobody's data are here. A label that is not known stays unknown; a picture that a label file names and the folder lacks
is counted and left out; a label file that is not what its format says is one clear error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from policyport.train.au.formats import affwild2, bp4d, ckplus, disfa, emotionet, rafau, table
from policyport.train.au.formats.listing import Listing

READERS: dict[str, Callable[[Path], Listing]] = {
    "bp4d": bp4d.read,
    "disfa": disfa.read,
    "emotionet": emotionet.read,
    "ckplus": ckplus.read,
    "raf-au": rafau.read,
    "aff-wild2": affwild2.read,
    "csv": table.read,
}
