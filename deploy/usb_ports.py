"""Serial ports and probes on USB, and the boards that they may belong to; nothing is opened to find out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policyport.deploy.board import Board

BY_ID, BY_PATH = Path("/dev/serial/by-id"), Path("/dev/serial/by-path")
SYSFS = Path("/sys/bus/usb/devices")

ADAPTERS = {
    (0x0403, 0x6001): "FTDI FT232R",
    (0x0403, 0x6010): "FTDI FT2232",
    (0x0403, 0x6014): "FTDI FT232H",
    (0x0403, 0x6015): "FTDI FT-X",
    (0x067B, 0x2303): "Prolific PL2303",
    (0x10C4, 0xEA60): "Silicon Labs CP210x",
    (0x1A86, 0x55D4): "WCH CH9102",
    (0x1A86, 0x7523): "WCH CH340",
}
"""Serial adapters by USB vendor and product: any board can be behind one. Ids as in Linux' drivers for them."""


@dataclass(frozen=True)
class UsbPort:
    """A serial port on USB."""

    device: str
    """``/dev/ttyACM0``, ``COM3``"""

    path: str
    """A name that it keeps: by its serial number, else by where it is plugged in; ``device`` where there is none."""

    vid: int
    pid: int
    serial_number: str
    """Empty where the device has none."""

    description: str

    @property
    def usb(self) -> str:
        """Vendor and product, ``0483:374b``."""
        return f"{self.vid:04x}:{self.pid:04x}"

    @property
    def adapter(self) -> str:
        """Name of the serial adapter that it is; empty where it is none that is known."""
        return ADAPTERS.get((self.vid, self.pid), "")


@dataclass(frozen=True)
class UsbDevice:
    """A device on USB, with or without a serial port."""

    vid: int
    pid: int
    serial_number: str
    """Empty where it has none."""

    node: str
    """What a flash program opens to reach it; empty where that is not known."""


def usb_ports() -> list[UsbPort]:
    """The serial ports on USB, by device name; none is opened."""
    from serial.tools.list_ports import comports

    found = [
        UsbPort(
            p.device,
            _lasting_path(p.device, bool(p.serial_number)),
            p.vid,
            p.pid or 0,
            p.serial_number or "",
            p.description,
        )
        for p in comports()
        if p.vid is not None
    ]
    return sorted(found, key=lambda port: port.device)


def candidates(port: UsbPort, boards: Iterable[Board]) -> list[Board]:
    """The boards that a port may belong to, by the USB ids in their TOML files."""
    return [board for board in boards if any(u.matches(port.vid, port.pid, port.serial_number) for u in board.usb)]


def usb_devices() -> list[UsbDevice]:
    """What is plugged in: from Linux' sysfs, with probes that have no serial port; elsewhere the serial ports."""
    if SYSFS.is_dir():
        return [_sysfs_device(folder) for folder in sorted(SYSFS.iterdir()) if (folder / "idVendor").is_file()]
    return [UsbDevice(port.vid, port.pid, port.serial_number, "") for port in usb_ports()]


def attached_probes(board: Board) -> list[str]:
    """Serial numbers of the probes that are plugged in and can program a board; empty ones for those without."""
    probes = [usb for usb in board.usb if usb.probe]
    return [d.serial_number for d in usb_devices() if any(u.matches(d.vid, d.pid, d.serial_number) for u in probes)]


def is_probe(port: UsbPort, boards: Sequence[Board]) -> bool:
    """Whether the device of a port also programs one of the boards."""
    return any(u.probe and u.matches(port.vid, port.pid, port.serial_number) for board in boards for u in board.usb)


def _sysfs_device(folder: Path) -> UsbDevice:
    vid, pid = (int((folder / name).read_text(), 16) for name in ("idVendor", "idProduct"))
    bus, number = (int((folder / name).read_text()) for name in ("busnum", "devnum"))
    serial = folder / "serial"
    serial_number = serial.read_text(errors="replace").strip() if serial.is_file() else ""
    return UsbDevice(vid, pid, serial_number, f"/dev/bus/usb/{bus:03d}/{number:03d}")


def _lasting_path(device: str, has_serial_number: bool) -> str:
    """A link to the device that outlives unplugging: two devices without a serial number share one by-id name."""
    for folder in (BY_ID, BY_PATH) if has_serial_number else (BY_PATH,):
        for link in sorted(folder.iterdir()) if folder.is_dir() else ():
            if os.path.realpath(link) == os.path.realpath(device):
                return str(link)
    return device
