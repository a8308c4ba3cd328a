"""MLPerf Tiny's commands beside frames on one line: the device library on the host, under sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policyport.firmware_bridge.frame import Frame, encode
from policyport.firmware_bridge.messages import BOOT, REPLY, Type

STARTED = encode(Frame(BOOT, 0, 0, b"\0"))
NAME = b"m-name-dut-[host]\r\nm-ready\r\n"
LOAD = "01000200fcff0700"  # 1, 2, -4, 7


def answers(device: Path, sent: bytes) -> bytes:
    """What the device says behind its announcement; it must end without a sanitizer's complaint."""
    done = subprocess.run([device], input=sent, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(STARTED)
    return done.stdout[len(STARTED) :]


def lines(device: Path, *commands: str) -> list[list[str]]:
    """The lines that answer each command, ``m-ready`` left out."""
    text = answers(device, "".join(f"{command}%" for command in commands).encode()).decode()
    parts = text.split("m-ready\r\n")
    assert len(parts) == len(commands) + 1 and parts[-1] == ""
    return [part.split("\r\n")[:-1] for part in parts[:-1]]


def test_the_runner_learns_who_is_there(mlperf_device: Path) -> None:
    name, profile, stamp, help_ = lines(mlperf_device, "name", "profile", "timestamp", "help")
    assert name == ["m-name-dut-[host]"]
    assert profile == ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[doubler]"]
    assert stamp == ["m-lap-us-126"], "this is the third command; each takes 42 ticks of 1 MHz here"
    assert any(line.startswith("infer") for line in help_)


def test_an_inference(mlperf_device: Path) -> None:
    load, first, second, shown, infer, again = lines(
        mlperf_device, "db load 8", f"db {LOAD[:6]}", f"db {LOAD[6:].upper()}", "db print", "infer 3 2", "results"
    )
    assert load == ["m-[Expecting 8 bytes]"] and first == [] and second == ["m-load-done"]
    assert shown == ["m-buffer-01-00-02-00-fc-ff-07-00"]
    assert infer[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-3"]
    assert [line.startswith("m-lap-us-") for line in infer[3:5]] == [True, True] and infer[5] == "m-infer-done"
    # 1 * 2 + 1 and the number of inferences so far, at a scale of 0.25 and a zero point of -3
    assert infer[6] == again[0] == "m-results-[1.500,2.000]"


def test_infer_has_ten_warm_ups_unless_it_says(mlperf_device: Path) -> None:
    *_, infer, none = lines(mlperf_device, "db load 8", f"db {LOAD}", "infer", "infer 1 0")
    assert infer[0] == "m-warmup-start-10" and infer[2] == "m-infer-start-1"
    assert none[0] == "m-warmup-start-0" and none[-1] == "m-results-[1.500,3.750]"  # the 12th inference


@pytest.mark.parametrize(
    ("commands", "refusal"),
    [
        (("sleep",), "e-[Unknown command: sleep]"),
        (("",), "e-[no command]"),
        (("db",), "e-[db takes load, print or bytes]"),
        (("db load",), "e-[db load takes 1 to 8 bytes]"),
        (("db load 0",), "e-[db load takes 1 to 8 bytes]"),
        (("db load 9",), "e-[db load takes 1 to 8 bytes]"),
        (("db load 4294967297",), "e-[db load takes 1 to 8 bytes]"),
        (("db load 8", "db 012"), "e-[odd number of hexadecimal digits]"),
        (("db load 8", "db 0g"), "e-[not a hexadecimal digit]"),
        (("db 01",), "e-[more bytes than db load announced]"),
        (("db load 2", "db 010203"), "e-[more bytes than db load announced]"),
        (("infer 1 1",), "e-[the input has 0 bytes of 8]"),
        (("db load 8", "db 0102", "infer 1"), "e-[the input has 2 bytes of 8]"),
        (("infer 0",), "e-[infer takes a number of inferences, and one of warm-ups]"),
        (("infer 1 -1",), "e-[infer takes a number of inferences, and one of warm-ups]"),
        (("x" * 81,), "e-[a command of more than 80 characters, or with bytes that are no text]"),
    ],
)
def test_what_cannot_be_done_is_said(mlperf_device: Path, commands: tuple[str, ...], refusal: str) -> None:
    *_, last, name = lines(mlperf_device, *commands, "name")
    assert last == [refusal] and name == ["m-name-dut-[host]"]


def test_eighty_characters_are_a_command(mlperf_device: Path) -> None:
    assert lines(mlperf_device, "name" + " " * 76) == [["m-name-dut-[host]"]]


ITEMS = st.lists(st.one_of(st.just(None), st.tuples(st.integers(0, 255), st.binary(max_size=300))), max_size=12)


@settings(max_examples=60)
@given(ITEMS)
def test_frames_and_text_are_told_apart(mlperf_device: Path, items: list[tuple[int, bytes] | None]) -> None:
    """A frame's bytes may be any, ``%`` and whole commands among them."""
    sent = expected = b""
    for item in items:
        if item is None:
            sent, expected = sent + b"name%", expected + NAME
            continue
        sequence, payload = item
        request = Frame(Type.ECHO, sequence, 0, payload)
        reply = encode(Frame(Type.ECHO | REPLY, sequence, 0, payload))
        sent, expected = sent + encode(request), expected + reply
    assert answers(mlperf_device, sent) == expected


@settings(max_examples=60)
@given(st.binary(max_size=400).map(lambda noise: noise.replace(b"\0", b"")))
def test_the_runner_is_answered_behind_any_noise_without_a_delimiter(mlperf_device: Path, noise: bytes) -> None:
    assert answers(mlperf_device, noise + b"%name%").endswith(NAME)


@settings(max_examples=60)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\0", b"\0x", b"\0\x05\x01"]))
def test_the_bridge_is_answered_behind_any_noise(mlperf_device: Path, noise: bytes, end: bytes) -> None:
    """At the latest when it asks again, as it does."""
    asked = encode(Frame(Type.ECHO, 7, 0, b"alive"))
    assert encode(Frame(Type.ECHO | REPLY, 7, 0, b"alive")) in answers(mlperf_device, noise + end + asked + asked)
