"""The kernels of whole rows on emulated Cortex-M0, M3 and M55: the integers of the reference, their instructions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policyport.core.operators import Window
from policyport.core.semantics import Requantization
from policyport.deploy import reference, vectors
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.kernel_cost_rows import rows_instructions
from policyport.deploy.layers import Affine, FullyConnected
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import Spec, random_inputs
from policyport.firmware_bridge.client import Bridge
from policyport.hil.rig import EmulatedRig


def dense(sizes: tuple[int, ...], largest: int = 127) -> Program:
    """Fully connected layers with weights of as many bits as the largest takes."""
    functions = ("Tanh",) * (len(sizes) - 2) + ("",)
    spec = Spec(sizes, (8,) * len(sizes), functions, largest_weight=largest)
    return vectors.random_program(spec, np.random.default_rng(2))


def images(bits: int) -> Program:
    """Padded, strided and pointwise convolutions of channels that fill no vector."""
    graph = RandomGraph(np.random.default_rng(3), (9, 7, 5))
    value = graph.convolution(graph.input, 9, Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), weight_bits=bits)
    value = graph.convolution(value, 6, Window((2, 3), (2, 1), (1, 1), (0, 1, 1, 1)), weight_bits=bits)
    return graph.finish(graph.convolution(value, 34, Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)), weight_bits=bits))


def shifted(by: int) -> Program:
    """Sums that are shifted to the left before they are multiplied."""
    program = dense((37, 21, 6), 7)
    layers = []
    for layer in program.layers:
        assert isinstance(layer, FullyConnected)
        given = layer.requantize
        layers.append(replace(layer, requantize=Requantization(given.multiplier >> by, given.shift + by)))
    return replace(program, layers=tuple(layers))


def depthwise() -> Program:
    """Each channel alone: 3x3, and 5x5 by steps of two."""
    graph = RandomGraph(np.random.default_rng(3), (9, 7, 5))
    value = graph.convolution(graph.input, 5, Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), 5)
    return graph.finish(graph.convolution(value, 5, Window((5, 5), (2, 2), (1, 1), (2, 2, 2, 2)), 5))


CASES = {
    "dense": lambda: dense((256, 256)),
    "dense-4-bit": lambda: dense((256, 256), 7),
    "uneven-4-bit": lambda: dense((37, 21, 6), 7),
    "shifted-4-bit": lambda: shifted(3),
    "shifted-far-4-bit": lambda: shifted(7),
    "small": lambda: dense((5, 3, 2)),
    "images": lambda: images(8),
    "images-4-bit": lambda: images(4),
    "dense-2-bit": lambda: dense((256, 256), 1),
    "uneven-2-bit": lambda: dense((150, 21, 6), 1),
    "images-2-bit": lambda: images(2),
    "depthwise": depthwise,
}

MOST = {
    ("microbit", "dense"): 235_000,  # CMSIS-NN, called directly: 418,611
    ("microbit", "dense-4-bit"): 225_000,  # 525,911
    ("microbit", "dense-2-bit"): 207_500,
    ("mps2-an385", "dense"): 154_000,  # 228,689
    ("mps2-an385", "dense-4-bit"): 114_000,  # 339,090
    ("mps2-an385", "dense-2-bit"): 97_800,
    ("mps2-an385", "depthwise"): 60_000,
    ("mps3-an547", "dense"): 12_000,  # 34,080
    ("mps3-an547", "dense-4-bit"): 11_800,  # 30,766
}
"""Instructions of an inference, measured with room of about 1 %."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["microbit", "mps2-an385", "mps3-an547"])
def test_rows_are_those_of_the_reference(tmp_path: Path, name: str, case: str) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not on PATH")
    board, program, source = load_board(name), CASES[case](), tmp_path / "src"
    source.mkdir()
    text = write_sources(program, board.variant, source).source
    narrow = "nibbles" if board.mve or "4-bit" in case else "crumbs"
    kernel = f"{'conv' if 'images' in case else 'rows'}_{narrow if '-bit' in case else 'bytes'}"
    if case == "depthwise":
        kernel = "depthwise_s" if board.mve else "depthwise"
    assert f"{'pp' if 'depthwise_s' in kernel else 'pp_mve' if board.mve else 'pp_quads'}_{kernel}" in text
    add_device_sources(source, board)
    firmware = build_firmware(source, board, find_toolchain("gcc"), tmp_path)
    q = random_inputs(program, 3, np.random.default_rng(0))
    q[0], q[1] = -128, 127
    expected = reference.run(program, q)
    with EmulatedRig(board, firmware.bin, "qemu") as rig, Bridge.open(rig.url, timeout_s=60) as bridge:
        overhead = bridge.hello().counter_overhead_ticks
        for n, row in enumerate(q):
            for got, layer in zip(bridge.trace(row), expected, strict=True):
                np.testing.assert_array_equal(got.values, layer[n])
        counted = rig.instructions(bridge.infer(q[2]).ticks, overhead)
    assert counted <= MOST.get((name, case), counted)


def layer(kind: str, bits: int) -> Program:
    """One layer, of weights in as many bits."""
    if kind == "dense":
        return dense((64, 64), 127 if bits == 8 else 7)
    graph = RandomGraph(np.random.default_rng(3), (8, 8, 64 if kind == "pointwise" else 16))
    window = Window((1, 1)) if kind == "pointwise" else Window((3, 3), pads=(1, 1, 1, 1))
    return graph.finish(graph.convolution(graph.input, 64 if kind == "pointwise" else 16, window, weight_bits=bits))


@pytest.mark.parametrize("kind", ["dense", "pointwise", "window"])
def test_half_the_weights_cost_a_tenth_more_at_most_on_the_m55(tmp_path: Path, kind: str) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not on PATH")
    counts, board = {}, load_board("mps3-an547")
    for bits in (8, 4):
        program, source = layer(kind, bits), tmp_path / str(bits) / "src"
        source.mkdir(parents=True)
        write_sources(program, "mve", source)
        add_device_sources(source, board)
        firmware = build_firmware(source, board, find_toolchain("gcc"), tmp_path / str(bits))
        q = random_inputs(program, 1, np.random.default_rng(0))
        with EmulatedRig(board, firmware.bin, "qemu") as rig, Bridge.open(rig.url, timeout_s=60) as bridge:
            overhead, answer = bridge.hello().counter_overhead_ticks, bridge.infer(q[0])
            counts[bits] = rig.instructions(answer.ticks, overhead)
        np.testing.assert_array_equal(answer.output, reference.run(program, q)[-1].reshape(-1))
        (only,), layout = program.layers, "bytes" if bits == 8 else "nibbles"
        assert isinstance(only, Affine)
        assert rows_instructions(only, "mve", layout) == pytest.approx(counts[bits], rel=0.12)  # type: ignore[arg-type]
    assert counts[4] <= 1.1 * counts[8]


@pytest.mark.parametrize("name", ["microbit", "mps2-an385", "mps3-an547"])
def test_another_compiler_builds_them(tmp_path: Path, name: str) -> None:
    pytest.importorskip("ziglang", reason="the compiler comes with policyport[rig]")
    board, source = load_board(name), tmp_path / "src"
    source.mkdir()
    write_sources(images(4), board.variant, source)
    add_device_sources(source, board)
    assert build_firmware(source, board, find_toolchain("zig"), tmp_path).bin.is_file()
