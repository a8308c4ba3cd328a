"""A serial line to a board: any pyserial URL, opened exclusively, with a lock that names its holder."""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import serial
from policyport.core.closing import Closing
from policyport.core.errors import BoardBusyError, BoardError
from policyport.core.lock import NamedLock
from policyport.firmware_bridge.log import WireLog

READ_BYTES = 4096
"""Asked for at once: ``socket://`` knows no better how much has come."""

PIECE_BYTES = 1024
"""What is written at a time: the line may be slow, but not so slow that a piece takes :data:`WRITE_TIMEOUT_S`."""

WRITE_TIMEOUT_S = 5.0

POLL_S = 0.05
"""Longest wait of one read."""


class PortLock:
    """An inter-process lock on a port; the operating system releases it when its holder dies.

    :param url: pyserial URL or device path
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # A device by any of its names is one device.
        device = os.path.realpath(url) if "://" not in url else url
        name = hashlib.sha256(device.encode()).hexdigest()[:16]
        self._lock = NamedLock(_runtime_folder() / f"{name}.lock")

    def acquire(self, wait_s: float) -> None:
        """Take the lock.

        :param wait_s: seconds to wait for another holder to let go
        :raises BoardBusyError: another process holds it; its pid and command are named
        """
        holder = self._lock.acquire(wait_s)
        if holder:
            raise BoardBusyError(
                "another process holds this port",
                where=self.url,
                got=f"held by {holder}",
                cure="end that process, or wait for it with --wait-s SECONDS",
            )

    def release(self) -> None:
        """Let go."""
        self._lock.release()


class Link(Closing):
    """An open byte stream to a board.

    :param url: pyserial URL: a device, ``socket://host:port``, ``rfc2217://``, ``loop://``, ``spy://``
    :param baud: bits per second
    :param wait_s: seconds to wait for a port that another process holds
    :raises BoardBusyError: somebody else has it
    :raises BoardError: no such port, or it does not open
    """

    def __init__(self, url: str, baud: int = 115200, wait_s: float = 0.0, log: WireLog | None = None) -> None:
        self.url = url
        self._log = log
        self._lock = PortLock(url)
        self._lock.acquire(wait_s)
        try:
            self._port = _open(url, baud)
        except BaseException:
            self._lock.release()
            raise

    def write(self, data: bytes) -> None:
        """Send all of it.

        :raises BoardError: the line has gone
        """
        if self._log is not None:
            self._log.write(">", data)
        try:
            for begin in range(0, len(data), PIECE_BYTES):
                self._port.write(data[begin : begin + PIECE_BYTES])
        except (serial.SerialException, OSError) as error:
            raise self._gone(error) from error

    def read(self, timeout_s: float) -> bytes:
        """What has come, or nothing after ``timeout_s``.

        :raises BoardError: the line has gone
        """
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            try:
                data = self._read_some(max(0.0, min(left, POLL_S)))
            except (serial.SerialException, OSError, TypeError) as error:
                raise self._gone(error) from error
            if data and self._log is not None:
                self._log.write("<", data)
            if data or left <= 0:
                return data

    def _read_some(self, timeout_s: float) -> bytes:
        """One byte or all that is there: a read for many would wait for all of them or the timeout."""
        if self._port.timeout != timeout_s:
            self._port.timeout = timeout_s
        if "://" in self.url:
            first = bytes(self._port.read(1))
            return first + (self._drain() if first else b"")
        first = bytes(self._port.read(1))
        waiting = self._port.in_waiting if first else 0
        return first + (bytes(self._port.read(waiting)) if waiting else b"")

    def _drain(self) -> bytes:
        """What else a URL handler has, which cannot say how much that is."""
        self._port.timeout = 0
        return bytes(self._port.read(READ_BYTES))

    def _gone(self, error: Exception) -> BoardError:
        return BoardError(
            "the serial line has gone",
            where=self.url,
            got=error,
            cure="check the cable and start again",
        )

    def close(self) -> None:
        """Close the port and let go of the lock."""
        try:
            self._port.close()
        finally:
            self._lock.release()


def _runtime_folder() -> Path:
    """A folder of this user's that does not outlive the session."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) if base else Path(tempfile.gettempdir()) / f"policyport-{getpass.getuser()}"
    folder = folder / "policyport"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _open(url: str, baud: int) -> Any:
    arguments: dict[str, Any] = {"baudrate": baud, "timeout": POLL_S, "write_timeout": WRITE_TIMEOUT_S}
    if "://" not in url and os.name == "posix":
        arguments["exclusive"] = True
    try:
        return serial.serial_for_url(url, **arguments)
    except (serial.SerialException, OSError, ValueError) as error:
        if isinstance(error, serial.SerialException) and "exclusively lock" in str(error):
            raise BoardBusyError(
                "another program holds this port", where=url, got=error, cure=f"find it with: fuser {url}"
            ) from error
        raise BoardError(
            "this port does not open",
            where=url,
            expected=f"one of: {_ports()}",
            got=error,
            cure="plug the board in, or give its port with --port; policyport doctor says more",
        ) from error


def _ports() -> str:
    from serial.tools.list_ports import comports

    return ", ".join(port.device for port in comports()) or "no serial port on this machine"
