"""What keeps a board from being flashed and measured, port by port, and the cure; no port is opened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence

from policyport.core.install import flash_program_install, pip_install, system_install
from policyport.core.port_lock import PortLock, processes_with, runs
from policyport.deploy.board import Board, board_names, load_board
from policyport.deploy.usb_ports import ADAPTERS, UsbDevice, UsbPort, candidates, usb_devices, usb_ports
from policyport.pipeline.finding import Finding

RULES = "/etc/udev/rules.d/60-policyport.rules"
"""Before 73-seat-late.rules, which acts on the tag ``uaccess``."""

INSTALL_RULES = (
    f"policyport boards doctor --udev | sudo tee {RULES} && sudo udevadm control --reload && sudo udevadm trigger"
)

MODEM_MANAGER = "ModemManager"
STOP_MODEM_MANAGER = f"sudo systemctl disable --now {MODEM_MANAGER}"


def examine_ports() -> list[Finding]:
    """The serial ports on USB and the probes, what is wrong with each; an ok finding where nothing is."""
    boards = [load_board(name) for name in board_names()]
    ports = usb_ports()
    probes = [_probe(device, boards) for device in usb_devices()]
    found = [*(finding for port in ports for finding in examine_port(port, boards)), *filter(None, probes)]
    if ports and runs(MODEM_MANAGER):
        what = "runs here, and opens and writes to every new serial port for some seconds"
        found.append(Finding(MODEM_MANAGER, "optional", what, (INSTALL_RULES, STOP_MODEM_MANAGER)))
    return found or [Finding("serial ports", "optional", "no board is plugged in; boards are emulated")]


def examine_port(port: UsbPort, boards: Sequence[Board]) -> list[Finding]:
    """What is wrong with a port, or what it is."""
    could_be = candidates(port, boards)
    wrong = [*_permission(port), *_holder(port), *_missing_programs(port, could_be)]
    return wrong or [Finding(port.device, "ok", f"{_described(port)}; {_whose(port, could_be)}")]


def flash_programs() -> Finding:
    """Programs that put firmware on a real board: one is enough where it knows the board's probe."""
    wanted = _programs(load_board(name) for name in board_names())
    found = [f"{name} ({shutil.which(name)})" for name in wanted if shutil.which(name)]
    if found:
        return Finding("flash programs", "ok", ", ".join(found))
    cures = (*system_install("openocd"), pip_install("pyocd"))
    return Finding("flash programs", "optional", f"none of {', '.join(wanted)}; only a real board needs one", cures)


def udev_rules() -> str:
    """Rules for Linux' udev: the devices of every board, and serial adapters, for who sits there and for a group.

    ModemManager is told to leave them alone: it writes to every new serial port.
    """
    group = group_of("/dev/ttyS0")
    ids = {(usb.vid, usb.pid): usb.what for name in board_names() for usb in load_board(name).usb} | ADAPTERS
    lines = [f"# {RULES}, written by: policyport boards doctor --udev"]
    for (vid, pid), what in sorted(ids.items()):
        match = f'ATTRS{{idVendor}}=="{vid:04x}", ATTRS{{idProduct}}=="{pid:04x}"'
        rights = f'MODE="0660", GROUP="{group}", TAG+="uaccess"'
        lines += [
            f"# {what}",
            f'SUBSYSTEM=="tty", {match}, {rights}, ENV{{ID_MM_PORT_IGNORE}}="1"',
            f'SUBSYSTEM=="usb", {match}, {rights}, ENV{{ID_MM_DEVICE_IGNORE}}="1"',
        ]
    return "\n".join(lines) + "\n"


def group_of(device: str) -> str:
    """Name of the group that owns a device: ``dialout`` on most systems, and where that cannot be told."""
    import grp

    try:
        name = grp.getgrgid(os.stat(device).st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"
    return "dialout" if name == "root" else name


def _permission(port: UsbPort) -> list[Finding]:
    if os.name != "posix" or os.access(port.device, os.R_OK | os.W_OK):
        return []
    group = group_of(port.device)
    found = f"{_described(port)}; not yours to open (group {group}; log in again after joining it)"
    return [Finding(port.device, "optional", found, (f"sudo usermod -aG {group} $USER", INSTALL_RULES))]


def _holder(port: UsbPort) -> list[Finding]:
    """Our own processes have a lock with their name; of others, what this user may see."""
    holders = [PortLock(port.device).holder() or "", *processes_with(port.device)]
    named = next(filter(None, holders), "")
    if not named:
        return []
    cures = (INSTALL_RULES, STOP_MODEM_MANAGER) if MODEM_MANAGER in named else ()
    return [Finding(port.device, "optional", f"{_described(port)}; held by {named}", cures)]


def _missing_programs(port: UsbPort, boards: Sequence[Board]) -> list[Finding]:
    """Where none of the programs is installed that flash any of a port's boards."""
    wanted = _programs(boards)
    if not wanted or any(map(shutil.which, wanted)):
        return []
    found = f"{_described(port)}; nothing that flashes it is installed: {', '.join(wanted)}"
    return [
        Finding(port.device, "optional", found, tuple(cure for name in wanted for cure in flash_program_install(name)))
    ]


def _probe(device: UsbDevice, boards: Sequence[Board]) -> Finding | None:
    """A probe that this user may not open: flash programs say no more than that there is none."""
    known = [u.what for b in boards for u in b.usb if u.matches(device.vid, device.pid, device.serial_number)]
    if not known or not device.node or os.access(device.node, os.R_OK | os.W_OK):
        return None
    found = f"{known[0]} {device.vid:04x}:{device.pid:04x} serial {device.serial_number or 'none'}; not yours to open"
    return Finding(device.node, "optional", found, (INSTALL_RULES,))


def _programs(boards: Iterable[Board]) -> list[str]:
    """Programs of the boards' runners, each once."""
    return list(dict.fromkeys(runner.command[0] for board in boards for runner in board.runners if runner.command))


def _described(port: UsbPort) -> str:
    return f"{port.description} {port.usb} serial {port.serial_number or 'none'}"


def _whose(port: UsbPort, boards: Sequence[Board]) -> str:
    if boards:
        return " or ".join(board.name for board in boards)
    adapter = f"serial adapter {port.adapter}, any board" if port.adapter else "of no board that is known"
    return f"{adapter}; say which in a hardware map"
