"""The hardware map: which boards a lab has, and by which port and probe each is reached.

It is a TOML file that ``policyport boards map`` writes and people edit: what is in it is kept, byte for byte, and
boards that are new are added at its end. The keys are those of Zephyr twister's hardware map where both have the
same thing (``id``, ``product``, ``serial``, ``runner``, ``probe_id``, ``notes``); its ``platform`` is our
``board``. TOML, because the other files that people write here are TOML, and Python reads it without a package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.core.errors import BoardError, ConfigError
from policyport.core.table_reader import TableReader, read_toml
from policyport.deploy.board import board_names, load_board
from policyport.deploy.usb_ports import UsbPort, usb_ports

HEADER = """\
# Boards of this lab, for --hardware-map: docs/boards.md names every key.
# policyport boards map adds new boards at the end and changes nothing above.
"""


@dataclass(frozen=True)
class Entry:
    """One board of a hardware map."""

    board: str
    """Name of its TOML; empty where nobody has said yet which it is: no command then uses it."""

    id: str = ""
    """USB serial number of its port: the port is found by it, wherever it is plugged in."""

    serial: str = ""
    """Serial port or pyserial URL; of several ports with one serial number, which."""

    probe_id: str = ""
    """What selects its probe for a flash program; empty where there is no choice."""

    runner: str = "auto"
    product: str = ""
    notes: str = ""
    name: str = ""
    """What commands that measure on several boards call it; empty for the name of its TOML."""


def read_map(path: Path) -> list[Entry]:
    """The boards of a hardware map, in its order.

    :raises ConfigError: it does not read, has an unknown key or board, or names a port or a probe twice
    """
    table = read_toml(path, "hardware map", f"policyport boards map --out {path} writes one of what is plugged in")
    rows = table.pop("boards", [])
    TableReader(table, path, "hardware map").refuse_others()
    if not isinstance(rows, list):
        raise ConfigError("hardware map has no list of boards", where=path, expected="[[boards]]", got=rows)
    entries = [_entry(row, path) for row in rows]
    for what in ("probe_id", "serial"):
        _refuse_twice([getattr(entry, what) for entry in entries], what, path)
    return entries


def _entry(row: object, path: Path) -> Entry:
    get = TableReader(row if isinstance(row, dict) else {}, path, "hardware map", "boards.")
    entry = Entry(
        board=get("board", str),
        id=get("id", str, default=""),
        serial=get("serial", str, default=""),
        probe_id=get("probe_id", str, default=""),
        runner=get("runner", str, default="auto"),
        product=get("product", str, default=""),
        notes=get("notes", str, default=""),
        name=get("name", str, default=""),
    )
    get.refuse_others()
    if entry.board:
        load_board(entry.board, where=path)
    return entry


def _refuse_twice(values: Sequence[str], what: str, path: Path) -> None:
    for value in values:
        if value and values.count(value) > 1:
            raise ConfigError(
                f"two boards of the hardware map have the same {what}",
                where=path,
                got=value,
                cure="remove one of them, or the wrong board would be flashed",
            )


def find_entry(path: Path, board: str, id: str = "") -> Entry:
    """The entry of a board.

    :param board: name of its TOML
    :param id: serial number of the one that is meant, where the map has several
    :raises ConfigError: there is none, or there are several
    """
    entries = [entry for entry in read_map(path) if entry.board == board and id.lower() in ("", entry.id.lower())]
    if len(entries) == 1:
        return entries[0]
    known = ", ".join(f"{e.board or '?'} {e.id or e.serial}" for e in entries or read_map(path))
    raise ConfigError(
        f"the hardware map has {'several' if entries else 'no'} {board}" + (f" with serial number {id}" if id else ""),
        where=path,
        got=known or "no board at all",
        cure="say which with --board-id SERIAL" if entries else "plug it in and run: policyport boards map --out FILE",
    )


def port_now(board: str, id: str, serial: str) -> str:
    """The pyserial URL of a board's port as it is plugged in now.

    :param board: its name, for the error
    :param id: USB serial number; where it is empty, ``serial`` is the answer
    :param serial: of several ports with one serial number, which
    :raises BoardError: no port with its serial number is there
    """
    if not id:
        return serial
    ports = [port for port in usb_ports() if port.serial_number.lower() == id.lower()]
    named = [port for port in ports if serial in (port.device, port.path)]
    for port in named or ports:
        return port.device
    raise BoardError(
        "the board is not plugged in, or its port is not there",
        where=board,
        expected=f"a serial port with serial number {id}",
        got=", ".join(f"{port.device} {port.serial_number or 'without'}" for port in usb_ports()) or "no USB port",
        cure="plug it in; policyport boards doctor says more",
    )


def new_entries(ports: Iterable[UsbPort], entries: Sequence[Entry]) -> list[UsbPort]:
    """The ports of boards that are not in a map yet: the first of each serial number."""
    ids, paths = {entry.id.lower() for entry in entries}, {entry.serial for entry in entries}
    found = []
    for port in ports:
        if {port.device, port.path}.isdisjoint(paths) and (
            not port.serial_number or port.serial_number.lower() not in ids
        ):
            found.append(port)
            ids.add(port.serial_number.lower())
    return found


def entry_text(entry: Entry, could_be: Sequence[str] = ()) -> str:
    """An entry as TOML.

    :param could_be: names of the boards it may be, said in a comment where ``entry.board`` is empty
    """
    options = ", ".join(could_be) or ", ".join(board_names())
    lines = ["[[boards]]", f"board = {_quoted(entry.board)}" + ("" if entry.board else f"  # fill in: {options}")]
    for key in ("name", "id", "serial", "probe_id", "runner", "product", "notes"):
        if value := getattr(entry, key):
            lines.append(f"{key} = {_quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
