"""``policyport import``: what it writes is what quantize takes, it is skipped when done, and what it lacks is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from policyport.pipeline.cli import main

FLAGS = ["--calibration-steps", "64", "--evaluation-episodes", "1"]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of an untrained PPO on CartPole-v1."""
    from stable_baselines3 import PPO

    path = tmp_path_factory.mktemp("agent") / "agent.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, device="cpu").save(path)
    return path


def test_an_imported_agent_is_quantized(agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported = ["import", str(agent), "--env", "CartPole-v1", "--no-pickle", "--out", str(tmp_path / "import"), *FLAGS]
    assert main(imported) == 0 and main(imported) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("import")] == ["running", "done", "skipped"]
    assert main(["quantize", str(tmp_path / "import"), "--out", str(tmp_path / "quantize")]) == 0


def test_the_environment_must_be_given(agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(agent), "--out", str(tmp_path / "import")]) == 2
    assert "no environment given" in capsys.readouterr().err


def test_the_agent_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "--env", "CartPole-v1"]) == 2
    assert "no agent given" in capsys.readouterr().err


def test_an_agents_file_is_imported_on_the_way(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["quantize", str(agent), "--environment", "CartPole-v1", "--weights", "4"]
    assert main(given) == 0 and main(given) == 0
    said = [tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()]
    stages = ("import", "quantize")
    assert [line for line in said if line[-1] in ("done", "skipped")] == [
        *((stage, "done") for stage in stages),
        *((stage, "skipped") for stage in stages),
    ]
    layers = json.loads((tmp_path / "runs" / "agent" / "quantize" / "layers.json").read_text())
    assert {row["weight_bits"] for row in layers["layers"] if row["weight_bits"]} == {4}


def test_an_agents_file_needs_its_environment(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(agent)]) == 2
    assert "no environment given" in capsys.readouterr().err


def test_an_environment_belongs_to_an_agents_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(tmp_path / "model.onnx"), "--environment", "CartPole-v1"]) == 2
    assert "no agent's file" in capsys.readouterr().err
