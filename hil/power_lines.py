"""A meter that sends a line for each sample over a serial port: the power in watts, as a decimal number."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
from policyport.core.closing import Closing
from policyport.core.errors import BoardError, ConfigError
from policyport.firmware_bridge.link import Link
from policyport.hil.power_recording import Recording

READ_S = 0.1
"""Longest wait for bytes, and so for the end."""


class MeterLines(Closing):
    """Samples at the times at which their lines came. A line that is no number is passed over.

    :param place: pyserial URL, with ``@`` and bits per second behind it; 115200 without
    :raises BoardError: no such port, or it is another process's
    :raises ConfigError: the bits per second are no number
    """

    def __init__(self, place: str) -> None:
        url, _, baud = place.partition("@")
        if baud and not baud.isdigit():
            raise ConfigError(
                "this is no rate of a serial line", where="power_meter", expected="lines:URL@BAUD", got=place
            )
        self._link = Link(url, int(baud or 115200))
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._failure: BoardError | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self, longest_s: float) -> None:
        """Read from now on."""
        self._reader.start()

    def stop(self) -> Recording:
        """See :class:`policyport.hil.energy.PowerMeter`.

        :raises BoardError: the line has gone meanwhile
        """
        self._ended.set()
        self._reader.join()
        if self._failure is not None:
            raise self._failure
        times, watts = np.array(self._samples).reshape(-1, 2).T
        return Recording(times, watts)

    def close(self) -> None:
        """Close the port."""
        self._ended.set()
        if self._reader.is_alive():
            self._reader.join()
        self._link.close()

    def _read(self) -> None:
        pending = b""
        try:
            while not self._ended.is_set():
                pending += self._link.read(READ_S)
                now_s = time.monotonic()
                *whole, pending = pending.split(b"\n")
                for number, line in enumerate(whole):
                    with contextlib.suppress(ValueError):  # lines that came at once are kept in order
                        self._samples.append((now_s + 1e-9 * number, float(line)))
        except BoardError as error:
            self._failure = error  # told by stop, in the thread that asks
