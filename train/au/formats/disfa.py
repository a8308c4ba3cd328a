"""DISFA: a text file per subject and unit, a line `frame,intensity` per frame; present from intensity 2 on."""

from __future__ import annotations

import re
from pathlib import Path

from policyport.core.errors import ArtifactError
from policyport.train.au.formats.listing import Listing, by_number, lines, whole

NAME = re.compile(r"(SN\d{3})_au(\d+)\.txt", re.IGNORECASE)
PRESENT, HIGHEST = 2, 5
FOLDS = (
    ("SN002", "SN010", "SN001", "SN026", "SN027", "SN032", "SN030", "SN009", "SN016"),
    ("SN013", "SN018", "SN011", "SN028", "SN012", "SN006", "SN031", "SN021", "SN024"),
    ("SN003", "SN029", "SN023", "SN025", "SN008", "SN005", "SN007", "SN017", "SN004"),
)


def read(folder: Path) -> Listing:
    """The frames that are labelled; frame n of a video is picture n - 1 of SUBJECT/.

    :raises ArtifactError: no label file, a line that is none, an intensity beyond 0 to 5
    """
    labels: dict[str, dict[int, dict[int, bool]]] = {}
    for path in sorted(folder.rglob("*.txt")):
        name = NAME.fullmatch(path.name)
        if name is None:
            continue
        subject, unit = name[1].upper(), int(name[2])
        for line, where in lines(path):
            words = line.split(",")
            if len(words) != 2:
                raise ArtifactError("a line that is none of DISFA", where=where, expected="frame,intensity", got=line)
            frame, intensity = (whole(word, where) for word in words)
            if not 0 <= intensity <= HIGHEST:
                raise ArtifactError("no intensity", where=where, expected=f"0 to {HIGHEST}", got=intensity)
            labels.setdefault(subject, {}).setdefault(frame, {})[unit] = intensity >= PRESENT
    listing = Listing(folds=FOLDS)
    for subject, frames in labels.items():
        found = _pictures(folder, subject)
        for frame, present in sorted(frames.items()):
            listing.add(found.get(frame - 1), subject, present)
    return listing.checked(folder, "ActionUnit_Labels/SN001/SN001_au1.txt and pictures, SN001/0.png")


def _pictures(folder: Path, subject: str) -> dict[int, Path]:
    """The subject's pictures, wherever they lie: the labels' folder has the same name."""
    places = (path for path in sorted(folder.rglob(subject)) if path.is_dir())
    return next((found for place in places if (found := by_number(place))), {})
