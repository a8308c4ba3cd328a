"""A network of images on emulated boards of every core, over the bridge: each layer's integers are the reference's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from policyport.core.task import Environment, Task
from policyport.deploy import reference
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.config import DeployConfig
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.program import read_program
from policyport.deploy.random_graph import golden_graphs
from policyport.deploy.stage import deploy
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import golden_cases, random_inputs
from policyport.firmware_bridge.client import Bridge
from policyport.hil import parity
from policyport.hil.rig import EmulatedRig

BOARDS = ["microbit", "mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547"]
"""Cortex-M0, M3, M4, M7, M33 and M55."""


@pytest.mark.parametrize("name", BOARDS)
def test_every_layer_of_a_residual_network_equals_the_reference(tmp_path: Path, name: str) -> None:
    if shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("qemu-system-arm or arm-none-eabi-gcc is not on PATH")
    board, program, source = load_board(name), golden_graphs()["residual"], tmp_path / "src"
    source.mkdir()
    write_sources(program, board.variant, source)
    add_device_sources(source, board)
    firmware = build_firmware(source, board, find_toolchain("gcc"), tmp_path)
    q = random_inputs(program, 4, np.random.default_rng(0))
    with EmulatedRig(board, firmware.bin, "qemu") as rig, Bridge.open(rig.url, timeout_s=60) as bridge:
        figures = parity.compare(bridge, program, q, lambda done, note="": None)
    parity.require_equal(figures, tmp_path / "parity.json")
    assert [layer.compared for layer in figures.layers] == [4 * layer.output.size for layer in program.layers]


def test_a_tflite_file_becomes_firmware(tmp_path: Path) -> None:
    """From a file, a task and observations to an image, other runtimes' agreement measured."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not on PATH")
    case = next(case for case in golden_cases() if case.name == "policy_tanh_s8")
    given = tmp_path / "given"
    given.mkdir()
    (given / "policy.tflite").write_bytes(tflite_bytes(case.program))
    size = case.program.input.size
    bounds = ((-1.0,) * size, (1.0,) * size)
    Task("policy", "tiny", Environment("CartPole-v1"), size, *bounds, 2, "argmax").write(given / "task.json")
    held_out = np.random.default_rng(0).normal(0, 0.5, (32, size)).astype(np.float32)
    np.savez(given / "observations.npz", held_out=held_out)
    artifact = deploy(given / "policy.tflite", DeployConfig(toolchain="gcc"), tmp_path / "deploy")
    rows = json.loads(artifact.file("exports.json").read_text())["rows"]
    assert {row["runtime"].split(" ")[0] for row in rows} >= {"onnxruntime"}
    assert all(row["equal"] >= 0.9 * row["values"] for row in rows)
    np.testing.assert_array_equal(reference.run(read_program(artifact.path), case.input)[-1], case.layers[-1])
