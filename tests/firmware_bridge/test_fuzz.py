"""The device's parser and server under sanitizers, fed by a fuzzer in C; every answer must be a frame."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


def fuzz(device: Path, seed: int, inputs: int) -> tuple[int, int, int, int]:
    """Inputs, answers, and how many of them refuse a frame and a request."""
    done = subprocess.run([device, "fuzz", str(seed), str(inputs)], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    count, _, answers, refused, denied = map(int, re.findall(r"\d+", done.stdout))
    return count, answers, refused, denied


def test_harmed_frames_break_nothing(device: Path) -> None:
    count, answers, refused, denied = fuzz(device, 1, 30_000)
    assert count == 30_000 and answers > count
    assert min(refused, denied, answers - refused - denied) > count / 10, "all three kinds of answers are exercised"


def test_the_same_seed_gives_the_same(device: Path) -> None:
    assert fuzz(device, 5, 2000) == fuzz(device, 5, 2000) != fuzz(device, 6, 2000)


@pytest.mark.slow
def test_ten_million_harmed_frames_break_nothing(device: Path) -> None:
    assert fuzz(device, 2, 10_000_000)[0] == 10_000_000
