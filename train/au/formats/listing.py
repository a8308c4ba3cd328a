"""Pictures and what is known of each, before any is opened."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from policyport.core.errors import ArtifactError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Sample:
    """One picture: who is on it, and the action units that are known, present or not."""

    picture: Path
    subject: str
    present: dict[int, bool]


@dataclass
class Listing:
    """The pictures of a folder, and how many were left out, by the reason."""

    samples: list[Sample] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    folds: tuple[tuple[str, ...], ...] = ()
    """The subjects that each fold of the data set's own protocol tests."""

    def add(self, picture: Path | None, subject: str, present: dict[int, bool]) -> None:
        """A picture with labels; None where it is not there."""
        if picture is None:
            self.skipped["label without a picture"] += 1
        elif not present:
            self.skipped["picture without a known label"] += 1
        else:
            self.samples.append(Sample(picture, subject, present))

    def checked(self, folder: Path, expected: str) -> Listing:
        """The listing, unless nothing is in it.

        :raises ArtifactError: no picture with a label
        """
        if not self.samples:
            reasons = ", ".join(f"{count} times {reason}" for reason, count in self.skipped.items())
            raise ArtifactError("no labelled picture", where=folder, expected=expected, got=reasons or "none")
        return self


def known(code: str, where: object, codes: dict[str, bool | None]) -> bool | None:
    """What a code says: present, absent, or None for not known.

    :param codes: each code that the format has
    :raises ArtifactError: another one
    """
    stripped = code.strip()
    if stripped not in codes:
        raise ArtifactError(
            "a label that the format does not have",
            where=where,
            expected=", ".join(map(repr, codes)),
            got=repr(stripped),
        )
    return codes[stripped]


def only_known(pairs: Iterable[tuple[int, bool | None]]) -> dict[int, bool]:
    """The units whose presence is known."""
    return {unit: there for unit, there in pairs if there is not None}


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not empty, each with its place for an error.

    :raises ArtifactError: missing, or no text
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError("a label file that does not read", where=path, got=error) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield line, f"{path}, line {number}"


def rows(path: Path, wanted: Iterable[str], delimiter: str = ",") -> Iterator[tuple[dict[str, str], str]]:
    """The rows of a table with a header, each with its place for an error.

    :param wanted: columns that must be there
    :raises ArtifactError: missing columns, or a row with another number of values than the header
    """
    table = [(next(csv.reader([line], delimiter=delimiter)), where) for line, where in lines(path)]
    header = [name.strip() for name in table[0][0]] if table else []
    missing = [name for name in wanted if name not in header]
    if missing:
        raise ArtifactError(
            "a table without columns that its format has",
            where=path,
            expected=", ".join(missing),
            got=", ".join(header),
        )
    for values, where in table[1:]:
        if len(values) != len(header):
            raise ArtifactError(
                "a row of another length than the header", where=where, expected=len(header), got=len(values)
            )
        yield dict(zip(header, values, strict=True)), where


def whole(value: str, where: object) -> int:
    """A whole number.

    :raises ArtifactError: it is none
    """
    try:
        number = float(value)
        if number != int(number):
            raise ValueError(value)
    except (ValueError, OverflowError) as error:
        raise ArtifactError("no whole number", where=where, got=repr(value)) from error
    return int(number)


def pictures(folder: Path) -> list[Path]:
    """Every picture below a folder, in order of its path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)


def by_number(folder: Path) -> dict[int, Path]:
    """The pictures of a folder whose names are numbers, however many zeros lead them."""
    found = (path for path in pictures(folder) if path.stem.isdigit())
    return {int(path.stem): path for path in found}


def subfolder(folder: Path, *names: str) -> Path | None:
    """The first folder of that path at `folder`, or one level below it."""
    for base in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if base.joinpath(*names).is_dir():
            return base.joinpath(*names)
    return None
