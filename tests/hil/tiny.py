"""A tiny policy through quantize, deploy and flash: what most tests of a board need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from policyport.core.artifact import Artifact
from policyport.core.task import Environment, Task
from policyport.deploy import DeployConfig, FlashConfig, deploy, flash
from policyport.hil import HilConfig, hil
from policyport.quantize import QuantizeConfig, quantize

HIDDEN = 8
SHORT = HilConfig(episodes=2, parity_observations=5, latency_observations=12)


def write_model(folder: Path, seed: int) -> Path:
    """A float network 4-8-2 with tanh that balances CartPole, its task, and observations; ONNX's path."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.2, (HIDDEN, 4)).astype(np.float32)
    first[0] = [0.0, 0.1, 1.0, 0.3]
    second = np.float32([[-1], [1]]) * rng.choice(np.float32([-0.02, 0.02]), HIDDEN)
    second[:, 0] = [-1.0, 1.0]
    weights = {"w1": first, "b1": np.zeros(HIDDEN, np.float32), "w2": second, "b2": np.zeros(2, np.float32)}
    nodes = [
        helper.make_node("Gemm", ["observation", "w1", "b1"], ["hidden"], transB=1),
        helper.make_node("Tanh", ["hidden"], ["activated"]),
        helper.make_node("Gemm", ["activated", "w2", "b2"], ["output"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "policy.onnx"
    )
    limits = np.array([1.5, 1.5, 0.2, 1.5], np.float32)
    observations = rng.uniform(-limits, limits, (400, 4)).astype(np.float32)
    np.savez(folder / "observations.npz", observations=observations[:300], held_out=observations[300:])
    task = Task(
        kind="policy",
        name="tiny",
        environment=Environment("CartPole-v1", {"max_episode_steps": 60}),
        observation_size=4,
        observation_low=(),
        observation_high=(),
        output_size=2,
        action_rule="argmax",
    )
    task.write(folder / "task.json")
    return folder / "policy.onnx"


class Built:
    """A deploy artifact and the flash artifact of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.quantized = quantize(write_model(folder / "model", seed), QuantizeConfig(), folder / "quantize")
        self.image = deploy(self.quantized.path, DeployConfig(), folder / "deploy")
        self.flashed = flash(self.image.path, FlashConfig(), folder / "flash")

    def run(self, out: Path, config: HilConfig = SHORT, board: Path | None = None) -> Artifact:
        return hil(self.image.path, board or self.flashed.path, config, out)
