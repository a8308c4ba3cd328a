"""Methods against widths: cells that can be deployed, figures, a page, and a comparison that goes on."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession
from policyport.core.artifact import open_artifact
from policyport.core.task import Environment, Task
from policyport.hil.policy import FloatPolicy
from policyport.pipeline.cli import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A float network that balances CartPole by a hidden layer, its task and observations beside it."""
    rng = np.random.default_rng(0)
    hidden = np.concatenate([np.eye(4), -np.eye(4), rng.normal(0, 0.1, (8, 4))]).astype(np.float32)
    push = np.array([0.2, 0.5, 4.0, 1.5], np.float32)
    head = np.zeros((2, 16), np.float32)
    head[1, :4], head[1, 4:8] = push, -push
    weights = {"w1": hidden, "b1": np.zeros(16, np.float32), "w2": head, "b2": np.zeros(2, np.float32)}
    nodes = [
        helper.make_node("Gemm", ["observation", "w1", "b1"], ["h"], "h", transB=1),
        helper.make_node("Relu", ["h"], ["r"], "r"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["output"], "output", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    proto.ir_version = 10
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(proto, str(folder / "policy.onnx"))
    bound = (4.8, 100.0, 0.42, 100.0)
    Task(
        kind="policy",
        name="balancer",
        environment=Environment("CartPole-v1"),
        observation_size=4,
        observation_low=tuple(-value for value in bound),
        observation_high=bound,
        output_size=2,
        action_rule="argmax",
    ).write(folder / "task.json")
    seen = rng.normal(0, [0.5, 0.5, 0.05, 0.5], (400, 4)).astype(np.float32)
    np.savez(folder / "observations.npz", observations=seen[:300], held_out=seen[300:])
    return folder / "policy.onnx"


def line(model: Path, out: Path, *more: str) -> list[str]:
    given = ["quantize", str(model), "--compare", "--compare-methods", "nearest", "gptq", "--compare-bits", "8", "2"]
    return [*given, "--compare-episodes", "3", "--activations", "int8", "--out", str(out), *more]


def test_cells_are_measured_and_kept(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compare"
    assert main(line(model, out)) == 0
    printed = capsys.readouterr().out
    assert printed.count(" bits  ") == 5 and "float32 mean return" in printed
    found = json.loads((out / "compare.json").read_text())
    cells = {(cell["method"], cell["bits"]): cell for cell in found["cells"]}
    half = cells.pop(("fp16", 16))
    assert set(cells) == {(method, bits) for method in ("nearest", "gptq") for bits in (8, 2)}
    assert half["sqnr_db"] > cells["nearest", 8]["sqnr_db"] and half["metric"] == found["float_metric"]
    written = InferenceSession(out / "fp16.onnx").run(None, {"observation": np.zeros((1, 4), np.float32)})[0]
    assert written.shape == (1, 2) and half["weight_bytes"] == 2 * (4 * 16 + 16 + 16 * 2 + 2)
    assert found["metric_name"] == "mean return" and found["float_metric"] > 100
    assert cells["nearest", 8]["sqnr_db"] > cells["nearest", 2]["sqnr_db"]
    assert cells["nearest", 8]["weight_bytes"] > cells["nearest", 2]["weight_bytes"]
    assert set(cells["gptq", 2]["layers"]) == {"r", "output"} and cells["gptq", 2]["seconds"] > 0
    assert open_artifact(out / "gptq-2", "quantize").manifest.config["weight_bits"] == 2
    with (out / "compare.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5
    page = (out / "compare.html").read_text()
    assert "balancer: rounding methods against widths" in page and page.count("<svg") == 4


def test_a_comparison_goes_on(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compare"
    assert main(line(model, out, "-q")) == 0
    (out / "gptq-2" / "model.onnx").unlink()
    before = (out / "nearest-8/manifest.json").stat().st_mtime_ns
    kept = out / "nearest-8.metric.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"metric": 123.5}))
    assert main(line(model, out, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (out / "gptq-2/model.onnx").is_file()
    assert (out / "nearest-8/manifest.json").stat().st_mtime_ns == before
    assert next(cell["metric"] for cell in found["cells"] if (cell["method"], cell["bits"]) == ("nearest", 8)) == 123.5


def test_a_model_without_an_environment_is_compared_by_its_noise(model: Path, tmp_path: Path) -> None:
    task = Task.read(model.with_name("task.json"))
    dataclasses.replace(task, environment=Environment("")).write(model.with_name("task.json"))
    assert main(line(model, tmp_path / "compare", "-q")) == 0
    found = json.loads((tmp_path / "compare/compare.json").read_text())
    assert found["float_metric"] is None and all(cell["metric"] is None for cell in found["cells"])
    assert all(cell["sqnr_db"] > 0 for cell in found["cells"])


def test_a_classifier_is_judged_by_the_labels_that_are_known(model: Path, tmp_path: Path) -> None:
    policy = Task.read(model.with_name("task.json"))
    task = dataclasses.replace(policy, kind="classifier", environment=Environment(""), labels=("left", "right"))
    task.write(model.with_name("task.json"))
    with np.load(model.with_name("observations.npz")) as stored:
        seen = stored["held_out"]
    chosen = FloatPolicy(model, task).outputs(seen).argmax(axis=1)
    labels = np.where(np.arange(2) == chosen[:, None], 1, 0).astype(np.int8)
    labels[:10] = labels[:10, ::-1]
    labels[10:30] = -1
    np.savez(model.with_name("labels.npz"), held_out=labels)
    assert main(line(model, tmp_path / "compare", "-q")) == 0
    found = json.loads((tmp_path / "compare/compare.json").read_text())
    assert (found["metric_name"], found["float_metric"]) == ("accuracy", pytest.approx(70 / 80))
    cells = {(cell["method"], cell["bits"]): cell["metric"] for cell in found["cells"]}
    assert cells["nearest", 8] == pytest.approx(70 / 80, abs=0.05)
    labels[:] = -1
    np.savez(model.with_name("labels.npz"), held_out=labels)
    assert main(line(model, tmp_path / "compare", "-q")) == 0
    assert json.loads((tmp_path / "compare/compare.json").read_text())["cells"][0]["metric"] is None


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--compare-bits", "5"], "no such width"), (["--compare-methods", "best"], "no such method")],
)
def test_what_cannot_be_compared(
    model: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line(model, tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err


def test_a_model_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "--compare"]) == 2
    assert "no model given" in capsys.readouterr().err
