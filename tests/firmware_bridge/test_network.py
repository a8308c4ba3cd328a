"""A board behind a network port: raw TCP, and RFC 2217, by which a host also sets the far serial line up."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from policyport.core.errors import BoardError
from policyport.firmware_bridge.client import Bridge
from policyport.firmware_bridge.link import Link
from serial import rfc2217

pytestmark = pytest.mark.filterwarnings(r"ignore:set(Daemon|Name)\(\):DeprecationWarning")  # pyserial 3.5 calls them


class Server:
    """Serves one connection to a serial line, as a terminal server does.

    :param negotiates: whether it speaks RFC 2217
    """

    def __init__(self, device: str, negotiates: bool) -> None:
        self.settings = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'rfc2217' if negotiates else 'socket'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._negotiates = negotiates
        self._device = os.open(device, os.O_RDWR | os.O_NOCTTY)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            manager = _Manager(self, connection) if self._negotiates else None
            while True:
                ready, _, _ = select.select([connection, self._device], [], [])
                if self._device in ready:
                    data = os.read(self._device, 4096)
                    connection.sendall(b"".join(manager.escape(data)) if manager else data)
                if connection in ready:
                    data = connection.recv(4096)
                    if not data:
                        return  # the host has gone
                    os.write(self._device, b"".join(manager.filter(data)) if manager else data)

    def close(self) -> None:
        """Wait until the host has gone."""
        self._thread.join(10)
        os.close(self._device)
        self._listener.close()


class _Manager(rfc2217.PortManager):  # type: ignore[misc]
    """pyserial's own server side, on a line that has no modem signals."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        settings = {"baudrate": 9600, "bytesize": 8, "parity": "N", "stopbits": 1}
        signals = dict.fromkeys(("rts", "dtr", "rtscts", "xonxoff"), False)
        purges = dict.fromkeys(("reset_input_buffer", "reset_output_buffer"), lambda: None)
        line = SimpleNamespace(**settings, **signals, **purges)
        super().__init__(line, SimpleNamespace(write=connection.sendall))

    def check_modem_lines(self, force_notification: bool = False) -> None:
        """There are none."""

    def _telnet_process_subnegotiation(self, suboption: bytes) -> None:
        self._server.settings += suboption[1:2] == rfc2217.SET_BAUDRATE
        super()._telnet_process_subnegotiation(suboption)


@pytest.fixture(params=[False, True], ids=["socket", "rfc2217"])
def server(line: Any, request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(line.url, request.param)
    yield made
    made.close()


def test_frames_of_every_byte_go_both_ways(server: Server) -> None:
    payload = bytes(range(256)) * 4
    with Bridge.open(server.url) as bridge:
        for _ in range(5):
            assert bridge.echo(payload) == payload
        assert bridge.retries_used == 0
    assert server.settings == server.url.startswith("rfc2217")  # once, and not anew for every read


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_nobody_serves(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(BoardError, match="this port does not open"):
        Link(f"{scheme}://127.0.0.1:{port}")
