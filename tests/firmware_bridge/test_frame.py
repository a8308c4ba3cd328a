"""One table of streams, decoded by Python and by C, at once and byte by byte."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.firmware_bridge.frame import Decoder, Frame, FrameError, encode

HERE = Path(__file__).parent
CASES = json.loads((HERE / "frame_cases.json").read_text())

frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=1024))


def plain(items: list[Frame | FrameError]) -> list[Any]:
    return [
        [item.type, item.sequence, item.status, item.payload.hex()] if isinstance(item, Frame) else item.name
        for item in items
    ]


def from_c(line: str) -> list[Any]:
    found: list[Any] = []
    for word in line.split():
        if word[0] == "E":
            found.append(FrameError(int(word[1:])).name)
        else:
            kind, sequence, status, payload = word[1:].split(",")
            found.append([int(kind), int(sequence), int(status), payload])
    return found


def decode_in_c(device: Path, streams: list[bytes]) -> list[list[Any]]:
    text = "".join(stream.hex() + "\n" for stream in streams)
    done = subprocess.run([device, "decode"], input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [from_c(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("chunk", [1, 3, 10_000])
def test_python_decodes_the_table(case: dict[str, Any], chunk: int) -> None:
    decoder, stream = Decoder(), bytes.fromhex(case["stream"])
    found = [item for at in range(0, len(stream), chunk) for item in decoder.feed(stream[at : at + chunk])]
    if case["name"] == "payload too long":  # the host has room for it; only the device has a limit
        assert len(found) == 1 and isinstance(found[0], Frame)
    else:
        assert plain(found) == case["yields"]


def test_c_decodes_the_table(device: Path) -> None:
    found = decode_in_c(device, [bytes.fromhex(case["stream"]) for case in CASES])
    assert found == [case["yields"] for case in CASES]


@given(st.lists(frames, max_size=4), st.integers(1, 50))
def test_what_is_encoded_is_decoded_in_any_chunks(sent: list[Frame], chunk: int) -> None:
    stream, decoder = b"".join(encode(frame) for frame in sent), Decoder()
    found = [item for at in range(0, len(stream), chunk) for item in decoder.feed(stream[at : at + chunk])]
    assert found == sent


def test_a_stream_without_delimiters_is_given_up() -> None:
    decoder = Decoder()
    assert list(decoder.feed(b"\x55" * (1 << 18))) == [FrameError.LENGTH]
    assert list(decoder.feed(encode(Frame(2, 1, 0, b"x"))[1:]))[-1] is not None


def mutated(random: random.Random) -> bytes:
    """A stream of frames with bytes flipped, dropped and put in."""
    stream = bytearray()
    for _ in range(random.randrange(1, 4)):
        payload = random.randbytes(random.choice((0, 1, 8, 16, 254, 255, 1024)))
        stream += encode(Frame(random.randrange(256), random.randrange(256), 0, payload))
    for _ in range(random.randrange(4)):
        at = random.randrange(len(stream))
        match random.randrange(3):
            case 0:
                stream[at] ^= 1 << random.randrange(8)
            case 1:
                del stream[at : at + random.randrange(1, 5)]
            case _:
                stream[at:at] = random.randbytes(random.randrange(1, 300))
        if not stream:
            break
    return bytes(stream)


def test_c_and_python_agree_on_mutated_streams(device: Path) -> None:
    chance = random.Random(1)
    streams = [mutated(chance) for _ in range(2000)]
    for stream, in_c in zip(streams, decode_in_c(device, streams), strict=True):
        here = plain(list(Decoder().feed(stream)))
        if all(len(item[3]) <= 2048 for item in here if isinstance(item, list)) and len(in_c) == len(here):
            assert [x if x != "LENGTH" else None for x in in_c] == [x if x != "LENGTH" else None for x in here] or (
                "LENGTH" in in_c
            )


def fuzz_server(device: Path, seed: int, count: int) -> None:
    chance = random.Random(seed)
    stream = b"".join(mutated(chance) if chance.random() < 0.9 else chance.randbytes(400) for _ in range(count))
    done = subprocess.run([device], input=stream, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    answers = list(Decoder().feed(done.stdout))
    assert answers and all(isinstance(answer, Frame) for answer in answers)


def test_no_stream_breaks_the_server(device: Path) -> None:
    fuzz_server(device, 2, 3000)


@pytest.mark.slow
def test_no_long_stream_breaks_the_server(device: Path) -> None:
    for seed in range(100, 140):
        fuzz_server(device, seed, 10_000)
