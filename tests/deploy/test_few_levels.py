"""Activations of few levels: every kernel keeps within whatever clamp a tensor has, in all variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aarch64 import CORES, Machine
from policyport.core.errors import ToolError, UnsupportedModelError
from policyport.core.operators import Window
from policyport.deploy import exports, reference, vectors
from policyport.deploy.codegen import write_sources
from policyport.deploy.export_onnx import onnx_bytes
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.host import HostLibrary
from policyport.deploy.layers import Add, Affine, Argmax, Layer, Lookup, Multiply, Pad, Pool, Softmax, Tensor
from policyport.deploy.lower import lower
from policyport.deploy.passes import optimize
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph, golden_graphs

COMPUTING = (
    *("conv_strided_dilated", "conv_depthwise", "conv_pointwise", "conv_w2", "conv_s16_to_s8", "transposed"),
    *(
        "average_pool",
        "add",
        "rescale",
        "multiply_channels",
        "concat_rows",
        "pad",
        "lookup",
        "image_to_vector",
        "residual",
    ),
)
"""Those of the golden graphs in which each kind of layer computes what it must clamp, or moves what was clamped."""

GRAPHS = {name: program for name, program in golden_graphs().items() if name in COMPUTING}


def few_levels(tensor: Tensor, bits: int) -> Tensor:
    """An int8 tensor with ``2**bits`` levels, zero among them."""
    low = tensor.zero_point - 2 ** (bits - 1)
    return replace(tensor, low=low, high=low + 2**bits - 1) if tensor.bits == 8 else tensor


def narrowed(program: Program, bits: int) -> Program:
    """The program with few levels wherever integers are computed; what moves them follows."""
    known = {program.input.name: few_levels(program.input, bits)}
    layers: list[Layer] = []
    for layer in program.layers:
        inputs = tuple(known[tensor.name] for tensor in layer.inputs)
        made = _narrowed(replace(layer, inputs=inputs), bits)
        known[made.output.name] = made.output
        layers.append(made)
    return replace(program, input=known[program.input.name], output=known[program.output.name], layers=tuple(layers))


def _narrowed(layer: Layer, bits: int) -> Layer:
    target = few_levels(layer.output, bits)
    if isinstance(layer, Affine) and layer.table is None:
        return replace(layer, output=target, before_table=target)
    if isinstance(layer, (Affine, Lookup)):
        return replace(layer, output=target, table=np.clip(layer.table, target.low, target.high))
    if isinstance(layer, (Add, Multiply)) or (isinstance(layer, Pool) and layer.kind == "average"):
        return replace(layer, output=target)
    if isinstance(layer, (Softmax, Argmax)):
        return layer
    ends = [(tensor.low, tensor.high) for tensor in layer.inputs]
    ends += [(layer.value, layer.value)] if isinstance(layer, Pad) else []
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return replace(layer, output=replace(layer.output, low=low, high=high))


def clamped_tables(rng: np.random.Generator) -> Program:
    """Functions of clamped integers, fused behind layers of both kinds and both widths."""
    graph = RandomGraph(rng, (6, 6, 8))
    x = graph.convolution(graph.input, 8, Window((3, 3)), clamp=(0.0, 0.3))
    x = graph.lookup(x, "Tanh")
    x = graph.dense(x, 9, clamp=(-0.2, 0.3))
    x = graph.lookup(x, "HardSwish")
    x = graph.dense(x, 7, bits=16, weight_bits=4, clamp=(-0.1, 0.1))
    return optimize(graph.finish(graph.dense(graph.lookup(x, "Elu"), 5)))


def programs(bits: int) -> dict[str, Program]:
    found = {name: narrowed(program, bits) for name, program in GRAPHS.items()}
    return found | {"clamped_tables": clamped_tables(np.random.default_rng(bits))}


@pytest.mark.parametrize("variant", ["c", "dsp", "thumb", "mve"])
def test_the_c_of_every_variant_keeps_within_few_levels(tmp_path: Path, variant: str) -> None:
    rng = np.random.default_rng(0)
    for name, program in programs(3).items():
        folder = tmp_path / name
        folder.mkdir()
        write_sources(program, variant, folder)  # type: ignore[arg-type]
        q = vectors.random_inputs(program, 6, rng)
        expected = reference.run(program, q)
        with HostLibrary(folder) as library:
            traces = [library.trace(row) for row in q]
        for got, want, layer in zip(zip(*traces, strict=True), expected, program.layers, strict=True):
            np.testing.assert_array_equal(np.array(got), want, err_msg=f"{name}, {layer.name}")
            assert want.min() >= layer.output.low and want.max() <= layer.output.high


@pytest.mark.parametrize(("core", "variant"), [("m4", "dsp"), ("m3", "thumb")])
def test_the_assembler_keeps_within_few_levels(policies: Callable[..., Any], core: str, variant: str) -> None:
    rng = np.random.default_rng(1)
    for name, program in programs(2).items():
        policy, q = policies(core, program, "size", variant), vectors.random_inputs(program, 4, rng)
        got = np.stack([policy.infer(row) for row in q])
        np.testing.assert_array_equal(got, reference.run(program, q)[-1], err_msg=name)


@pytest.mark.parametrize("core", CORES)
def test_aarch64_keeps_within_few_levels(tmp_path: Path, core: str) -> None:
    rng = np.random.default_rng(2)
    for name in ("residual", "clamped_tables", "concat_rows", "multiply_channels"):
        program = programs(2)[name]
        q = vectors.random_inputs(program, 4, rng)
        (tmp_path / name).mkdir()
        got = Machine(tmp_path / name, core, program).infer(q)
        np.testing.assert_array_equal(got, reference.run(program, q)[-1], err_msg=name)


TFLITE = ("conv_depthwise", "conv_pointwise", "average_pool_behind", "add", "multiply_pixels", "lookup", "residual")


@pytest.mark.parametrize("name", TFLITE)
def test_tflite_limits_what_it_computes(name: str, tmp_path: Path) -> None:
    program = narrowed(golden_graphs()[name], 4)
    content = tflite_bytes(program)
    (tmp_path / "policy.tflite").write_bytes(content)
    q = vectors.random_inputs(program, 20, np.random.default_rng(3))
    want, back = reference.run(program, q)[-1], lower(tmp_path / "policy.tflite")
    allowed = 1 if name == "average_pool_behind" else 0  # a mean, then a change of scale, which rounds again
    assert np.abs(reference.run(back, q)[-1] - want).max() <= allowed
    assert (back.output.low, back.output.high) == (program.output.low, program.output.high)
    try:
        interpreter = exports.tflite_interpreter(content)
    except ToolError as error:
        if "No module named 'ai_edge_litert'" in str(error):
            pytest.skip("the runtime comes with policyport[tflite]")
        raise
    got = exports.run_tflite(interpreter, program, q)
    assert got.min() >= program.output.low and got.max() <= program.output.high
    least = 0.85 if name == "residual" else 0.99  # behind a softmax a level that another rounding takes is worth many
    assert np.mean(np.abs(got - want) <= 1) > least


def test_a_tanh_of_few_levels_is_none_of_tflite() -> None:
    program = clamped_tables(np.random.default_rng(0))
    layers = tuple(
        replace(layer, output=replace(layer.output, scale=0.3)) if layer.function == "Tanh" else layer  # type: ignore[attr-defined]
        for layer in program.layers
    )
    with pytest.raises(UnsupportedModelError, match="TANH whose result has another scale"):
        tflite_bytes(replace(program, layers=layers))


@pytest.mark.parametrize("name", ["conv_pointwise", "average_pool", "add", "concat_rows", "lookup", "residual"])
def test_qdq_keeps_the_levels(name: str, tmp_path: Path) -> None:
    program = narrowed(golden_graphs()[name], 3)
    (tmp_path / "policy.onnx").write_bytes(onnx_bytes(program))
    back, q = lower(tmp_path / "policy.onnx"), vectors.random_inputs(program, 20, np.random.default_rng(3))
    np.testing.assert_array_equal(reference.run(back, q)[-1], reference.run(program, q)[-1])
    assert (back.output.low, back.output.high) == (program.output.low, program.output.high)
