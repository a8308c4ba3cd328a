"""Bytes from outside, harmed at random: every parser returns, or refuses them with an error of ours."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest
from policyport.firmware_bridge.frame import Frame, encode
from policyport.firmware_bridge.messages import REPLY, Type

_SPEC = importlib.util.spec_from_file_location("fuzz_parsers", Path(__file__).with_name("fuzz_parsers.py"))
assert _SPEC is not None and _SPEC.loader is not None
fuzz_parsers = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz_parsers)

COUNTS = {"frames": 1000, "manifest": 100, "onnx": 60, "tflite": 60}
"""Harmed inputs of each parser in the default run; a hundred times as many in the slow one."""

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of scales that harm has made infinite


def seed_of(name: str, runs: Path) -> bytes:
    """A whole input of a parser."""
    if name == "frames":
        return encode(Frame(Type.HELLO | REPLY, 1, 0, bytes(range(120))))
    file = {"manifest": "manifest.json", "onnx": "policy.qdq.onnx", "tflite": "policy.tflite"}[name]
    return (runs / "int8" / "deploy" / file).read_bytes()


def fuzz(name: str, runs: Path, count: int, seed: int) -> None:
    whole, chance = seed_of(name, runs), random.Random(seed)
    fuzz_parsers.TARGETS[name](whole)
    for _ in range(count):
        data = fuzz_parsers.mutated(whole, chance)
        try:
            fuzz_parsers.TARGETS[name](data)
        except Exception as error:
            error.add_note(f"seed {seed}, {len(data)} bytes: {data[:64].hex()}...")
            raise


@pytest.mark.parametrize("name", COUNTS)
def test_harmed_input_is_refused(name: str, runs: Path) -> None:
    fuzz(name, runs, COUNTS[name], 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COUNTS)
def test_much_harmed_input_is_refused(name: str, runs: Path) -> None:
    fuzz(name, runs, 100 * COUNTS[name], 2)
