"""The host's end of an emulated UART: a pseudo terminal, or a TCP socket where there are none."""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from typing import Protocol

IDLE_POLLS = 16
"""Status polls in a row, nothing received or sent between them, after which the board waits for the host.

More than one: some UARTs poll the same register before they send.
"""

FLUSH_BYTES = 1024
"""Bytes that are gathered before they go out in one write."""


class Link(Protocol):
    """A byte stream to the host."""

    url: str
    """What pyserial opens."""

    def wait(self, timeout_s: float | None) -> bool:
        """Whether a byte came within ``timeout_s``; None waits for ever."""
        ...

    def receive(self) -> bytes:
        """What has come, at least one byte unless the host has gone."""
        ...

    def send(self, data: bytes) -> None:
        """Send all of it."""


class PtyLink:
    """A pseudo terminal, which pyserial opens as it would open ``/dev/ttyACM0``."""

    def __init__(self) -> None:
        import tty

        self._master, self._slave = os.openpty()
        # The slave stays open here: else the master reads EIO whenever the host closes its end.
        tty.setraw(self._slave)
        self.url = os.ttyname(self._slave)

    def wait(self, timeout_s: float | None) -> bool:
        """See :class:`Link`."""
        return bool(select.select([self._master], [], [], timeout_s)[0])

    def receive(self) -> bytes:
        """See :class:`Link`."""
        return os.read(self._master, 65536)

    def send(self, data: bytes) -> None:
        """See :class:`Link`."""
        while data:
            data = data[os.write(self._master, data) :]


class SocketLink:
    """A listening TCP socket on the loopback interface; one host at a time, and the next after it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._host: socket.socket | None = None
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def wait(self, timeout_s: float | None) -> bool:
        """See :class:`Link`."""
        if self._host is None:
            if not select.select([self._listener], [], [], timeout_s)[0]:
                return False
            self._accept()
        return bool(select.select([self._connected()], [], [], timeout_s)[0])

    def receive(self) -> bytes:
        """See :class:`Link`."""
        try:
            data = self._connected().recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._hang_up()
        return data

    def send(self, data: bytes) -> None:
        """See :class:`Link`. Bytes to a host that has gone are lost, as on a wire."""
        if self._host is None:
            self._accept()
        try:
            self._connected().sendall(data)
        except ConnectionError:
            self._hang_up()

    def _accept(self) -> None:
        self._host, _ = self._listener.accept()
        self._host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(self) -> socket.socket:
        assert self._host is not None
        return self._host

    def _hang_up(self) -> None:
        self._connected().close()
        self._host = None


class Wire:
    """What a UART model sees of the host: single bytes, and whether one is there."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._received: deque[int] = deque()
        self._sent = bytearray()
        self._idle_polls = 0

    @property
    def holds_byte(self) -> bool:
        """Whether a byte has been received and not taken."""
        return bool(self._received)

    def poll(self) -> bool:
        """Whether a byte waits to be taken. Blocks once the firmware does nothing but poll."""
        if self._received:
            return True
        self._idle_polls += 1
        if self._idle_polls > IDLE_POLLS:
            self.idle()
        elif self.link.wait(0):
            self._received.extend(self.link.receive())
        return bool(self._received)

    def idle(self, timeout_s: float | None = None) -> bool:
        """Send what was gathered, then wait for a byte of the host; whether one came within ``timeout_s``."""
        self.flush()
        self._idle_polls = 0
        while not self._received and self.link.wait(timeout_s):
            self._received.extend(self.link.receive())
        return bool(self._received)

    def take(self) -> int:
        """The next byte received, 0 where there is none."""
        self._idle_polls = 0
        return self._received.popleft() if self._received else 0

    def put(self, byte: int) -> None:
        """A byte for the host."""
        self._idle_polls = 0
        self._sent.append(byte)
        if len(self._sent) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        if self._sent:
            self.link.send(bytes(self._sent))
            self._sent.clear()
