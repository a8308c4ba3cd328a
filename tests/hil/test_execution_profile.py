"""Profiles: all counts follow from the jumps, on paper and on both emulators."""

from __future__ import annotations

import itertools
import random
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ProtocolError
from policyport.hil.block_recorder import BlockRecorder
from policyport.hil.execution_profile import (
    Code,
    Markers,
    Region,
    instruction_counts,
    read_regions,
    sum_by_function,
)

BASE = 0x100
SHORT, LONG = 0xBF00, 0xF3AF8000  # nop, nop.w


def lay_out(sizes: list[int]) -> tuple[Code, list[int]]:
    """Instructions of 2 and 4 bytes one behind the other, and their addresses."""
    content = b"".join(
        struct.pack("<H", SHORT) if size == 2 else struct.pack("<HH", LONG >> 16, LONG & 0xFFFF) for size in sizes
    )
    addresses = [BASE + sum(sizes[:i]) for i in range(len(sizes))]
    return Code({BASE: content}, {"whole": range(BASE, BASE + len(content))}), addresses


def follow(path: list[int], code: Code) -> Region:
    """What an emulator records of a path of addresses."""
    jumps: Counter[tuple[int, int]] = Counter()
    for before, after in itertools.pairwise(path):
        if before + code.size(before) != after:
            jumps[before, after] += 1
    return Region(len(path), path[0], path[-1], jumps)


@st.composite
def walks(draw: st.DrawFn) -> tuple[Code, list[int]]:
    """Code, and a path through it that mostly goes straight on."""
    sizes = draw(st.lists(st.sampled_from([2, 4]), min_size=1, max_size=12))
    code, addresses = lay_out(sizes)
    at = draw(st.integers(0, len(sizes) - 1))
    generator = random.Random(draw(st.integers(0, 2**32)))
    path = [at]
    for _ in range(draw(st.integers(0, 200))):
        straight = at + 1 < len(sizes) and generator.random() < 0.7
        at = at + 1 if straight else generator.randrange(len(sizes))
        path.append(at)
    return code, [addresses[i] for i in path]


@given(walks())
def test_every_count_follows_from_the_jumps(walk: tuple[Code, list[int]]) -> None:
    code, path = walk
    counts = instruction_counts(follow(path, code), code)
    assert counts == Counter(path)
    assert list(counts) == sorted(counts)
    assert sum_by_function(counts, code) == {"whole": len(path)}


@given(walks(), st.integers(0, 300), st.sampled_from([-1, 1]))
def test_a_profile_that_lost_something_is_refused(walk: tuple[Code, list[int]], which: int, by: int) -> None:
    code, path = walk
    region = follow(path, code)
    jumps = dict(region.jumps)
    if jumps:
        changed = sorted(jumps)[which % len(jumps)]
        jumps[changed] += by
        with pytest.raises(ProtocolError):
            instruction_counts(Region(region.executed, region.first, region.last, jumps), code)
    with pytest.raises(ProtocolError, match="add up"):
        instruction_counts(Region(region.executed + by, region.first, region.last, region.jumps), code)


def test_regions_read_back_as_written(tmp_path: Path) -> None:
    regions = [Region(7, 0x10, 0x20, {(0x20, 0x10): 3, (0x12, 0x18): 1}), Region(1, 0xFFFFFFFE, 0xFFFFFFFE, {})]
    for region in regions:
        region.write(tmp_path)
    assert read_regions(tmp_path) == regions


def test_markers_read_back_as_written(tmp_path: Path) -> None:
    markers = Markers(0x100, 0x200, (range(0x300, 0x310), range(0x400, 0x404)))
    markers.write(tmp_path)
    assert Markers.read(tmp_path) == markers


def test_a_region_lies_between_the_two_readings(tmp_path: Path) -> None:
    """main calls begin (0x100), does its work in two blocks, one of them twice, and calls now (0x200)."""
    Markers(0x100, 0x200, (range(0x300, 0x310),)).write(tmp_path)
    recorder = BlockRecorder(tmp_path)
    steps = [
        (0x0, 0x2, 0x6, 2),  # ends with a call of begin
        (0x100, 0x102, 0x104, 2),
        (0x200, 0x200, 0x202, 1),  # begin reads the counter through now
        (0x6, 0x8, 0xA, 2),  # the region begins where begin returns
        (0xA, 0xC, 0xE, 2),
        (0x300, 0x302, 0x304, 2),  # an interrupt, left out
        (0xA, 0xC, 0xE, 2),
        (0xE, 0x10, 0x14, 2),
        (0x200, 0x200, 0x202, 1),
        (0x14, 0x14, 0x16, 1),
    ]
    for step in steps:
        recorder.enter(*step)
    assert read_regions(tmp_path) == [Region(8, 0x6, 0x10, {(0xC, 0xA): 1})]


def test_an_address_outside_the_firmware_is_refused() -> None:
    code, _ = lay_out([2, 4])
    assert (code.size(BASE), code.size(BASE + 2)) == (2, 4)
    assert (code.function(BASE), code.function(BASE + 6)) == ("whole", "")
    for address in (0, BASE - 2, BASE + 6):
        with pytest.raises(ProtocolError, match="not in the firmware"):
            code.size(address)
