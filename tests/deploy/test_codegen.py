"""The generated C as text: the contract of its names, its figures, and the same bytes each time."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import UnsupportedModelError
from policyport.core.operators import Window
from policyport.core.semantics import Integers, weight_range
from policyport.deploy import codegen_dsp, vectors
from policyport.deploy.choice import Run, choose_runs
from policyport.deploy.codegen import KERNEL_FOLDER, generate, write_sources
from policyport.deploy.codegen_memory import VARIANTS, Variant
from policyport.deploy.layers import FullyConnected
from policyport.deploy.packing import pack_rows, packed_row_bytes
from policyport.deploy.program import Program, program_sha256
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.vectors import Spec

TANH = Spec((4, 8, 8, 2), (8, 8, 8, 8), ("Tanh", "Tanh", ""))


def make(spec: Spec = TANH, seed: int = 4) -> Program:
    return vectors.random_program(spec, np.random.default_rng(seed))


def first_layer(spec: Spec, seed: int = 4) -> FullyConnected:
    layer = make(spec, seed).layers[0]
    assert isinstance(layer, FullyConnected)
    return layer


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_program_same_bytes(variant: Variant, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_sources(make(), variant, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "policy.c").read_text()


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_of_the_contract(variant: Variant) -> None:
    generated = generate(make(), variant)
    header = generated.header
    expected = {"INPUT_SIZE": 4, "OUTPUT_SIZE": 2, "LAYER_COUNT": 3, "INPUT_BITS": 8, "OUTPUT_BITS": 8, "MACS": 112}
    for name, value in {**expected, "ARENA_BYTES": generated.arena_bytes}.items():
        assert f"#define PP_{name} {value}\n" in header
    for declaration in (
        "typedef int8_t pp_input_t;",
        "typedef int8_t pp_output_t;",
        "extern const uint8_t pp_model_sha256[32];",
        "void pp_infer(const pp_input_t *input, pp_output_t *output);",
        "extern const pp_layer_info_t pp_layers[PP_LAYER_COUNT];",
        "void pp_load(const pp_input_t *input);",
        "void pp_run_layer(uint32_t layer);",
        "int32_t pp_layer_value(uint32_t layer, uint32_t index);",
    ):
        assert declaration in header
    digest = re.search(r"pp_model_sha256\[32\] = \{([^}]*)\}", generated.source)
    assert digest and "".join(re.findall(r"0x(..)", digest[1])).lower() == program_sha256(make())


def test_front_matter_and_comments_tell_the_model() -> None:
    source = generate(make(), "c").source
    front = source.splitlines()[:2]
    assert program_sha256(make())[:16] in front[0] and "semantics 1" in front[0] and "MACs 112" in front[1]
    assert "/* layer 1: Linear  layer1\n * int8[4] s=" in source and "Tanh fused" in source
    assert "stdio" not in source and "float" not in source and "malloc" not in source


@pytest.mark.parametrize(("inputs", "outputs", "copies"), [(4, 2, 0), (64, 2, 1), (70, 80, 2)])
def test_what_is_large_is_copied_in_blocks(inputs: int, outputs: int, copies: int) -> None:
    source = generate(make(Spec((inputs, 4, outputs), (8, 8, 8), ("", ""))), "c").source
    assert source.count("pp_copy(") == (copies + 1 if copies else 0)
    assert source.count("to[i] = input[i];") == (inputs < 64) and source.count("output[i] = ") == (outputs < 64)


def test_constants_are_counted() -> None:
    generated = generate(make(), "c")
    types = {"int8_t": 1, "int16_t": 2, "int32_t": 4, "uint32_t": 4}
    counted = 0
    for ctype, size in re.findall(r"static const (\w+) pp_\w+\[([\d* ]+)\]", generated.source):
        counted += types[ctype] * int(np.prod([int(n) for n in size.split("*")]))
    assert generated.constant_bytes == counted


def test_equal_tables_are_shared() -> None:
    program = make()
    first, second, last = program.layers
    assert isinstance(second, FullyConnected)
    assert generate(program, "c").source.count("pp_table_2[") == 1
    same = replace(program, layers=(first, replace(second, table=first.table), last))
    source = generate(same, "c").source
    assert "pp_table_2" not in source and source.count("= pp_table_1 + 128") == 2


def test_only_the_kernels_needed_are_copied(tmp_path: Path) -> None:
    for name, variant, kernels in (
        ("c", "c", {"pp_kernels.h", "pp_intrinsics.h", "pp_finish.h", "pp_fully_connected.c"}),
        ("dsp", "dsp", {"pp_kernels.h", "pp_intrinsics.h", "pp_blocks.h", "pp_blocks.c", "pp_blocks.S"}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write_sources(make(), variant, folder)  # type: ignore[arg-type]
        assert {path.name for path in folder.iterdir()} == {"policy.c", "policy.h"} | kernels
    with_lookup = generate(vectors.with_lookup(make(), "Sigmoid"), "c")
    assert "pp_lookup.c" in with_lookup.kernels
    assert set(with_lookup.kernels) <= {path.name for path in KERNEL_FOLDER.iterdir()}


def test_names_from_the_model_cannot_break_the_comment() -> None:
    program = make()
    evil = replace(program.layers[0], name="*/ int x; /*\n\u00e9")
    source = generate(replace(program, layers=(evil, *program.layers[1:])), "c").source
    assert "* / int x; / *??" in source and source.isascii()


def test_a_program_without_layers_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="without layers"):
        generate(replace(make(), layers=()), "c")


@pytest.mark.parametrize(
    ("shape", "outputs", "what"),
    [
        ((65509,), 1, ""),
        ((65510,), 1, "an input too large for a frame"),
        ((1,), 65510, "an output too large for a frame"),
        ((128, 128, 1), 16, ""),
        ((2048, 2, 1), 4096, "a layer too large for its trace"),
        ((3, 3, 1), 65536, "a layer with too long a side"),
        ((128, 128, 1), 17, "a fully connected layer of too many"),
    ],
)
def test_what_is_too_large_is_refused_by_name(shape: tuple[int, ...], outputs: int, what: str) -> None:
    graph = RandomGraph(np.random.default_rng(0), shape)
    if len(shape) == 1:
        program = graph.finish(graph.dense(graph.input, outputs))
    else:
        wide = graph.convolution(graph.input, outputs, Window((1, 1)))
        seen = wide if "fully connected" in what else graph.average_pool(wide, Window((shape[0], shape[1])))
        program = graph.finish(graph.dense(seen, 1, weight_bits=2))
    if not what:
        assert generate(program, "c").macs == program.macs
        return
    with pytest.raises(UnsupportedModelError, match=what):
        generate(program, "c")


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 4]), st.integers(1, 5), st.integers(1, 40))
def test_packed_rows_hold_every_weight(seed: int, bits: int, rows: int, taps: int) -> None:
    """Read bit by bit, as docs/integer-semantics.md says where each one lies."""
    low, high = weight_range(bits)
    weights = np.random.default_rng(seed).integers(low, high, (rows, taps), endpoint=True)
    packed = pack_rows(weights, bits)
    assert packed.shape == (rows, packed_row_bytes(taps, bits))
    for row, expected in zip(packed, weights, strict=True):
        bit = [int(row[n // 8]) >> (n % 8) & 1 for n in range(8 * len(row))]
        raw = [sum(bit[bits * i + j] << j for j in range(bits)) for i in range(taps)]
        assert [n - 2**bits * (n >> (bits - 1)) for n in raw] == expected.tolist()
        assert not any(bit[bits * taps :])


def unpack_pairs(words: list[int], rows: Integers) -> Integers:
    """The weights in a block of pairs, by the arithmetic of the kernel's description."""
    out = np.zeros_like(rows)
    for i, word in enumerate(words):
        pair, first = i % 2, 2 * (i // 2)
        for column, half in ((first, word & 0xFFFF), (first + 1, word >> 16)):
            signed = half - 65536 * (half >> 15)
            low = ((signed & 255) ^ 128) - 128
            out[2 * pair, column], out[2 * pair + 1, column] = (signed - low) >> 8, low
    return out


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_pairs_hold_every_weight(seed: int, inputs: int) -> None:
    layer = first_layer(Spec((inputs, 4), (8, 8), ("",)), seed)
    padded = np.pad(layer.weights, ((0, 0), (0, -inputs % 4)))
    words = [int(w) for w in codegen_dsp.pack(layer, Run(range(4), "pairs"))]
    np.testing.assert_array_equal(unpack_pairs(words[4:-4], padded), padded)
    assert (words[0] - 256 * int(layer.bias[0]) - int(layer.bias[1])) % 2**32 == 0
    assert words[-4:] == layer.requantize.multiplier.tolist()


def layouts(layer: FullyConnected, optimize: str = "size") -> list[str]:
    return [run.layout for run in choose_runs(layer, optimize)]


def test_layouts_are_chosen_where_they_are_exact() -> None:
    narrow, wide = first_layer(Spec((8, 4), (8, 8), ("",))), first_layer(Spec((8, 4), (16, 16), ("",)))
    foreign = first_layer(Spec((8, 4), (8, 8), ("",), largest_weight=128))
    assert layouts(narrow, "size") == ["pairs"]
    assert layouts(wide, "size") == ["bytes"]
    assert layouts(foreign, "size") == ["bytes"]
    assert layouts(narrow, "speed") == ["halfwords"]


@pytest.mark.parametrize(("bias", "layout"), [(2**23 - 1 - 893, "pairs"), (2**23 - 893, "bytes")])
def test_pairs_stop_where_256_times_the_sum_leaves_int32(bias: int, layout: str) -> None:
    layer = first_layer(Spec((4, 4), (8, 8), ("",)))
    weights = np.zeros((4, 4), np.int64)
    weights[0] = [-10, 2, -3, 1]  # reaches 3 * 127 + 13 * 128 = 2045
    edge = replace(layer, weights=weights, bias=np.array([bias + 893 - 2045, 0, 0, 0]))
    assert layouts(edge, "size") == [layout]


@pytest.mark.parametrize(("optimize", "other"), [("size", "pairs"), ("speed", "halfwords")])
def test_rows_too_large_for_the_highest_nibble_lie_lower_or_in_another_layout(optimize: str, other: str) -> None:
    layer = first_layer(Spec((8, 14), (8, 8), ("",), largest_weight=7))
    far = 2**19
    for large, expected in (
        ([0, 5, 13], [Run(range(14), "nibbles")]),  # lower nibbles have room
        ([4, 7, 11], [Run(range(14), "nibbles", (5, 8))]),
        ([4, 5, 6, 7], [Run(range(4), "nibbles"), Run(range(4, 8), other), Run(range(8, 14), "nibbles")]),  # type: ignore[arg-type]
    ):
        bias = layer.bias.copy()
        bias[large] = far
        assert choose_runs(replace(layer, bias=bias), optimize) == tuple(expected)
    assert Run(range(4, 12), "nibbles", (5, 8)).order == [4, 7, 6, 5, 11, 9, 10, 8]


@pytest.mark.parametrize(("outputs", "largest", "layout"), [(8, 1, "crumbs"), (5, 3, "octals"), (5, 7, "nibbles")])
def test_small_weights_share_a_halfword(outputs: int, largest: int, layout: str) -> None:
    layer = first_layer(Spec((8, outputs), (8, 8), ("",), largest_weight=largest))
    assert [layouts(layer, optimize) for optimize in ("size", "speed")] == [[layout], [layout]]
