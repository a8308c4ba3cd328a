"""A model file that another tool wrote is deployed with nothing beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ToolError
from policyport.core.task import Task
from policyport.deploy.companions import add_companions
from policyport.deploy.config import DeployConfig
from policyport.deploy.export_onnx import onnx_bytes
from policyport.deploy.export_tflite import tflite_bytes
from policyport.deploy.program import Program, quantize_input, read_program
from policyport.deploy.random_graph import golden_graphs
from policyport.deploy.stage import deploy
from policyport.deploy.toolchain import find_toolchain


def program() -> Program:
    return golden_graphs()["conv_s8"]


def test_the_inputs_made_are_exact_on_the_grid_of_the_input(tmp_path: Path) -> None:
    add_companions(program(), "net", tmp_path)
    first = (tmp_path / "task.json").read_bytes()
    with np.load(tmp_path / "observations.npz") as arrays:
        q = quantize_input(program(), Task.read(tmp_path / "task.json").check_observation(arrays["held_out"]))
    assert (q.min(), q.max()) == (-128, 127)
    (tmp_path / "task.json").write_bytes(first)
    add_companions(program(), "other", tmp_path)
    assert (tmp_path / "task.json").read_bytes() == first


@pytest.mark.parametrize(("name", "to_bytes"), [("net.onnx", onnx_bytes), ("net.tflite", tflite_bytes)])
def test_a_bare_file_becomes_firmware(
    name: str, to_bytes: Callable[[Program], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        find_toolchain("auto")
    except ToolError as error:
        pytest.skip(str(error))
    (tmp_path / name).write_bytes(to_bytes(program()))
    with caplog.at_level(logging.WARNING):
        built = deploy(tmp_path / name, DeployConfig(), tmp_path / "out")
    assert "random inputs stand in" in caplog.text
    assert read_program(built.path).macs == program().macs
    assert {"firmware.elf", "footprint.html", "task.json"} <= {path.name for path in built.path.iterdir()}
