"""The footprint page: its rows and its rectangles are the program's and the plan's."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from policyport.deploy import passes
from policyport.deploy.arena_map import picture
from policyport.deploy.codegen import Optimize, generate
from policyport.deploy.codegen_memory import VARIANTS, Variant
from policyport.deploy.footprint_page import FootprintMap, footprint_map, map_to_table, render_page, to_csv
from policyport.deploy.kernel_cycles import kernels_of
from policyport.deploy.program import Program
from policyport.deploy.random_graph import random_graph

CORES: dict[Variant, str] = {
    "c": "cortex-m4f",
    "thumb": "cortex-m3",
    "dsp": "cortex-m33f",
    "mve": "cortex-m55f",
    "neon": "cortex-a53",
    "neon_dot": "cortex-a76",
}


def found_of(program: Program, variant: Variant, optimize: Optimize) -> FootprintMap:
    return footprint_map(program, variant, optimize, generate(program, variant, optimize), CORES[variant])


@given(seed=st.integers(0, 2**32 - 1), variant=st.sampled_from(VARIANTS))
def test_rectangles_share_bytes_only_where_one_layer_hands_over(seed: int, variant: Variant) -> None:
    program = passes.optimize(random_graph(np.random.default_rng(seed), 6))
    found = found_of(program, variant, "speed")
    assert found.arena_bytes == generate(program, variant, "speed").arena_bytes
    assert sum(row.macs for row in found.layers) == program.macs
    shares = [row.share_estimated for row in found.layers if row.share_estimated is not None]
    costs = [row.cycles_estimated for row in found.layers]
    assert all(cost is None for cost in costs) or kernels_of(CORES[variant])
    counted = costs if any(cost is not None for cost in costs) else [row.instructions_estimated for row in found.layers]
    assert len(shares) == sum(cost is not None for cost in counted)
    assert not shares or abs(sum(shares) - 1) < 1e-9
    assert {stay.name for stay in found.arena if stay.kind == "activation"} == {t.name for t in program.tensors}
    assert all(0 <= stay.begin < stay.end <= found.arena_bytes for stay in found.arena)
    for i, one in enumerate(found.arena):
        for other in found.arena[i + 1 :]:
            if max(one.begin, other.begin) < min(one.end, other.end):
                if max(one.first, other.first) > min(one.last, other.last):
                    continue
                # In place both begin at one byte, else the later one below; scratch is never shared.
                before, after = sorted((one, other), key=lambda stay: stay.first)
                assert {one.kind, other.kind} == {"activation"}
                assert after.begin == before.begin or (after.begin < before.begin and after.first == before.last)


def test_the_files_beside_the_page_hold_the_same_rows() -> None:
    program = passes.optimize(random_graph(np.random.default_rng(5), 6))
    found = found_of(program, "dsp", "size")
    rows = list(csv.DictReader(io.StringIO(to_csv(found.layers))))
    table = json.loads(json.dumps(map_to_table(found)))
    assert [row["name"] for row in rows] == [layer["name"] for layer in table["layers"]]
    assert [int(row["macs"]) for row in rows] == [layer.macs for layer in program.layers]
    page = render_page(found, "Footprint of <net>")
    first = next(layer for layer in found.layers if layer.share_estimated is not None)
    assert f"{first.share_estimated:.1%}" in page and any(row["share_estimated"] for row in rows)
    total = sum(layer.cycles_estimated or 0 for layer in found.layers)
    assert f"{total:,} cycles" in page and [row["cycles_estimated"] for row in rows] == [
        "" if layer.cycles_estimated is None else str(layer.cycles_estimated) for layer in found.layers
    ]
    assert "Footprint of &lt;net&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert all(row["name"] in page for row in rows)


def test_the_picture_is_svg_with_a_rectangle_for_each_buffer_and_the_peak() -> None:
    found = found_of(passes.optimize(random_graph(np.random.default_rng(5), 6)), "dsp", "size")
    drawn = ElementTree.fromstring(picture(found.arena, found.arena_bytes))
    assert len(drawn.findall("rect")) == len(found.arena) + 1
    assert drawn.findall("rect")[0].findtext("title") == f"peak: step {found.peak_step}"


def test_a_core_without_a_table_says_so() -> None:
    found = found_of(passes.optimize(random_graph(np.random.default_rng(5), 6)), "neon", "size")
    assert "no table of cycles of the cortex-a53" in found.note
    assert all(layer.cycles_estimated is None for layer in found.layers)
