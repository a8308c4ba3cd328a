"""The boards that a command line means: of a hardware map, or emulated ones, each with a name of its own."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from policyport.core.artifact import Artifact
from policyport.core.errors import ConfigError
from policyport.deploy.board import board_names
from policyport.deploy.hardware_map import port_now, read_map


@dataclass(frozen=True)
class Place:
    """One board of the map, or an emulated one."""

    name: str
    board: str
    """Its kind; empty where nothing says: it then takes the one image there is."""

    port: str = ""
    """pyserial URL; of several ports with one serial number, which."""

    id: str = ""
    """USB serial number, which finds the port wherever it is plugged in."""

    @property
    def emulated(self) -> bool:
        """Whether nothing says where a real one is."""
        return not (self.port or self.id)

    def at(self, port: str) -> Place:
        """The same board at that port, whatever its serial number."""
        return replace(self, port=port, id="") if port else self


def places_of(path: Path) -> tuple[Place, ...]:
    """The boards of a hardware map, in its order; entries of which nobody has said yet what they are, are left out.

    :raises ConfigError: it does not read, or names a board twice
    """
    entries = [entry for entry in read_map(path) if entry.board]
    _refuse_repeats([entry.name for entry in entries if entry.name], path)
    return tuple(_numbered([Place(e.name or e.board, e.board, e.serial, e.id) for e in entries]))


def choose(words: Sequence[str], places: Sequence[Place] = ()) -> tuple[Place, ...]:
    """The boards that are asked for.

    :param words: names apart by commas, each of the map or of a kind of board, which is then emulated; ``NAME=URL``
        says at which port it is. None of them: all of the map. An emulated board that is named again is another one
    :param places: the hardware map
    :raises ConfigError: no such board, or a real one twice
    """
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if not names:
        return tuple(places)
    chosen = [_named(name, {place.name: place for place in places}) for name in names]
    _refuse_repeats([place.name for place in chosen if not place.emulated], "--board")
    return tuple(_numbered(chosen))


def image_of(place: Place, images: Sequence[Artifact]) -> Artifact:
    """The image that was built for a board.

    :param images: deploy artifacts
    :raises ConfigError: none was, or several could be meant
    """
    fitting = [image for image in images if place.board in ("", image.manifest.figures["board"])]
    if len(fitting) != 1:
        raise ConfigError(
            "no image for this board" if not fitting else "several images for this board",
            where=place.name,
            expected=f"one deploy folder built for {place.board or 'it'}",
            got=", ".join(f"{image.path} for {image.manifest.figures['board']}" for image in images) or "none",
            cure=f"policyport deploy MODEL --board {place.board or 'BOARD'} --out FOLDER",
        )
    return fitting[0]


def port_of(place: Place) -> str:
    """pyserial URL of a board as it is plugged in now; empty for an emulated one.

    :raises BoardError: no port has its serial number
    """
    return port_now(place.name, place.id, place.port)


def _named(word: str, known: dict[str, Place]) -> Place:
    name, _, port = word.partition("=")
    if port:
        return (known.get(name) or Place(name, name if name in board_names() else "")).at(port)
    if name not in known and name not in board_names():
        names = (*known, *board_names())
        near = difflib.get_close_matches(name, names, 2)
        raise ConfigError(
            "unknown board",
            where="--board",
            expected=", ".join(names),
            got=name,
            cure=f"did you mean {' or '.join(near)}?" if near else "say where it is: --board NAME=URL",
        )
    return known.get(name) or Place(name, name)


def _numbered(chosen: Sequence[Place]) -> list[Place]:
    """Names apart: the second ``mps2-an386`` is ``mps2-an386-2``."""
    seen: Counter[str] = Counter()
    numbered = []
    for place in chosen:
        seen[place.name] += 1
        numbered.append(place if seen[place.name] == 1 else replace(place, name=f"{place.name}-{seen[place.name]}"))
    return numbered


def _refuse_repeats(names: Sequence[str], where: object) -> None:
    """Names must be apart, and each good for a folder.

    :raises ConfigError: one is not
    """
    crooked = [name for name in names if Path(name).name != name]
    if crooked:
        raise ConfigError("this is no name of a board", where=where, expected="no slash in it", got=crooked[0])
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ConfigError("a board is named twice", where=where, got=", ".join(repeated))
