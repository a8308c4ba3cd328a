"""The device's side in Python: requests are carried out once, noise is refused, and what it packs reads as itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.semantics import Integers
from policyport.firmware_bridge.frame import Decoder, Frame, FrameError, encode
from policyport.firmware_bridge.messages import BOOT, COUNTERS, NAK, RESET_CAUSES, Identity, Memory, Type, pack_values
from policyport.firmware_bridge.server import Server, clock_overhead_ns

WHO = Identity(
    build_id="0123456789abcdef" * 2,
    model_sha256="fedcba9876543210" * 4,
    protocol=1,
    max_payload=1024,
    input_size=2,
    input_bits=16,
    output_size=1,
    output_bits=16,
    layers=(),
    board="desk",
    clock_hz=1_000_000_000,
    counter="clock",
    counter_overhead_ticks=30,
    reset_cause="power",
    compiler="numpy",
)


class Adder:
    """A network that adds its two inputs."""

    identity = WHO

    def __init__(self) -> None:
        self.runs = 0

    def prepare(self, q: Integers) -> object:
        return q

    def run(self, prepared: object) -> object:
        self.runs += 1
        return np.sum(prepared)  # type: ignore[call-overload]

    def integers(self, output: object) -> Integers:
        return np.array([output])

    def memory(self) -> Memory:
        return Memory(1, 2, 3)


def answers(server: Server, *requests: Frame) -> list[Frame | FrameError]:
    return list(Decoder().feed(server.feed(b"".join(map(encode, requests)))))


def infer(sequence: int, *values: int) -> Frame:
    return Frame(Type.INFER, sequence, 0, pack_values(np.array(values), 16))


def test_a_repeated_request_is_carried_out_once() -> None:
    adder = Adder()
    first, again, next_one = answers(Server(adder), infer(1, 300, -5), infer(1, 300, -5), infer(2, 300, -5))
    assert isinstance(first, Frame) and isinstance(next_one, Frame)
    assert first == again and adder.runs == 2
    assert first.payload[4:] == next_one.payload[4:] == pack_values(np.array([295]), 16)


def test_requests_of_one_sequence_number_are_told_apart() -> None:
    """A checksum over a whole frame, its own checksum included, would be the same for both."""
    kinds = [answer.type for answer in answers(Server(Adder()), *(Frame(k, 7, 0, b"") for k in (1, 5, 6)))]  # type: ignore[union-attr]
    assert kinds == [0x81, 0x85, 0x86]


def test_reset_is_answered_then_announced_and_forgets() -> None:
    adder = Adder()
    found = answers(Server(adder), infer(1, 1, 1), Frame(Type.RESET, 2, 0, b""), infer(1, 1, 1))
    assert [frame.type for frame in found if isinstance(frame, Frame)] == [0x83, 0x87, BOOT, 0x83]
    assert adder.runs == 2


def test_noise_is_refused() -> None:
    (found,) = Decoder().feed(Server(Adder()).feed(b"\0noise noise\0"))
    assert isinstance(found, Frame) and found.type == NAK and found.status in (FrameError.COBS, FrameError.CRC)


def test_start_is_announced() -> None:
    assert list(Decoder().feed(Server(Adder()).start())) == [Frame(BOOT, 0, 0, b"\0")]


@given(st.binary(max_size=60), st.integers(0, 255))
def test_any_request_gets_one_answer(payload: bytes, kind: int) -> None:
    request = Frame(kind, 3, 0, payload)
    found = answers(Server(Adder()), request)
    assert len(found) == (2 if kind == Type.RESET else 1)
    assert isinstance(found[0], Frame) and found[0].sequence == 3 and (found[0].status == 0 or not found[0].payload)


@given(
    st.text(max_size=10),
    st.sampled_from(sorted(COUNTERS.values())),
    st.sampled_from(sorted(RESET_CAUSES.values())),
    st.lists(st.tuples(st.integers(1, 2**24 - 1), st.sampled_from([8, 16])), max_size=20),
    st.integers(1, 2**32 - 1),
)
def test_identity_reads_as_it_was_packed(
    board: str, counter: str, cause: str, layers: list[tuple[int, int]], clock_hz: int
) -> None:
    fields = {**vars(WHO), "board": board[:8], "counter": counter, "reset_cause": cause, "clock_hz": clock_hz}
    identity = Identity(**{**fields, "layers": tuple(layers)})
    assert Identity.parse(identity.pack()) == identity


def test_memory_reads_as_it_was_packed() -> None:
    assert Memory.parse(Memory(1, 2, 2**32 - 1).pack()) == Memory(1, 2, 2**32 - 1)


def test_an_empty_measurement_takes_no_less_than_nothing() -> None:
    assert 0 <= clock_overhead_ns() < 1_000_000_000
