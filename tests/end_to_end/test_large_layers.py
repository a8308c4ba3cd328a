"""Layers of more elements than 16 bits count, and more layers than a usual frame names, on emulated boards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from policyport.core.operators import Window
from policyport.deploy import reference
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import random_inputs
from policyport.firmware_bridge.client import Bridge
from policyport.hil.rig import EmulatedRig

SAME = Window((3, 3), pads=(1, 1, 1, 1))
RELU = (0.0, np.inf)


def large() -> Program:
    """96x96 pixels of eight channels: 73,728 elements."""
    graph = RandomGraph(np.random.default_rng(5), (96, 96, 1))
    x = graph.convolution(graph.input, 8, SAME, clamp=RELU)
    x = graph.convolution(x, 8, SAME, 8, clamp=RELU)
    x = graph.add(graph.convolution(x, 8, Window((1, 1))), x)
    x = graph.max_pool(graph.lookup(x, "Tanh"), Window((8, 8), (8, 8)))
    return graph.finish(graph.dense(x, 3))


def deep() -> Program:
    """300 layers, whose rows take more than a frame of 1,024 bytes."""
    graph = RandomGraph(np.random.default_rng(5), (4,))
    x = graph.input
    for _ in range(300):
        x = graph.dense(x, 4, clamp=RELU)
    return graph.finish(x)


def simple() -> Program:
    """One large layer."""
    graph = RandomGraph(np.random.default_rng(5), (96, 96, 1))
    x = graph.max_pool(graph.convolution(graph.input, 8, SAME, clamp=RELU), Window((8, 8), (8, 8)))
    return graph.finish(graph.dense(x, 3))


PROGRAMS = {"large": large, "deep": deep, "simple": simple}


@pytest.mark.parametrize(
    ("name", "which"),
    [
        *((board, "large") for board in ("mps2-an385", "mps2-an386", "mps3-an547")),
        *(("mps2-an386", which) for which in ("simple", "deep")),
    ],
)
def test_layers_are_counted_and_computed(tmp_path: Path, name: str, which: str) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not on PATH")
    board, source, program = load_board(name), tmp_path / "src", PROGRAMS[which]()
    source.mkdir()
    write_sources(program, board.variant, source)
    add_device_sources(source, board)
    firmware = build_firmware(source, board, find_toolchain("gcc"), tmp_path)
    q = random_inputs(program, 1, np.random.default_rng(0))
    expected = reference.run(program, q)
    with EmulatedRig(board, firmware.bin, "qemu") as rig, Bridge.open(rig.url, timeout_s=60) as bridge:
        assert [size for size, _ in bridge.hello().layers] == [layer.output.size for layer in program.layers]
        np.testing.assert_array_equal(bridge.infer(q[0]).output, expected[-1][0])
        if which == "simple":
            for got, layer in zip(bridge.trace(q[0]), expected, strict=True):
                np.testing.assert_array_equal(got.values, layer[0])
                assert len(got.values) > 2**16 or layer is not expected[0]
