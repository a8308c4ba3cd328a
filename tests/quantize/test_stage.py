"""The quantize stage as a whole: what it writes, what it chooses, what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys

import images
import numpy as np
import pytest
from policyport.core.artifact import code_version, open_artifact, stage_key, write_artifact
from policyport.core.errors import ArtifactError, ConfigError, ObservationError
from policyport.core.options import from_table, to_table
from policyport.core.task import Task
from policyport.pipeline.cli import main
from policyport.quantize import CODE, QuantizeConfig, quantize
from policyport.quantize.metrics import closeness, sqnr_db
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import quantize_input
from policyport.quantize.source import open_source

FILES = {"model.onnx", "float.onnx", "task.json", "observations.npz", "layers.json", "layers.csv", "layers.html"}


def test_a_bare_onnx_becomes_an_artifact(model_folder):
    config = QuantizeConfig()
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    assert set(artifact.manifest.files) == FILES
    assert artifact.file("float.onnx").read_bytes() == (model_folder / "policy.onnx").read_bytes()
    inputs = {"model": artifact.manifest.inputs["model"]}
    assert artifact.key == stage_key("quantize", inputs, to_table(config), code_version(*CODE))
    rows = json.loads(artifact.file("layers.json").read_text())["layers"]
    with artifact.file("layers.csv").open() as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == [row["name"] for row in rows]
    assert [row["function"] for row in rows] == ["Tanh", "Tanh", ""]
    assert all(row["sqnr_db"] > 15 for row in rows)
    figures = artifact.manifest.figures
    assert figures["weight_bytes"] == 4 * 16 + 16 * 16 + 16 * 2 + 4 * (16 + 16 + 2)
    assert figures["action_agreement"] >= 0.97


def test_a_train_artifact_is_read_and_its_key_passed_on(model_folder):
    with write_artifact(model_folder / "train", "train", inputs={}, config={}, code="c") as writer:
        for name in ("policy.onnx", "task.json", "observations.npz"):
            writer.copy(model_folder / name)
    artifact = quantize(model_folder / "train", QuantizeConfig(), model_folder / "out")
    assert artifact.manifest.inputs == {"model": open_artifact(model_folder / "train").key}


def test_returns_and_curve_are_carried_forward(model_folder):
    for name in ("returns.json", "curve.csv"):
        (model_folder / name).write_text(name)
    artifact = quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")
    assert [artifact.file(name).read_text() for name in ("returns.json", "curve.csv")] == ["returns.json", "curve.csv"]


def test_a_bare_onnx_is_done_until_its_observations_change(model_folder, capsys):
    command = ["quantize", str(model_folder / "policy.onnx"), "--out", str(model_folder / "out")]
    assert main(command) == main(command) == 0
    assert capsys.readouterr().out.count("skipped") == 1
    with np.load(model_folder / "observations.npz") as arrays:
        np.savez(model_folder / "observations.npz", observations=arrays["held_out"], held_out=arrays["observations"])
    assert main(command) == 0
    assert "input model changed" in capsys.readouterr().out


def test_the_same_input_gives_the_same_files(model_folder):
    outs = [quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / name) for name in ("a", "b")]
    assert outs[0].manifest.files == outs[1].manifest.files


@pytest.mark.parametrize(("target", "chosen"), [(0.0, "int8"), (1.01, "int16")])
def test_auto_takes_int8_where_it_keeps_the_actions(model_folder, target, chosen):
    """The second target is one that no network reaches."""
    config = QuantizeConfig(agreement_target=target)
    figures = quantize(model_folder / "policy.onnx", config, model_folder / "out").manifest.figures
    assert figures["activations"] == chosen
    assert list(figures["tried"]) == ["int8", "int8-wide-ends", "int16"][: 1 if chosen == "int8" else 3]
    assert set(figures["activation_bits"]) == {8 if chosen == "int8" else 16}
    assert figures["action_agreement"] == figures["tried"][chosen]["held_out"]["action_agreement"]


@pytest.mark.parametrize(("tolerance", "chosen"), [(1.0, "int8"), (0.0, "int16")])
def test_auto_goes_by_the_action_error_for_continuous_actions(model_folder, make_task, tolerance, chosen):
    make_task(4, 2, "clip").write(model_folder / "task.json")
    config = QuantizeConfig(action_tolerance=tolerance)
    figures = quantize(model_folder / "policy.onnx", config, model_folder / "out").manifest.figures
    assert figures["activations"] == chosen
    assert figures["action_agreement"] is None
    assert 0 < figures["action_error"] < 0.05


def test_auto_takes_wide_ends_where_they_suffice(model_folder, make_task):
    """A tolerance between what int8 loses and what int8 between wide ends does."""
    make_task(4, 2, "clip").write(model_folder / "task.json")
    tried = quantize(model_folder / "policy.onnx", QuantizeConfig(action_tolerance=0.0), model_folder / "out")
    figures = tried.manifest.figures["tried"]
    narrow, wide = (figures[name]["calibration"]["action_error"] for name in ("int8", "int8-wide-ends"))
    assert wide < narrow
    config = QuantizeConfig(action_tolerance=(narrow + wide) / 2)
    chosen = quantize(model_folder / "policy.onnx", config, model_folder / "chosen").manifest.figures
    assert chosen["activations"] == "int8-wide-ends" and list(chosen["tried"]) == ["int8", "int8-wide-ends"]
    assert chosen["activation_bits"][0] == chosen["activation_bits"][-1] == 16
    assert set(chosen["activation_bits"][1:-1]) == {8}


def test_wide_ends_that_were_asked_for_are_not_tried_twice(model_folder):
    config = QuantizeConfig(agreement_target=1.01, input_bits=16, output_bits=16)
    figures = quantize(model_folder / "policy.onnx", config, model_folder / "out").manifest.figures
    assert list(figures["tried"]) == ["int8", "int16"]


@pytest.mark.parametrize("method", ["qat", "blocks"])
def test_a_width_that_only_rounding_knows_is_refused_where_integers_are_learned(model_folder, method):
    with pytest.raises(ConfigError, match="weights of this width") as caught:
        quantize(model_folder / "policy.onnx", QuantizeConfig(weight_bits=6, method=method), model_folder / "out")
    assert caught.value.got == "6"


def test_weights_of_6_bits_are_stored_as_bytes(model_folder):
    config = QuantizeConfig(weight_bits=6, activations="int8")
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    rows = json.loads(artifact.file("layers.json").read_text())["layers"]
    assert {row["weight_bits"] for row in rows} == {8}
    assert artifact.manifest.figures["weight_bytes"] == 4 * 16 + 16 * 16 + 16 * 2 + 4 * (16 + 16 + 2)


def test_a_forced_width_is_the_only_one_tried(model_folder):
    config = QuantizeConfig(activations="int16")
    figures = quantize(model_folder / "policy.onnx", config, model_folder / "out").manifest.figures
    assert list(figures["tried"]) == ["int16"]
    assert figures["action_agreement"] > 0.98


def test_missing_observations_name_the_cure(model_folder):
    (model_folder / "observations.npz").unlink()
    with pytest.raises(ArtifactError) as error:
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")
    assert "no calibration data" in str(error.value) and "numpy.savez" in str(error.value.cure)
    assert not (model_folder / "out").exists()


def test_a_missing_task_names_the_cure(model_folder):
    (model_folder / "task.json").unlink()
    with pytest.raises(ArtifactError) as error:
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")
    assert "task.json" in str(error.value) and error.value.cure


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"nonsense"])
def test_torn_observations_are_one_clear_error(model_folder, content):
    (model_folder / "observations.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match="torn observations"):
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")


def test_observations_under_another_name_are_refused(model_folder):
    np.savez(model_folder / "observations.npz", samples=np.zeros((5, 4), np.float32))
    with pytest.raises(ArtifactError) as error:
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")
    assert "samples" in str(error.value.got)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_observations_that_are_not_finite_are_refused(model_folder, bad):
    observations = np.ones((6, 4), np.float32)
    observations[3, 2] = bad
    np.savez(model_folder / "observations.npz", observations=observations)
    with pytest.raises(ObservationError, match="observation 3, element 2"):
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")


def test_observations_of_another_size_are_refused(model_folder):
    np.savez(model_folder / "observations.npz", observations=np.zeros((6, 3), np.float32))
    with pytest.raises(ObservationError, match="shape"):
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")


def test_without_held_out_observations_the_last_fifth_is_held_out(model_folder):
    observations = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.savez(model_folder / "observations.npz", observations=observations)
    figures = quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out").manifest.figures
    assert (figures["observations"], figures["held_out"]) == (80, 20)


def test_a_task_of_another_network_is_refused(model_folder, make_task):
    make_task(4, 3).write(model_folder / "task.json")
    with pytest.raises(ArtifactError, match="model and task differ"):
        quantize(model_folder / "policy.onnx", QuantizeConfig(), model_folder / "out")


def test_a_missing_model_is_one_clear_error(tmp_path):
    with pytest.raises(ArtifactError, match="no such model"):
        quantize(tmp_path / "nothing", QuantizeConfig(), tmp_path / "out")


def test_options_are_checked_by_name():
    with pytest.raises(ConfigError, match="calibrator"):
        from_table(QuantizeConfig, {"calibrator": "kl"}, "[quantize]")
    with pytest.raises(ConfigError, match="weight_bits"):
        from_table(QuantizeConfig, {"weight_bits": 9}, "[quantize]")


def test_figures_of_closeness(make_task):
    task: Task = make_task(4, 1, "scale")
    exact = np.array([[-1.0], [1.0]], np.float32)
    assert closeness(task, exact, exact).action_error == 0
    assert closeness(task, exact, exact * np.float32(0.9)).action_error == pytest.approx(0.05, rel=1e-5)
    assert sqnr_db(np.array([10.0]), np.array([9.0])) == pytest.approx(20.0)
    assert sqnr_db(np.ones(3), np.ones(3)) == 200.0


def test_the_package_imports_without_numpy_onnx_or_torch():
    code = (
        "import sys\n"
        "import policyport.quantize\n"
        "print([name for name in ('numpy', 'onnx', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stage_runs_where_torch_is_missing(model_folder):
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from policyport.quantize import QuantizeConfig, quantize\n"
        "quantize(Path(sys.argv[1]), QuantizeConfig(), Path(sys.argv[2]))\n"
    )
    arguments = [str(model_folder / "policy.onnx"), str(model_folder / "out")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    assert open_artifact(model_folder / "out", "quantize").manifest.figures


def test_an_image_of_whole_numbers_is_taken_over_exactly(tmp_path, make_task):
    """Its limits are those of the task, whatever was observed; the host gets it flat, channels last."""
    path = images.write("flat_image", tmp_path / "policy.onnx")
    task = make_task(270, 3)
    dataclasses.replace(task, observation_low=(0.0,) * 270, observation_high=(255.0,) * 270).write(
        tmp_path / "task.json"
    )
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 100, (60, 270)).astype(np.float32)
    np.savez(tmp_path / "observations.npz", observations=dark, held_out=dark[:20])
    source = open_source(path)
    network = quantize_graph(source.graph, dark, QuantizeConfig(), 8)
    every = np.resize(np.arange(256, dtype=np.float32), 270)[None]
    q = quantize_input(network, every).transpose(0, 2, 3, 1).reshape(-1).astype(int)
    np.testing.assert_array_equal(q, every[0] - 128)
    figures = quantize(path, QuantizeConfig(activations="int8"), tmp_path / "out").manifest.figures
    assert figures["action_agreement"] > 0.9


def test_branch_and_bound_says_what_it_proved(model_folder):
    plain = quantize(model_folder / "policy.onnx", QuantizeConfig(weight_bits=2), model_folder / "plain")
    config = QuantizeConfig(weight_bits=2, prove_nodes=20_000)
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    assert "proofs" not in plain.manifest.figures
    proofs = artifact.manifest.figures["proofs"]
    rows = {name: proof["rows"] for name, proof in proofs.items()}
    assert list(rows.values()) == [16, 16, 2]
    first = next(iter(proofs.values()))
    assert first["proven"] == 16 and first["largest_gap"] == pytest.approx(0, abs=1e-8)
    assert all(0 <= proof["largest_gap"] <= 1 and proof["nodes"] <= 20_000 * proof["rows"] for proof in proofs.values())


def test_adaround_takes_its_hyper_parameters(model_folder):
    few = {"method": "adaround", "weight_bits": 3, "adaround_iterations": 40, "adaround_batch": 8}
    first = quantize(model_folder / "policy.onnx", QuantizeConfig(**few), model_folder / "first")
    same = quantize(model_folder / "policy.onnx", QuantizeConfig(**few), model_folder / "same")
    other = quantize(model_folder / "policy.onnx", QuantizeConfig(**few, adaround_seed=1), model_folder / "other")
    paper = quantize(
        model_folder / "policy.onnx", QuantizeConfig(**few, adaround_learning_rate=1e-3), model_folder / "paper"
    )
    written = [artifact.file("model.onnx").read_bytes() for artifact in (first, same, other, paper)]
    assert written[0] == written[1] and len(set(written)) >= 2


def test_a_budget_gives_each_layer_a_width(model_folder):
    config = QuantizeConfig(flash_budget="1062", activations="int8")
    artifact = quantize(model_folder / "policy.onnx", config, model_folder / "out")
    table = json.loads(artifact.file("widths.json").read_text())
    assert table["budget"] == {"flash_bytes": 1062} and table["got"]["flash_bytes"] <= 1062
    rows = json.loads(artifact.file("layers.json").read_text())["layers"]
    assert {row["name"]: row["weight_bits"] for row in rows} == table["weights"]
    assert len(set(table["weights"].values())) > 1 and set(table["activations"].values()) == {8}
    with artifact.file("front.csv").open() as stream:
        front = list(csv.DictReader(stream))
    spent = [int(point["flash_bytes"]) for point in front]
    noise = [float(point["predicted_sqnr_db"]) for point in front]
    assert len(front) > 3 and spent == sorted(spent) and noise == sorted(noise)
    assert "What each budget would buy" in artifact.file("layers.html").read_text()
    assert abs(table["predicted_sqnr_db"] - artifact.manifest.figures["sqnr_db"]) < 6


@pytest.mark.parametrize(
    ("options", "message"),
    [({"flash_budget": "50"}, "at least flash, bytes"), ({"ram_budget": "many"}, "not a number above zero")],
)
def test_a_budget_that_cannot_be_kept_is_one_clear_error(model_folder, options, message):
    with pytest.raises(ConfigError, match=message):
        quantize(model_folder / "policy.onnx", QuantizeConfig(**options), model_folder / "out")
