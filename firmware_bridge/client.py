"""The host's side of the bridge: requests to a board and what it answers.

with Bridge.open("/dev/ttyACM0") as bridge:
    print(bridge.hello().build_id)
    print(bridge.infer(q).output)
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray
from policyport.core.closing import Closing
from policyport.core.errors import BoardFaultError, BoardTimeoutError, ProtocolError, RefusedError
from policyport.core.semantics import Integers
from policyport.firmware_bridge.frame import Decoder, Frame, encode
from policyport.firmware_bridge.link import Line, Link
from policyport.firmware_bridge.log import WireLog
from policyport.firmware_bridge.messages import (
    BOOT,
    COUNT,
    FAULT,
    NAK,
    REPLY,
    RESET_CAUSES,
    STATUS,
    TICKS,
    TRACE_REPLY,
    TRACE_REQUEST,
    Identity,
    Inference,
    Memory,
    TraceLayer,
    Type,
    describe_fault,
    pack_values,
    unpack_values,
)

__all__ = ["Bridge", "Identity", "Inference", "Memory", "TraceLayer", "WireLog"]


class Bridge(Closing):
    """A conversation with the firmware on a board: one request at a time, sent again where no answer comes.

    :param link: the open line; the bridge closes it
    :param timeout_s: seconds to wait for an answer before the request is sent again
    :param retries: times that a request is sent again
    """

    def __init__(self, link: Line, timeout_s: float = 2.0, retries: int = 3) -> None:
        self.retries_used = 0
        self.round_trips = 0
        self._link = link
        self._timeout_s = timeout_s
        self._retries = retries
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        # Another session's last request must not look like this one's first: its stored reply would come back.
        self._sequence = time.monotonic_ns() >> 10 & 0xFF
        self._greeted = False
        self._identity: Identity | None = None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        baud: int = 115200,
        timeout_s: float = 2.0,
        retries: int = 3,
        wait_s: float = 0.0,
        log: WireLog | None = None,
    ) -> Bridge:
        """Open a port and talk to the board behind it.

        :param url: anything that pyserial opens
        :param wait_s: seconds to wait for a port that another process holds
        :raises BoardError: as :class:`policyport.firmware_bridge.link.Link`
        """
        return cls(Link(url, baud, wait_s, log), timeout_s, retries)

    def hello(self) -> Identity:
        """Ask who is there.

        :raises BoardTimeoutError: nobody answers
        """
        self._greeted = False  # a board that has just been reset may announce itself first
        self._identity = Identity.parse(self.request(Type.HELLO, b""))
        self._greeted = True
        return self._identity

    def echo(self, data: bytes) -> bytes:
        """Send bytes and get them back."""
        return self.request(Type.ECHO, data)

    def infer(self, q: Integers) -> Inference:
        """One inference.

        :param q: [inputs], integers of the input's width
        """
        who = self._who()
        reply = self.request(Type.INFER, self._input(q))
        (ticks,) = TICKS.unpack_from(reply)
        return Inference(unpack_values(reply[TICKS.size :], who.output_bits), ticks)

    def run_many(self, q: Integers) -> tuple[Integers, NDArray[np.int64]]:
        """Inferences, as many in a frame as fit.

        :param q: [n, inputs]
        :returns: outputs [n, outputs] and ticks [n]
        """
        who = self._who()
        record = np.dtype([("ticks", "<u4"), ("output", "<i1" if who.output_bits == 8 else "<i2", (who.output_size,))])
        room = who.max_payload - COUNT.size
        chunk = min(room // (who.input_size * who.input_bits // 8), room // record.itemsize)
        outputs = np.zeros((len(q), who.output_size), np.int64)
        ticks = np.zeros(len(q), np.int64)
        for begin in range(0, len(q), chunk):
            rows = q[begin : begin + chunk]
            reply = self.request(Type.RUN_MANY, COUNT.pack(len(rows)) + b"".join(self._input(row) for row in rows))
            records = np.frombuffer(reply, record, offset=COUNT.size)
            if len(records) != len(rows):
                raise ProtocolError("another number of results than of inputs", expected=len(rows), got=len(records))
            outputs[begin : begin + chunk] = records["output"]
            ticks[begin : begin + chunk] = records["ticks"]
        return outputs, ticks

    def trace(self, q: Integers) -> list[TraceLayer]:
        """Every layer's output for one input.

        :param q: [inputs]
        """
        return [self._trace_layer(layer, size, bits, q) for layer, (size, bits) in enumerate(self._who().layers)]

    def layer_ticks(self, layer: int, q: Integers) -> int:
        """Ticks of one layer, those before it having run.

        :param layer: its number, from 0
        :param q: [inputs]
        """
        reply = self.request(Type.TRACE, TRACE_REQUEST.pack(layer, 0, 0) + self._input(q))
        ticks, _ = TRACE_REPLY.unpack_from(reply)
        return int(ticks)

    def memory(self) -> Memory:
        """Stack and static RAM as the firmware sees them."""
        return Memory.parse(self.request(Type.MEMORY, b""))

    def reset(self) -> None:
        """Restart the firmware and wait until it announces itself.

        :raises BoardTimeoutError: it does not come back
        """
        self.restart(Type.RESET)

    def restart(self, kind: int, timeout_s: float | None = None) -> None:
        """Send a request after which the board restarts, and wait until its firmware announces itself.

        :param timeout_s: seconds until then; None for as long as all the bridge's attempts at a request
        :raises BoardTimeoutError: it does not
        """
        self._greeted = False
        self.request(kind, b"")
        deadline = time.monotonic() + (self._timeout_s * (1 + self._retries) if timeout_s is None else timeout_s)
        while (frame := self._next_frame(deadline)) is not None:
            if frame.type == BOOT:
                return
        raise BoardTimeoutError("the board did not come back from a reset", where=self._link.url)

    def user(self, kind: int, payload: bytes = b"") -> bytes:
        """A request of the user's own firmware.

        :param kind: 0x40 to 0x6F
        """
        return self.request(kind, payload)

    def close(self) -> None:
        """Close the line."""
        self._link.close()

    def _who(self) -> Identity:
        return self._identity if self._identity is not None else self.hello()

    def _input(self, q: Integers) -> bytes:
        who = self._who()
        if np.shape(q) != (who.input_size,):
            raise ProtocolError("input of a wrong shape", expected=(who.input_size,), got=np.shape(q))
        return pack_values(q, who.input_bits)

    def _trace_layer(self, layer: int, size: int, bits: int, q: Integers) -> TraceLayer:
        data = b""
        ticks = 0
        while len(data) < size * bits // 8:
            first = len(data) * 8 // bits
            reply = self.request(Type.TRACE, TRACE_REQUEST.pack(layer, 0, first) + self._input(q))
            ticks, got = TRACE_REPLY.unpack_from(reply)
            if got != first or len(reply) == TRACE_REPLY.size:
                raise ProtocolError("another part of a layer than was asked for", expected=first, got=got)
            data += reply[TRACE_REPLY.size :]
        return TraceLayer(unpack_values(data, bits), ticks)

    def request(self, kind: int, payload: bytes, timeout_s: float | None = None) -> bytes:
        """One round trip; the same frame again where no answer comes.

        :param kind: a :class:`Type`
        :param timeout_s: seconds to wait for the answer, for a request that takes its time; None for the bridge's
        :returns: the reply's payload
        :raises RefusedError: the board refuses it
        :raises BoardError: no answer, or a fault
        """
        self._sequence = (self._sequence + 1) & 0xFF
        request = Frame(kind, self._sequence, 0, payload)
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        for attempt in range(self._retries + 1):
            self.retries_used += attempt > 0
            self._link.write(encode(request))
            reply = self._await(request, timeout_s)
            if reply is not None:
                self.round_trips += 1
                return self._payload(request, reply)
        raise BoardTimeoutError(
            "the board does not answer",
            where=self._link.url,
            expected=f"a reply to request 0x{kind:02x} within {timeout_s} s",
            got=f"none to {self._retries + 1} attempts",
            cure="check that the firmware is flashed (policyport flash), the port and the baud rate",
        )

    def _await(self, request: Frame, timeout_s: float) -> Frame | None:
        """The reply, or None when it is time to ask again."""
        deadline = time.monotonic() + timeout_s
        while (frame := self._next_frame(deadline)) is not None:
            if frame.type == NAK:
                return None
            self._check_announcement(frame)
            if frame.type == request.type | REPLY and frame.sequence == request.sequence:
                return frame
        return None

    def _next_frame(self, deadline: float) -> Frame | None:
        """The next frame, or None at the deadline; noise, and replies that lost bytes, are passed over."""
        while not self._frames:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            found = self._decoder.feed(self._link.read(left))
            self._frames.extend(frame for frame in found if isinstance(frame, Frame))
        return self._frames.popleft()

    def _check_announcement(self, frame: Frame) -> None:
        if frame.type == FAULT:
            raise BoardFaultError(
                "the firmware faulted", where=self._link.url, got=describe_fault(frame.payload), cure="reset the board"
            )
        if frame.type == BOOT and self._greeted:
            cause = RESET_CAUSES.get(frame.payload[0] if frame.payload else 255, "unknown")
            raise BoardFaultError("the board restarted in the middle of a session", where=self._link.url, got=cause)

    def _payload(self, request: Frame, reply: Frame) -> bytes:
        if reply.status != 0:
            raise RefusedError(
                "the board refused a request",
                status=reply.status,
                where=f"request 0x{request.type:02x}",
                got=STATUS.get(reply.status, f"status {reply.status}"),
            )
        return reply.payload
