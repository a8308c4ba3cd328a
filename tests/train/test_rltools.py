"""A checkpoint of RLtools becomes a train artifact; its example is what the export is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.artifact import open_artifact
from policyport.core.errors import ArtifactError, ConfigError, ParityError, UnsupportedModelError
from policyport.core.task import Task
from policyport.quantize.source import open_source
from policyport.train.config import ImportConfig
from policyport.train.rltools import read_checkpoint
from policyport.train.stage import import_agent

h5py = pytest.importorskip("h5py")

INPUTS, HIDDEN, OUTPUTS = 22, 5, 4
CONFIG = ImportConfig(environment="Quadrotor-v0", calibration_steps=64, evaluation_episodes=2)


def write_checkpoint(path: Path, squash: bool = False, function: str = "RELU", wrong: float = 0.0) -> None:
    """Dense, GRU, dense; the example's outputs worked out here, row by row of RLtools' order."""
    rng = np.random.default_rng(3)
    w0, b0 = rng.normal(size=(6, INPUTS)) / 5, rng.normal(size=(1, 6))
    wi, wh = rng.normal(size=(3 * HIDDEN, 6)), rng.normal(size=(3 * HIDDEN, HIDDEN))
    bi, bh = rng.normal(size=3 * HIDDEN), rng.normal(size=3 * HIDDEN)
    w1, b1 = rng.normal(size=(OUTPUTS, HIDDEN)), rng.normal(size=(1, OUTPUTS))
    example = rng.normal(size=(7, 2, INPUTS))
    h, rows = np.zeros((2, HIDDEN)), []
    for x in example:
        x = np.maximum(x @ w0.T + b0, 0)
        (ri, zi, ni), (rh, zh, nh) = np.split(x @ wi.T + bi, 3, axis=1), np.split(h @ wh.T + bh, 3, axis=1)
        r, z = 1 / (1 + np.exp(-ri - rh)), 1 / (1 + np.exp(-zi - zh))
        h = z * h + (1 - z) * np.tanh(ni + r * nh)
        rows.append(np.tanh(h @ w1.T + b1) if squash else h @ w1.T + b1)
    with h5py.File(path, "w") as file:
        actor = file.create_group("actor")
        actor.attrs["type"] = "sequential"

        def layer(index: int, kind: str, arrays: dict[str, np.ndarray], **attributes: str) -> None:
            group = actor.create_group(f"layers/{index}")
            group.attrs.update({"type": kind, **attributes})
            for name, value in arrays.items():
                group.create_dataset(f"{name}/parameters", data=value.astype(np.float32))

        layer(0, "dense", {"weights": w0, "biases": b0}, activation_function=function)
        gru = {"weights_input": wi, "weights_hidden": wh, "biases_input": bi, "biases_hidden": bh}
        layer(1, "gru", {**gru, "initial_hidden_state": np.zeros(HIDDEN)})
        layer(2, "dense", {"weights": w1, "biases": b1}, activation_function="IDENTITY")
        if squash:
            layer(3, "sample_and_squash", {})
        file["example/input"] = example.astype(np.float32)
        file["example/output"] = (np.array(rows) + wrong).astype(np.float32)


@pytest.mark.parametrize("squash", [False, True])
def test_a_checkpoint_becomes_an_artifact(tmp_path: Path, squash: bool) -> None:
    write_checkpoint(tmp_path / "policy.h5", squash)
    import_agent(tmp_path / "policy.h5", CONFIG, tmp_path / "train")
    artifact = open_artifact(tmp_path / "train", "train")
    assert artifact.manifest.figures["example_difference"] < 1e-5
    task = Task.read(artifact.file("task.json"))
    assert task.action_rule == ("scale" if squash else "clip") and task.state_size == HIDDEN
    source = open_source(tmp_path / "train")
    assert source.observations.shape == (64, INPUTS + HIDDEN) and source.graph.state_size == HIDDEN
    assert np.abs(source.held_out[1:, INPUTS:]).max() > 0.1


def test_an_export_that_differs_from_the_example_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "policy.h5", wrong=0.01)
    with pytest.raises(ParityError, match="example"):
        import_agent(tmp_path / "policy.h5", CONFIG, tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "policy.h5", function="FAST_TANH")
    with pytest.raises(UnsupportedModelError, match="activation function"):
        read_checkpoint(tmp_path / "policy.h5")
    (tmp_path / "torn.h5").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="RLtools"):
        read_checkpoint(tmp_path / "torn.h5")
    write_checkpoint(tmp_path / "policy.h5")
    for environment, named in (("", "no environment"), ("CartPole-v1", "other sizes")):
        with pytest.raises(ConfigError, match=named):
            import_agent(tmp_path / "policy.h5", ImportConfig(environment=environment), tmp_path / "train")
