"""Actors by integers: their C is the integer semantics, rounds repeat, the learner learns from what they bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from policyport.core.errors import ConfigError
from policyport.core.task import Environment
from policyport.deploy.chain import compile_chain
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.graph import FloatGraph, HostPrefix
from policyport.quantize.nodes import NONE, RELU, Function, Linear
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.simulate import predict
from policyport.train.actor_copy import copy_of, outputs_of
from policyport.train.actor_worker import Actor, Round
from policyport.train.config import TrainConfig

pytest.importorskip("stable_baselines3")

DQN = {"learning_starts": 200, "batch_size": 16, "buffer_size": 2_000, "train_freq": 4, "target_update_interval": 50}


def graph_of(*sizes: int, functions: tuple[Function, ...]) -> FloatGraph:
    rng = np.random.default_rng(2)
    nodes, source = [], "observation"
    for i, function in enumerate(functions):
        weights, bias = rng.normal(size=(sizes[i + 1], sizes[i])), rng.normal(size=sizes[i + 1])
        made = {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}
        name, linear = f"layer{i}", f"layer{i}" if function == NONE else f"linear{i}"
        nodes.append(Linear(name=name, inputs=(source,), linear_name=linear, function=function, **made))
        source = name
    return FloatGraph("net", "observation", sizes[:1], source, HostPrefix.identity(sizes[:1]), tuple(nodes))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("actors") / "chain.so"
    compile_chain(path)
    return path


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("int16", 16)])
def test_a_copy_is_the_integer_semantics(library: Path, precision: str, bits: int) -> None:
    observations = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    for functions in ((RELU, RELU, NONE), (Function("Tanh"), Function("Tanh"), Function("Tanh"))):
        graph = graph_of(5, 24, 16, 3, functions=functions)
        copy = copy_of(graph, observations, precision)  # type: ignore[arg-type]
        network = quantize_graph(graph, observations, QuantizeConfig(method="nearest"), bits)
        np.testing.assert_array_equal(outputs_of(copy, library)(observations), predict(network, observations))


def test_an_actor_does_what_its_copy_says(library: Path) -> None:
    graph = graph_of(4, 2, functions=(NONE,))
    graph = graph.replaced(
        Linear(
            name="layer0",
            inputs=("observation",),
            linear_name="layer0",
            weights=np.array([[0, 0, -1.0, 0], [0, 0, 1.0, 0]], np.float32),
            bias=np.zeros(2, np.float32),
        )
    )
    actor = Actor(Environment("CartPole-v1"), 3, library)
    at_random = actor.collect(Round(60, None, 0.0))
    assert set(at_random.actions.tolist()) == {0, 1} and at_random.terminated.any()
    batch = actor.collect(Round(40, copy_of(graph, at_random.observations, "int8"), 0.0))
    leaning = np.abs(batch.observations[:, 2]) > 0.01
    np.testing.assert_array_equal(batch.actions[leaning], (batch.observations[leaning, 2] > 0).astype(int))
    going_on = ~(batch.terminated | batch.truncated)[:-1]
    np.testing.assert_array_equal(batch.next_observations[:-1][going_on], batch.observations[1:][going_on])
    actor.close()


def train(folder: Path, **options: object) -> tuple[list[tuple[int, float]], np.ndarray, int]:
    """The curve, the sum of the weights, and the experiences kept."""
    from policyport.train.learner import learn, torch_threads

    given = {"target_return": float("inf"), "network": (16, 16), "eval_episodes": 2, **options}
    with torch_threads(1):
        learner = learn(TrainConfig(**given), folder, "key")  # type: ignore[arg-type]
    weights = [parameter.detach().numpy().ravel() for parameter in learner.model.policy.parameters()]
    return learner.curve, np.concatenate(weights), learner.model.replay_buffer.size()  # type: ignore[attr-defined]


def test_a_training_by_actors_repeats(tmp_path: Path) -> None:
    options = {"algorithm": "DQN", "activation": "relu", "hyperparameters": DQN, "total_steps": 600, "actors": 2}
    both = [train(tmp_path / str(i), **options, push_steps=101, eval_every_steps=300) for i in range(2)]
    assert both[0][0] == both[1][0] and both[0][2] == both[1][2] == 600
    np.testing.assert_array_equal(both[0][1], both[1][1])


def test_continuous_actions_are_kept_as_the_learner_has_them(tmp_path: Path) -> None:
    options = {"learning_starts": 100, "batch_size": 16, "buffer_size": 1_000, "action_noise": 0.1}
    curve, _, kept = train(
        tmp_path / "run",
        algorithm="TD3",
        environment="Pendulum-v1",
        hyperparameters=options,
        total_steps=300,
        actors=1,
        push_steps=50,
        eval_every_steps=300,
    )
    assert kept == 300 and curve[-1][0] == 300 and curve[-1][1] < 0


@pytest.mark.parametrize(
    "options",
    [{"algorithm": "PPO"}, {"n_envs": 2}, {"normalize_observations": True}, {"qat_weights": 8}, {"push_steps": 1}],
)
def test_what_actors_do_not_go_with_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="actors do not go"):
        train(tmp_path / "run", **{"algorithm": "DQN", "actors": 2, **options})
