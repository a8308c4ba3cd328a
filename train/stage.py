"""The train stage: a policy from an environment, and everything that later stages need to know of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from policyport.core.artifact import (
    Artifact,
    ArtifactWriter,
    code_version,
    input_key,
    open_artifact,
    sha256_file,
    stage_key,
    write_artifact,
)
from policyport.core.options import to_table
from policyport.train.config import ImportConfig, TrainConfig

if TYPE_CHECKING:
    from policyport.train.agent import Agent

_ROOT = Path(__file__).resolve().parent
CODE = (_ROOT, _ROOT.parent / "core")
"""Source folders that the keys of train and import depend on."""


def train(config: TrainConfig, out: Path) -> Artifact:
    """Train a policy, or take a trained one, and export its deterministic actor.

    Writes ``policy.onnx``, ``task.json``, ``observations.npz``, ``returns.json``, ``curve.csv`` and
    ``model.zip``, and ``integers.npz`` where integers were trained too, with ``own_states.csv`` where they follow a
    given agent. Interrupted, it leaves ``<out>.partial`` and resumes from there.

    :raises ConfigError: unknown environment or argument
    :raises UnsupportedModelError: a policy with something in it that cannot be exported
    :raises ParityError: the export does not choose what ``predict`` chooses
    :raises ToolError: Stable-Baselines3 is not installed
    """
    from policyport.train.export import export_agent
    from policyport.train.learner import require_stable_baselines, torch_threads

    require_stable_baselines()
    inputs = _inputs(config.agent, config.vecnormalize) | machine_inputs(config)
    code = code_version(*CODE)
    partial = out.with_name(out.name + ".partial")
    key = stage_key("train", inputs, to_table(config), code)
    with torch_threads(config.threads):
        agent = _agent(config, partial, key)
        with write_artifact(out, "train", inputs=inputs, config=to_table(config), code=code) as writer:
            export_agent(agent, config, writer)
            if config.agent is not None and config.qat_weights is not None:
                _follow(config, writer, partial, key)
    shutil.rmtree(partial, ignore_errors=True)
    return open_artifact(out, "train")


def import_agent(agent: Path, config: ImportConfig, out: Path) -> Artifact:
    """Take a zip of Stable-Baselines3 and export its deterministic actor: the artifact that :func:`train` writes.

    A checkpoint of RLtools (.h5), recurrent or not, is taken too.

    :raises ConfigError: unknown environment, or one that the agent was not trained in
    :raises ArtifactError: a zip that does not read as an agent
    :raises UnsupportedModelError: a policy with something in it that cannot be exported; it is named
    :raises ParityError: the export does not choose what ``predict`` chooses
    :raises ToolError: Stable-Baselines3, or a package that the agent or the environment needs, is not installed
    """
    from policyport.train.export import export_agent
    from policyport.train.learner import require_stable_baselines, torch_threads
    from policyport.train.rebuild import read_agent

    inputs = _inputs(None, config.vecnormalize) | {"agent": input_key(agent)}
    if agent.suffix in (".h5", ".hdf5"):
        from policyport.train.rltools import export_checkpoint

        with write_artifact(out, "train", inputs=inputs, config=to_table(config), code=code_version(*CODE)) as writer:
            export_checkpoint(agent, config, writer)
        return open_artifact(out, "train")
    require_stable_baselines()
    with torch_threads(config.threads):
        found = read_agent(agent, config.environment, config.vecnormalize, pickle=config.pickle)
        with write_artifact(out, "train", inputs=inputs, config=to_table(config), code=code_version(*CODE)) as writer:
            export_agent(found, config, writer)
    return open_artifact(out, "train")


def machine_inputs(config: TrainConfig) -> dict[str, str]:
    """What else the outcome depends on: the source of quantization, where integers are trained."""
    return {} if config.qat_weights is None else {"quantize": code_version(_ROOT.parent / "quantize")}


def _inputs(agent: Path | None, vecnormalize: Path | None) -> dict[str, str]:
    files = {"agent": agent, "vecnormalize": vecnormalize}
    return {name: sha256_file(file) for name, file in files.items() if file is not None and file.is_file()}


def _agent(config: TrainConfig, partial: Path, key: str) -> Agent:
    if config.agent is None:
        from policyport.train.learner import learn, trained_agent

        return trained_agent(learn(config, partial, key), config)
    from policyport.train.rebuild import read_agent

    return read_agent(config.agent, config.environment, config.vecnormalize)


def _follow(config: TrainConfig, writer: ArtifactWriter, partial: Path, key: str) -> None:
    """Train integers that follow the policy that was exported, and write them beside it."""
    from policyport.quantize.source import open_source
    from policyport.quantize.trained import INTEGERS, write_trained
    from policyport.train.own_states import STATE, follow, write_rounds

    found = follow(open_source(writer.path / "policy.onnx"), config, partial / STATE, key)
    write_trained(found.network, writer.path / INTEGERS)
    write_rounds(found.rounds, writer.path / "own_states.csv")
    writer.figures.update(followed_steps=found.rounds[-1].steps, followed_loss=found.loss)
