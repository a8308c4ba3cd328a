"""The deploy stage refuses what it cannot build, by name, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from policyport.core.artifact import MANIFEST, write_artifact
from policyport.core.errors import ArtifactError, ConfigError, ToolError, UnsupportedModelError
from policyport.deploy import toolchain
from policyport.deploy.config import DeployConfig
from policyport.deploy.stage import deploy, machine_inputs
from policyport.pipeline.stages import stage_named


@pytest.fixture(autouse=True)
def any_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here comes as far as compiling."""
    monkeypatch.setattr(toolchain, "find_toolchain", lambda *_: toolchain.Toolchain("gcc", ("false",), "none"))


def model(operator: str = "Erf") -> bytes:
    """QuantizeLinear, DequantizeLinear, one operator, QuantizeLinear, DequantizeLinear."""
    constants = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")]
    nodes: list[Any] = []
    here = "observation"
    for kind in ("QuantizeLinear", "DequantizeLinear", operator, "QuantizeLinear", "DequantizeLinear"):
        parameters = ["s", "z"] if kind.endswith("Linear") else []
        nodes.append(helper.make_node(kind, [here, *parameters], [f"t{len(nodes)}"], name=f"n{len(nodes)}"))
        here = nodes[-1].output[0]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("observation", TensorProto.FLOAT, ["N", 4])],
        [value(here, TensorProto.FLOAT, ["N", 4])],
        constants,
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(network)
    return bytes(network.SerializeToString())


def left_nothing(folder: Path) -> bool:
    return not any(path.name.startswith((".out", "out")) for path in folder.iterdir())


@pytest.mark.parametrize("present", [("observations.npz",), ("task.json",)])
def test_one_companion_alone(tmp_path: Path, present: tuple[str, ...]) -> None:
    (tmp_path / "policy.onnx").write_bytes(model())
    for name in present:
        (tmp_path / name).write_text("{}")
    missing = "observations.npz" if "task.json" in present else "task.json"
    with pytest.raises(ArtifactError, match=f"no {missing} beside the model") as caught:
        deploy(tmp_path / "policy.onnx", DeployConfig(), tmp_path / "out")
    assert caught.value.cure is not None
    assert left_nothing(tmp_path)


def test_unsupported_operator(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(model("Erf"))
    for name in ("task.json", "observations.npz"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UnsupportedModelError, match="Erf"):
        deploy(tmp_path / "policy.onnx", DeployConfig(), tmp_path / "out")
    assert left_nothing(tmp_path)


def quantized(folder: Path, kind: str = "quantize") -> Path:
    with write_artifact(folder, kind, inputs={}, config={}, code="") as writer:
        (writer.path / "model.onnx").write_bytes(model())
        (writer.path / "task.json").write_text("{}")
    return folder


def test_torn_artifact(tmp_path: Path) -> None:
    altered, lacking, torn = (quantized(tmp_path / name) for name in ("altered", "lacking", "torn"))
    (altered / "model.onnx").write_bytes(model()[:-1])
    (lacking / "task.json").unlink()
    (torn / MANIFEST).write_text((torn / MANIFEST).read_text()[:40])
    for folder, words in ((altered, "model.onnx is not what"), (lacking, "task.json is missing"), (torn, "not parse")):
        with pytest.raises(ArtifactError, match=words):
            deploy(folder, DeployConfig(), tmp_path / "out")
    assert left_nothing(tmp_path)


def test_artifact_of_another_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="another stage"):
        deploy(quantized(tmp_path / "model", "train"), DeployConfig(), tmp_path / "out")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model here"):
        deploy(tmp_path / "missing", DeployConfig(), tmp_path / "out")


def test_unknown_board(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown board"):
        deploy(quantized(tmp_path / "model"), DeployConfig(board="mps2-an368"), tmp_path / "out")


def test_the_compiler_that_auto_picks_is_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(preference: str, linux: bool) -> toolchain.Toolchain:
        assert preference == "auto"
        return toolchain.Toolchain("gcc", ("false",), f"{toolchain.GCC[linux]} 13.2.1")

    monkeypatch.setattr(toolchain, "find_toolchain", found)
    assert machine_inputs(DeployConfig()) == {"compiler": "arm-none-eabi-gcc 13.2.1"}
    assert stage_named("deploy").config_inputs(DeployConfig(), {}) == {"compiler": "arm-none-eabi-gcc 13.2.1"}
    assert machine_inputs(DeployConfig(board="raspberrypi3")) == {"compiler": "aarch64-linux-gnu-gcc 13.2.1"}


def test_without_a_compiler_there_is_still_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> toolchain.Toolchain:
        raise ToolError("no ARM compiler on this machine")

    monkeypatch.setattr(toolchain, "find_toolchain", none)
    assert machine_inputs(DeployConfig()) == {"compiler": "none"}


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    out = quantized(tmp_path / "out", "deploy")
    before = (out / MANIFEST).read_bytes()
    with pytest.raises(UnsupportedModelError):
        deploy(quantized(tmp_path / "model"), DeployConfig(), out)
    assert (out / MANIFEST).read_bytes() == before
