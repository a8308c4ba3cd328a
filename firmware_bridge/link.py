"""A serial line to a board: any pyserial URL, opened exclusively, with a lock that names its holder."""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from typing import Any, Protocol

import serial
from policyport.core.closing import Closing
from policyport.core.errors import BoardBusyError, BoardError
from policyport.core.port_lock import PortLock, busy, processes_with
from policyport.firmware_bridge.log import WireLog

READ_BYTES = 4096
"""Asked for at once: ``socket://`` knows no better how much has come."""

PIECE_BYTES = 256
"""What is written at a time: the line may be slow, but not so slow that a piece takes :data:`WRITE_TIMEOUT_S`."""

WRITE_TIMEOUT_S = 20.0
"""An emulated board takes a byte at a time, each in its turn on a machine that may be busy."""

POLL_S = 0.05
"""Longest wait of one read, and between two looks whether a port is free."""

PSEUDO_TERMINALS = "/dev/pts/"


class Line(Protocol):
    """An open byte stream to a board: a :class:`Link`, or what stands in its place."""

    url: str

    def write(self, data: bytes) -> None:
        """Send all of it."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, or nothing after ``timeout_s``."""
        ...

    def close(self) -> None:
        """Let go of it."""


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
        deadline = time.monotonic() + wait_s
        self._lock.acquire(wait_s)
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            self._port = _open_free(url, baud, deadline)
            undo.pop_all()

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
        if self._port.timeout != timeout_s and not _negotiates(self.url):
            self._port.timeout = timeout_s
        first = bytes(self._port.read(1))
        return first + (self._drain() if first else b"")

    def _drain(self) -> bytes:
        """What else is there; URL handlers but RFC 2217's cannot say how much that is."""
        if "://" in self.url and not _negotiates(self.url):
            self._port.timeout = 0
            return bytes(self._port.read(READ_BYTES))
        waiting = self._port.in_waiting
        return bytes(self._port.read(waiting)) if waiting else b""

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


def _open_free(url: str, baud: int, deadline: float) -> Any:
    """Open a port, waiting until ``deadline`` for programs that know nothing of our lock."""
    while True:
        try:
            _refuse_foreign(url)
            return _open(url, baud)
        except BoardBusyError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_S)


def _refuse_foreign(url: str) -> None:
    """A terminal program or ModemManager need not lock what they read: what the board says would go to them.

    :raises BoardBusyError: a process has the device open; of a pseudo terminal the emulator has
    """
    if "://" not in url and not os.path.realpath(url).startswith(PSEUDO_TERMINALS):
        holders = processes_with(url)
        if holders:
            raise busy(url, ", ".join(holders))


def _negotiates(url: str) -> bool:
    """Whether every setting of a port, a timeout too, is negotiated with its server anew: some 50 ms each."""
    return url.lower().startswith("rfc2217://")


def _open(url: str, baud: int) -> Any:
    arguments: dict[str, Any] = {"baudrate": baud, "timeout": POLL_S}
    if not _negotiates(url):  # pyserial's RFC 2217 knows no write timeout
        arguments["write_timeout"] = WRITE_TIMEOUT_S
    if "://" not in url and os.name == "posix":
        arguments["exclusive"] = True
    try:
        return serial.serial_for_url(url, **arguments)
    except (serial.SerialException, OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.EBUSY or "exclusively lock" in str(error):
            raise busy(url, ", ".join(processes_with(url)) or f"a process of another user: sudo fuser {url}") from error
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
