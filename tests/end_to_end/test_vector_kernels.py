"""The vector kernels of Cortex-M55 on its emulated board: the integers of the reference, and how many instructions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from policyport.core.operators import Window
from policyport.deploy import reference, vectors
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.program import Program
from policyport.deploy.random_graph import RandomGraph
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import Spec, random_inputs
from policyport.firmware_bridge.client import Bridge
from policyport.hil.rig import EmulatedRig

BOARD = "mps3-an547"


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


@pytest.mark.parametrize(
    ("make", "kernels", "instructions"),
    [
        (lambda: dense((256, 256)), {"pp_mve_rows_bytes"}, 12_000),  # CMSIS-NN, called directly: 34,080
        (lambda: dense((256, 256), 7), {"pp_mve_rows_nibbles"}, 13_700),  # CMSIS-NN, 4-bit weights: 30,766
        (lambda: dense((37, 21, 6), 7), {"pp_mve_rows_nibbles", "pp_mve_copy"}, None),
        (lambda: dense((5, 3, 2)), {"pp_mve_rows_bytes", "pp_lookup_s8"}, None),
        (lambda: images(8), {"pp_mve_conv_bytes"}, None),
        (lambda: images(4), {"pp_mve_conv_nibbles"}, None),
    ],
    ids=["dense", "dense-4-bit", "uneven-4-bit", "small", "images", "images-4-bit"],
)
def test_vectors_compute_the_integers_of_the_reference(
    tmp_path: Path, make: Callable[[], Program], kernels: set[str], instructions: int | None
) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not on PATH")
    board, program, source = load_board(BOARD), make(), tmp_path / "src"
    source.mkdir()
    text = write_sources(program, board.variant, source).source
    assert all(f"{kernel}(" in text for kernel in kernels)
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
        if instructions is not None:
            assert rig.instructions(bridge.infer(q[2]).ticks, overhead) <= instructions
