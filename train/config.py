"""Options of the train stage and of the import of agents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policyport.core.options import option
from policyport.quantize.config import ACTIVATION_BITS, WEIGHT_BITS

Precision = Literal["float32", "bf16", "fp16"]

ALGORITHMS = ("PPO", "A2C", "DQN", "SAC", "TD3", "DDPG")


@dataclass(frozen=True)
class ExportConfig:
    """What is recorded of a policy once it is there."""

    environment: str = option("CartPole-v1", "Gymnasium environment id")
    calibration_steps: int = option(
        4_000, "observations recorded for calibration, and as many held out; fewer where they are images", low=16
    )
    exploration: float = option(
        0.1, "share of random actions while calibration observations are recorded", low=0.0, high=1.0
    )
    evaluation_episodes: int = option(20, "seeded episodes of the float policy's own return", low=1)
    evaluation_seed: int = option(1000, "episode i of that return is reset with this seed plus i", low=0)
    threads: int = option(1, "threads that torch may use", low=1)


@dataclass(frozen=True)
class TrainConfig(ExportConfig):
    """Which policy to train, how long, and what to record of it."""

    algorithm: Literal["PPO", "A2C", "DQN", "SAC", "TD3", "DDPG"] = option(
        "PPO", "Stable-Baselines3 algorithm", choices=ALGORITHMS
    )
    agent: Path | None = option(
        None,
        "a Stable-Baselines3 zip to take instead of training, as the import does; with qat_weights, integers that "
        "follow it are trained on the states that they come to themselves",
    )
    vecnormalize: Path | None = option(None, "the VecNormalize statistics (.pkl) that belong to the agent")
    seed: int = option(0, "seed of the training", low=0)
    total_steps: int = option(100_000, "environment steps after which training ends, solved or not", low=1)
    target_return: float | None = option(
        None, "mean return at which training ends; none takes the environment's own reward threshold"
    )
    n_envs: int = option(1, "environments run side by side", low=1)
    network: tuple[int, ...] = option((64, 64), "widths of the hidden layers")
    activation: Literal["tanh", "relu"] = option("tanh", "activation function", choices=("tanh", "relu"))
    hyperparameters: dict[str, Any] = option({}, "further arguments of the algorithm's constructor, recipe only")
    precision: Precision = option(
        "float32", "arithmetic of the updates; weights stay float32", choices=("float32", "bf16", "fp16")
    )
    device: Literal["cpu", "cuda"] = option("cpu", "what torch trains on", choices=("cpu", "cuda"))
    normalize_observations: bool = option(False, "normalize observations by running statistics (VecNormalize)")
    qat_weights: int | None = option(
        None,
        "quantization-aware training: width of the actor's weights, in bits; none trains float32",
        choices=WEIGHT_BITS,
    )
    qat_activations: int = option(8, "qat_weights: width of activations, in bits", choices=ACTIVATION_BITS)
    qat_input: int = option(16, "qat_weights: width of observations, in bits", choices=ACTIVATION_BITS)
    qat_output: int = option(16, "qat_weights: width of the network's outputs, in bits", choices=ACTIVATION_BITS)
    qat_delay: float = option(
        0.5,
        "qat_weights without agent: share of total_steps that is trained in float32 before; less where the target is "
        "reached earlier",
        low=0.0,
        high=1.0,
    )
    actors: int = option(
        0, "processes that collect experience while the learner trains; 0 for the learner itself", low=0
    )
    actor_precision: Literal["int8", "int16", "float32"] = option(
        "int8", "actors: what their copy of the policy computes in", choices=("int8", "int16", "float32")
    )
    push_steps: int = option(500, "actors: environment steps after which they get the learner's weights", low=1)
    eval_every_steps: int = option(5_000, "environment steps between two evaluations, each also a checkpoint", low=1)
    eval_episodes: int = option(10, "episodes of an evaluation", low=1)

    @property
    def run_name(self) -> str:
        """Folder of its run where nothing is said."""
        return f"{self.algorithm}-{self.environment}".lower()


@dataclass(frozen=True)
class ImportConfig(ExportConfig):
    """Whose agent a Stable-Baselines3 zip is, and what to record of it."""

    environment: str = option("", "Gymnasium environment id that the agent was trained in; must be given")
    vecnormalize: Path | None = option(None, "the VecNormalize statistics (.pkl or .npz) that belong to the agent")
    pickle: bool = option(
        True, "read the pickled parts, as inert data: no code of the file runs; without it weights and text alone"
    )
