"""The agents of the study: zips out of a folder, or recipes' or small ones that are trained here once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.artifact import Artifact, input_key
from policyport.core.environment import current_id
from policyport.core.errors import ConfigError
from policyport.core.task import Task
from policyport.pipeline.recipe import read_recipe
from policyport.pipeline.run import Say, run_stage
from policyport.pipeline.stages import IMPORT, POLICY, stage_named
from policyport.train.config import ALGORITHMS, ImportConfig, TrainConfig

STATISTICS = "vecnormalize.pkl"

ROUNDS = 10
"""In which integers that follow an agent play their steps."""

_DDPG = {"learning_rate": 1e-3, "gamma": 0.98, "buffer_size": 200_000, "learning_starts": 5_000, "action_noise": 0.1}
_DQN = {
    **{"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000, "gamma": 0.99},
    **{"target_update_interval": 10, "train_freq": 256, "gradient_steps": 128},
    **{"exploration_fraction": 0.16, "exploration_final_eps": 0.04},
}
_PPO = {
    **{"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98, "ent_coef": 0.0},
    **{"learning_rate": 1e-3, "clip_range": 0.2},
}

TRAINED: Mapping[tuple[str, str], dict[str, Any]] = {
    ("PPO", "CartPole-v1"): {"n_envs": 8, "total_steps": 100_000, "hyperparameters": _PPO},
    ("A2C", "CartPole-v1"): {"n_envs": 8, "total_steps": 200_000, "eval_every_steps": 10_000},
    ("DQN", "CartPole-v1"): {
        **{"total_steps": 100_000, "network": (256, 256), "activation": "relu", "hyperparameters": _DQN},
    },
    ("DDPG", "Pendulum-v1"): {
        **{"total_steps": 25_000, "target_return": -170.0, "eval_every_steps": 2_500},
        **{"activation": "relu", "hyperparameters": _DDPG},
    },
}
"""(algorithm, environment) to how it is trained; others are trained by the defaults of the train stage."""


@dataclass(frozen=True)
class StudyAgent:
    """One trained agent."""

    name: str
    """Also the name of its files."""

    group: str
    """Algorithm and environment: agents of one group differ by their training seed."""

    artifact: Path
    zip: Path
    """What it was made of."""

    statistics: Path | None = None
    """By which its observations are normalised, where they are."""


def find_agents(
    folder: Path | None, out: Path, environments: tuple[str, ...], algorithms: tuple[str, ...], say: Say
) -> list[StudyAgent]:
    """Import every zip below a folder whose environment and algorithm are asked for.

    :param out: where artifacts are kept; what is there already is not made again
    :raises ConfigError: there is none
    """
    assert folder is not None
    found = []
    for path in sorted(folder.rglob("*.zip")):
        environment = _environment_of(path)
        if environments and environment not in {current_id(name) for name in environments}:
            continue
        name = "-".join(dict.fromkeys(path.relative_to(folder).with_suffix("").parts))
        statistics = path.with_name(STATISTICS)
        config = ImportConfig(environment=environment, vecnormalize=statistics if statistics.is_file() else None)
        made = run_stage(IMPORT, {"agent": path}, {"agent": input_key(path)}, config, out / name, say)
        if not algorithms or made.manifest.figures["algorithm"] in algorithms:
            found.append(_agent(name, made, path, config.vecnormalize))
    if not found:
        raise ConfigError("no agents of these environments and algorithms", where=folder, expected="ALGO/ENV/ENV.zip")
    return found


def _environment_of(path: Path) -> str:
    """The environment that a zip is named after, or its folder."""
    try:
        return current_id(path.stem)
    except ConfigError:
        return current_id(path.parent.name)


def trained_agents(
    out: Path, environments: tuple[str, ...], algorithms: tuple[str, ...], seeds: tuple[int, ...], say: Say
) -> list[StudyAgent]:
    """Train the small agents, those that are not there yet, each once for every seed.

    :raises ConfigError: an algorithm that cannot be trained here
    """
    for algorithm in algorithms:
        if algorithm not in ALGORITHMS:
            where = "algos"
            raise ConfigError("no such algorithm to train", where=where, expected=", ".join(ALGORITHMS), got=algorithm)
    if environments and algorithms:
        pairs = [(algorithm, environment) for environment in environments for algorithm in algorithms]
    else:
        pairs = [
            (algorithm, environment)
            for algorithm, environment in TRAINED
            if (not environments or environment in environments) and (not algorithms or algorithm in algorithms)
        ]
    if not pairs:
        raise ConfigError("no small agent of these", where="envs and algos", cure="give both --envs and --algos")
    stage, found = stage_named("train"), []
    for algorithm, environment in pairs:
        for seed in seeds:
            more = TRAINED.get((algorithm, environment), {})
            config = TrainConfig(environment=environment, algorithm=algorithm, seed=seed, **more)  # type: ignore[arg-type]
            name = f"{algorithm.lower()}-{environment}-seed{seed}"
            found.append(_agent(name, run_stage(stage, {}, {}, config, out / name, say)))
    return found


def recipe_agents(recipes: tuple[Path, ...], out: Path, say: Say) -> list[StudyAgent]:
    """Train the policies of recipes, those that are not there yet; each is a group of its own, by the recipe's name.

    :raises ConfigError: a recipe of no policy, or of one whose observations are normalised
    """
    stage, found = stage_named("train"), []
    for path in recipes:
        recipe = read_recipe(path)
        if recipe.task != POLICY:
            raise ConfigError("a recipe of no policy", where=path, expected=POLICY, got=recipe.task)
        config = recipe.configs["train"]
        if config.normalize_observations:
            cure = "give its zip and statistics as ALGO/ENV/ENV.zip and vecnormalize.pkl by --agents"
            raise ConfigError("a recipe that normalises observations", where=path, cure=cure)
        made = run_stage(stage, {}, {}, config, out / recipe.name, say)
        found.append(StudyAgent(recipe.name, recipe.name, made.path, made.file("model.zip"), None))
    return found


def following_place(agent: StudyAgent, bits: int, activation_bits: int, out: Path, input_bits: int = 16) -> Path:
    """Where the integers that follow an agent lie."""
    taken = "" if input_bits == 16 else f"-{input_bits}"
    return out / f"{agent.name}-follow-{bits}-{activation_bits}{taken}"


def following(
    agent: StudyAgent, bits: int, activation_bits: int, steps: int, place: Path, say: Say, input_bits: int = 16
) -> Path:
    """The artifact with integers that follow an agent on the states that they come to themselves.

    :param bits: of weights
    :param steps: of the environment that the integers play
    :param input_bits: of observations
    :param place: the artifact's; what is there already is not made again
    """
    config = TrainConfig(
        environment=Task.read(agent.artifact / "task.json").environment.id,
        agent=agent.zip,
        vecnormalize=agent.statistics,
        qat_weights=bits,
        qat_activations=activation_bits,
        qat_input=input_bits,
        total_steps=steps,
        eval_every_steps=max(1, steps // ROUNDS),
    )
    return run_stage(stage_named("train"), {}, {}, config, place, say).path


def _agent(name: str, made: Artifact, path: Path | None = None, statistics: Path | None = None) -> StudyAgent:
    task = Task.read(made.file("task.json"))
    group = f"{task.algorithm} {task.environment.id}"
    return StudyAgent(name, group, made.path, path or made.file("model.zip"), statistics)
