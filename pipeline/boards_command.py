"""The command ``policyport boards``: which boards are here, which are known, what is wrong, who answers."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyport.deploy.board import Board
    from policyport.deploy.hardware_map import Entry
    from policyport.deploy.usb_ports import UsbPort

SUMMARY = "find the boards of this machine, write them into a hardware map, say what is wrong with a port"
MAP = Path("hardware-map.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.add_argument(
        "action",
        choices=("list", "map", "doctor"),
        help="list: ports with the boards they may be, and the boards that are known; map: add the boards that are "
        "plugged in to a hardware map; doctor: per port what is wrong, and the cure. No port is opened",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON [default: no]")
    group = parser.add_argument_group("options of map")
    group.add_argument("--out", type=Path, default=MAP, metavar="FILE", help=f"the hardware map [default: {MAP}]")
    group.add_argument("--board", default="", help="what the new boards are [default: as USB ids tell, or left open]")
    group.add_argument(
        "--ask",
        action="store_true",
        help="open the ports of boards that USB ids leave open, and ask the firmware there its name [default: no]",
    )
    parser.add_argument_group("options of doctor").add_argument(
        "--udev", action="store_true", help="print udev rules for all boards, nothing else [default: no]"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Do it.

    :raises ConfigError: a hardware map that does not read, or an unknown board
    """
    return {"list": _list, "map": _map, "doctor": _doctor}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from policyport.deploy.usb_ports import candidates, usb_ports

    boards = _boards()
    found = [(port, [board.name for board in candidates(port, boards)]) for port in usb_ports()]
    if arguments.json:
        ports = [dataclasses.asdict(port) | {"adapter": port.adapter, "boards": names} for port, names in found]
        print(json.dumps({"ports": ports, "boards": [_board_table(board) for board in boards]}, indent=2))
        return 0
    rows = [
        (p.device, p.usb, p.serial_number or "-", p.description, " or ".join(names) or p.adapter or "-")
        for p, names in found
    ]
    _print_table(("port", "USB", "serial number", "what", "may be"), rows)
    if not rows:
        print("  none: no serial port on USB")
    print()
    _print_table(("known board", "core", "MHz", "flash", "RAM", "port", "verified on"), [_board_row(b) for b in boards])
    return 0


def _map(arguments: argparse.Namespace) -> int:
    from policyport.deploy.board import load_board
    from policyport.deploy.hardware_map import HEADER, entry_text, new_entries, read_map
    from policyport.deploy.usb_ports import candidates, usb_ports

    if arguments.board:
        load_board(arguments.board)
    path: Path = arguments.out
    known = read_map(path) if path.is_file() else []
    boards = _boards()
    new = [(port, [board.name for board in candidates(port, boards)]) for port in new_entries(usb_ports(), known)]
    entries = [(_entry(port, names, arguments), names) for port, names in new]
    before = path.read_text(encoding="utf-8") if path.is_file() else HEADER
    text = before + "".join(f"\n{entry_text(entry, names)}" for entry, names in entries)
    path.write_text(text, encoding="utf-8")
    if arguments.json:
        print(json.dumps([dataclasses.asdict(entry) for entry, _ in entries], indent=2))
        return 0
    for entry, names in entries:
        print(f"added {entry.serial}: {entry.board or 'board to be filled in'}{_options(entry, names)}")
    print(f"{path}: {len(known) + len(entries)} boards, {len(entries)} of them new")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from policyport.pipeline import speak
    from policyport.pipeline.port_doctor import examine_ports, flash_programs, udev_rules

    if arguments.udev:
        print(udev_rules(), end="")
        return 0
    speak.print_findings([*examine_ports(), flash_programs()], as_json=arguments.json, verdict=False)
    return 0


def _entry(port: UsbPort, names: Sequence[str], arguments: argparse.Namespace) -> Entry:
    """What the map says of a port."""
    from policyport.deploy.hardware_map import Entry
    from policyport.deploy.usb_ports import is_probe

    return Entry(
        board=_which(port, names, arguments),
        id=port.serial_number,
        serial=port.path,
        probe_id=port.serial_number if is_probe(port, _boards()) else "",
        product=port.description,
    )


def _which(port: UsbPort, names: Sequence[str], arguments: argparse.Namespace) -> str:
    """The board of a port: as said, as USB ids tell, as its firmware says; empty where none of them knows."""
    from policyport.deploy.board import board_names

    if arguments.board and (arguments.board in names or not names):
        return str(arguments.board)
    if len(names) == 1:
        return names[0]
    if arguments.ask and (names or port.adapter):
        answer = _ask(port.device)
        return answer if answer in (names or board_names()) else ""
    return ""


def _ask(device: str) -> str:
    """The board's name as the firmware behind a port says it; empty where nothing that speaks our protocol answers."""
    from policyport.core.errors import BoardError, ProtocolError
    from policyport.firmware_bridge.client import Bridge

    try:
        with Bridge.open(device, timeout_s=0.5, retries=1) as bridge:
            return bridge.hello().board
    except (BoardError, ProtocolError) as error:
        print(f"{device}: {error.what}", file=sys.stderr)
        return ""


def _options(entry: Entry, names: Sequence[str]) -> str:
    return f", one of {', '.join(names)}" if not entry.board and names else ""


def _boards() -> list[Board]:
    from policyport.deploy.board import board_names, load_board

    return [load_board(name) for name in board_names()]


def _board_table(board: Board) -> dict[str, Any]:
    usb = [f"{usb.vid:04x}:{usb.pid:04x}{usb.serial_prefix and ' ' + usb.serial_prefix}" for usb in board.usb]
    return {
        "name": board.name,
        "description": board.description,
        "core": board.core,
        "verified": board.verified,
        "usb": usb,
        "runners": [runner.name for runner in board.runners],
    }


def _board_row(board: Board) -> tuple[str, ...]:
    flash, ram = str(board.flash), str(board.ram)
    return (board.name, board.core, f"{board.clock_hz / 1e6:g}", flash, ram, board.uart.driver, board.verified)


def _print_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell; never broken, so that lines can be searched."""
    widths = [max(len(row[column]) for row in (names, *rows)) for column in range(len(names))]
    for row in (names, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
