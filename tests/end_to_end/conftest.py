"""One short run of the whole pipeline, shared by the tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest
from policyport.pipeline.cli import main

RECIPE = """
name = "short"

[train]
environment = "CartPole-v1"
algorithm = "PPO"
seed = {seed}
n_envs = 8
total_steps = 2048
eval_every_steps = 1024
eval_episodes = 1
calibration_steps = 300
evaluation_episodes = 2

[train.hyperparameters]
n_steps = 32
batch_size = 256

[quantize]
activations = "{activations}"

[hil]
episodes = 2
parity_observations = 16
latency_observations = 32
"""


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two finished runs of the whole pipeline: ``int16`` and ``int8`` activations, other seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, activations in enumerate(("int16", "int8")):
        recipe = folder / f"{activations}.toml"
        recipe.write_text(RECIPE.format(seed=seed, activations=activations))
        assert main(["run", str(recipe), "--out", str(folder / activations), "-q"]) == 0
    return folder
