"""The boards that are there: a hardware map, and the choice among them by name.

    [[board]]
    name = "left"              # what the command line calls it
    board = "stm32f405"        # what it is, as in policyport/deploy/boards [default: the name, where that is one]
    port = "/dev/ttyACM0"      # pyserial URL; without one, and without a serial number, it is emulated
    serial = "0670FF48"        # USB serial number, which finds the port wherever it is plugged in
    probe = "0670FF48"         # id of the probe that flashes it

Whatever else an entry holds is for others to read.
"""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policyport.core.artifact import Artifact
from policyport.core.errors import BoardError, ConfigError
from policyport.deploy.board import board_names


@dataclass(frozen=True)
class Place:
    """One board of the map, or an emulated one."""

    name: str
    board: str
    """Its kind; empty where the map does not say: it then takes the one image there is."""

    port: str = ""
    serial: str = ""
    probe: str = ""

    @property
    def emulated(self) -> bool:
        """Whether nothing says where a real one is."""
        return not (self.port or self.serial)


def read_map(path: Path) -> tuple[Place, ...]:
    """The entries of a hardware map, in its order.

    :raises ConfigError: no such file, no TOML, an entry without a name, a value that is no text, a name twice
    """
    try:
        rows = tomllib.loads(path.read_text()).get("board", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("no hardware map that reads", where=path, expected="[[board]] entries", got=error) from error
    places = tuple(_place(row, path) for row in (rows if isinstance(rows, list) else [rows]))
    _refuse_repeats([place.name for place in places], path)
    return places


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
    """pyserial URL of a board; empty for an emulated one.

    :raises BoardError: no port has its serial number
    """
    if place.port or place.emulated:
        return place.port
    from serial.tools.list_ports import comports

    ports = {str(port.serial_number or "").casefold(): port.device for port in comports()}
    if place.serial.casefold() not in ports:
        raise BoardError(
            "this board is not plugged in",
            where=place.name,
            expected=f"a port with serial number {place.serial}",
            got=", ".join(f"{device} ({number or 'none'})" for number, device in ports.items()) or "no port at all",
        )
    return str(ports[place.serial.casefold()])


def _place(row: Any, path: Path) -> Place:
    given = row if isinstance(row, dict) else {}
    texts = {key: given.get(key, "") for key in ("name", "board", "port", "serial", "probe")}
    wrong = [key for key, value in texts.items() if not isinstance(value, str)]
    if wrong or not texts["name"]:
        raise ConfigError(
            "an entry of the hardware map does not hold", where=path, expected="name, and texts", got=f"{row!r}"
        )
    return _of_kind(Place(**texts))


def _of_kind(place: Place) -> Place:
    """With its kind, where its name is one."""
    return replace(place, board=place.board or (place.name if place.name in board_names() else ""))


def _named(word: str, known: dict[str, Place]) -> Place:
    name, _, port = word.partition("=")
    if port:
        return replace(known.get(name) or _of_kind(Place(name, "")), port=port)
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
