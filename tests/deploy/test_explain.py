"""What the compiler says of its choices, held against what it generates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from policyport.core.errors import ConfigError
from policyport.core.operators import Window
from policyport.deploy import passes
from policyport.deploy.candidates import PLAIN, candidates
from policyport.deploy.choice import choose_convolution, choose_runs
from policyport.deploy.codegen_memory import VARIANTS, Variant, plan_memory
from policyport.deploy.explain import explain
from policyport.deploy.export_onnx import onnx_bytes
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.layers import Affine, Conv2d, FullyConnected
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph, random_graph
from policyport.pipeline.cli import main

SAME = (1, 1, 1, 1)


def convolution(channels: int, outputs: int, window: Window, groups: int = 1, bits: int = 8) -> Program:
    graph = RandomGraph(np.random.default_rng(3), (8, 8, channels))
    return graph.finish(graph.convolution(graph.input, outputs, window, groups, bits=bits))


@given(seed=st.integers(0, 2**32 - 1), optimize=st.sampled_from(["size", "speed"]))
def test_the_marked_candidate_is_the_kernel_generated(seed: int, optimize: str) -> None:
    program = passes.optimize(random_graph(np.random.default_rng(seed), 6))
    for layer in program.layers:
        if not isinstance(layer, Affine):
            continue
        weighed = candidates(layer, optimize)
        chosen = [candidate for candidate in weighed if candidate.chosen]
        assert len(chosen) == 1
        assert not chosen[0].refused
        if isinstance(layer, FullyConnected):
            assert chosen[0].name == " and ".join(dict.fromkeys(run.layout for run in choose_runs(layer, optimize)))
        elif isinstance(layer, Conv2d):
            choice = choose_convolution(layer, optimize)
            assert chosen[0].name == (PLAIN if choice is None else choice.kernel)
            assert choice is None or chosen[0].instructions == choice.instructions
            # The plain kernel is taken only where everything else is refused.
            assert choice is not None or all(other.refused for other in weighed if other.name != PLAIN)


@pytest.mark.parametrize(
    ("program", "name", "reason"),
    [
        (convolution(8, 8, Window((3, 3), (1, 1), (2, 2), SAME)), "pairs", "dilated by 2x2"),
        (convolution(8, 8, Window((3, 3), (1, 1), (1, 1), SAME), bits=16), "pairs", "int8 to int16"),
        (convolution(8, 8, Window((5, 5), (1, 1), (1, 1), SAME), groups=8), "depthwise", "not 5x5 stride 1x1"),
        (convolution(6, 8, Window((3, 3), (1, 1), (1, 1), SAME)), "winograd", "not 6 and 8"),
        (convolution(8, 8, Window((3, 3), (2, 2), (1, 1), SAME)), "winograd", "stride 1 alone"),
        (convolution(8, 8, Window((3, 3), (1, 1), (1, 1), SAME)), "winograd", "--optimize speed weighs it"),
        (convolution(8, 8, Window((3, 3), (1, 1), (1, 1), SAME)), "nibbles", "it holds -8 to 7"),
    ],
)
def test_refusals_name_what_is_missing(program: Program, name: str, reason: str) -> None:
    layer = program.layers[0]
    assert isinstance(layer, Affine)
    refused = {candidate.name: candidate.refused for candidate in candidates(layer, "size")}
    assert reason in refused[name]


def test_a_range_proof_that_fails_names_row_and_limit() -> None:
    program = convolution(512, 8, Window((8, 8), (1, 1), (1, 1), (0, 0, 0, 0)))
    layer = program.layers[0]
    assert isinstance(layer, Conv2d)
    reasons = {candidate.name: candidate.refused for candidate in candidates(layer, "speed")}
    assert reasons["pairs"].startswith("range proof failed: accumulator of row 0 may reach ")
    assert reasons["pairs"].endswith("limit 8,388,608")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_is_explained_down_to_its_calls(variant: Variant) -> None:
    written = random_graph(np.random.default_rng(11), 6)
    program = passes.optimize(written)
    text = explain(written, variant, "speed")
    assert text == explain(written, variant, "speed")
    assert text.startswith(f"as written: {len(written.layers)} layers")
    assert f"arena {plan_memory(program, variant, 'speed').plan.arena_bytes:,} B" in text
    blocks = text.split("\n\n")[2:]
    assert [block.splitlines()[0].split()[1] for block in blocks] == [str(i + 1) for i in range(len(program.layers))]
    for block, layer in zip(blocks, program.layers, strict=True):
        assert f"{layer.macs:,} MACs" in block
        assert "  calls     " in block
        assert block.count("\n  weighed   * ") == (variant != "c" and isinstance(layer, Affine))


def test_one_layer_by_number_or_name() -> None:
    written = random_graph(np.random.default_rng(11), 6)
    last = passes.optimize(written).layers[-1].name
    count = len(passes.optimize(written).layers)
    assert explain(written, "dsp", "size", str(count)).count("\nlayer ") == 1
    assert f"layer {count}  {last}\n" in explain(written, "dsp", "size", str(count))
    with pytest.raises(ConfigError, match="no such layer"):
        explain(written, "dsp", "size", str(count + 1))


@pytest.mark.parametrize(("name", "to_bytes"), [("net.onnx", onnx_bytes), ("net.tflite", tflite_bytes)])
def test_a_bare_file_is_explained_without_a_task(
    name: str, to_bytes: Callable[[Program], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(to_bytes(convolution(8, 8, Window((3, 3), (1, 1), (1, 1), SAME))))
    assert main(["deploy", str(path), "--explain", "--optimize", "speed"]) == 0
    out = capsys.readouterr().out
    assert "  weighed   * winograd: about " in out
    assert "pp_winograd" in out.splitlines()[-1]
    assert main(["deploy", str(path), "--explain", "--board", "mps2-an385"]) == 0
    assert "variant thumb," in capsys.readouterr().out
    assert main(["deploy", str(path), "--explain", "--explain-layer", "9"]) == 2
    assert [path] == list(tmp_path.iterdir())
