"""The device's side of the bridge in Python: what answers a host where no firmware of ours runs.

    server = Server(device)
    line.write(server.start())
    while data := line.read():
        line.write(server.feed(data))

It takes and sends what ``device/pp_bridge.c`` does, but for layers: a network that somebody else's runtime computes has
none to trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from policyport.core.semantics import Integers
from policyport.firmware_bridge.frame import Decoder, Frame, FrameError, encode
from policyport.firmware_bridge.messages import (
    BOOT,
    COUNT,
    NAK,
    REPLY,
    TICKS,
    Identity,
    Memory,
    Type,
    pack_values,
    unpack_values,
)

OK, UNKNOWN_TYPE, BAD_LENGTH = 0, 1, 2
"""Statuses, as ``pp_status_t`` numbers them."""

POWER, REQUEST = 0, 1
"""Causes of a start, as ``pp_reset_cause_t`` numbers them."""

EMPTY_MEASUREMENTS = 64


class Device(Protocol):
    """What answers."""

    identity: Identity

    def prepare(self, q: Integers) -> object:
        """An input as it is computed with.

        :param q: [inputs]
        """
        ...

    def run(self, prepared: object) -> object:
        """One inference: this alone is measured."""
        ...

    def integers(self, output: object) -> Integers:
        """The output of :meth:`run` as integers, [outputs]."""
        ...

    def memory(self) -> Memory:
        """Its RAM so far."""
        ...


class Server:
    """Answers requests, each once: a repeated one gets the stored reply."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._decoder = Decoder()
        self._last: tuple[Frame, bytes] | None = None
        self._verbs: dict[int, Callable[[bytes], tuple[int, bytes]]] = {
            Type.HELLO: lambda _: (OK, device.identity.pack()),
            Type.ECHO: lambda payload: (OK, payload),
            Type.INFER: self._infer,
            Type.RUN_MANY: self._run_many,
            Type.MEMORY: lambda _: (OK, device.memory().pack()),
            Type.RESET: lambda _: (OK, b""),
        }

    def start(self, cause: int = POWER) -> bytes:
        """What is said at the start: a BOOT frame."""
        return encode(Frame(BOOT, 0, 0, bytes([cause])))

    def feed(self, data: bytes) -> bytes:
        """Take what has come.

        :returns: what to send
        """
        return b"".join(map(self._answer, self._decoder.feed(data)))

    def _answer(self, frame: Frame | FrameError) -> bytes:
        if isinstance(frame, FrameError):
            return encode(Frame(NAK, 0, int(frame), b""))
        if self._last is None or self._last[0] != frame:
            verb = self._verbs.get(frame.type)
            status, payload = (UNKNOWN_TYPE, b"") if verb is None else verb(frame.payload)
            reply = Frame((frame.type | REPLY) & 0xFF, frame.sequence, status, b"" if status else payload)
            self._last = frame, encode(reply)
        sent = self._last[1]
        if frame.type == Type.RESET:
            self._last = None
            sent += self.start(REQUEST)
        return sent

    def _infer(self, payload: bytes) -> tuple[int, bytes]:
        who = self._device.identity
        if len(payload) != who.input_size * who.input_bits // 8:
            return BAD_LENGTH, b""
        return OK, self._measured(payload)

    def _run_many(self, payload: bytes) -> tuple[int, bytes]:
        who = self._device.identity
        width, record = who.input_size * who.input_bits // 8, TICKS.size + who.output_size * who.output_bits // 8
        if len(payload) < COUNT.size:
            return BAD_LENGTH, b""
        (count,) = COUNT.unpack_from(payload)
        if len(payload) != COUNT.size + count * width or COUNT.size + count * record > who.max_payload:
            return BAD_LENGTH, b""
        inputs = [payload[at : at + width] for at in range(COUNT.size, len(payload), width)]
        return OK, COUNT.pack(count) + b"".join(map(self._measured, inputs))

    def _measured(self, values: bytes) -> bytes:
        """One inference: ticks, output."""
        who = self._device.identity
        prepared = self._device.prepare(unpack_values(values, who.input_bits))
        begin = time.perf_counter_ns()
        output = self._device.run(prepared)
        ticks = time.perf_counter_ns() - begin
        return TICKS.pack(ticks & 0xFFFFFFFF) + pack_values(self._device.integers(output), who.output_bits)


def clock_overhead_ns() -> int:
    """What an empty measurement yields: the shortest of some."""
    return min(-(time.perf_counter_ns() - time.perf_counter_ns()) for _ in range(EMPTY_MEASUREMENTS))
