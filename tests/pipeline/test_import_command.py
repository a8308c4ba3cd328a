"""``policyport import``: what it writes is what quantize takes, it is skipped when done, and what it lacks is named."""

from __future__ import annotations

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
