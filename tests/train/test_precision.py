"""Mixed precision: what runs in half width, what the loss scale does, and that training resumes and repeats."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
import torch
from policyport.core.errors import ConfigError
from policyport.train.config import TrainConfig
from policyport.train.learner import learn
from policyport.train.precision import FIRST_SCALE, GROWTH_STEPS, LossScale, training_in
from stable_baselines3 import PPO, SAC

DQN = {"learning_starts": 64, "batch_size": 32, "train_freq": 16, "buffer_size": 2000}


def weights(model: object) -> np.ndarray:
    """All of a policy's, flat."""
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().numpy()  # type: ignore[attr-defined]


def config_of(precision: str, steps: int) -> TrainConfig:
    return TrainConfig(
        algorithm="DQN",
        precision=precision,  # type: ignore[arg-type]
        network=(16, 16),
        total_steps=steps,
        eval_every_steps=200,
        eval_episodes=1,
        target_return=1e9,
        hyperparameters=DQN,
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_products_of_an_update_are_narrow_and_weights_are_not(precision: str) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu")
    seen: list[torch.dtype] = []
    model.policy.action_net.register_forward_hook(lambda _module, _given, made: seen.append(made.dtype))
    with training_in(model, precision):  # type: ignore[arg-type]
        model.learn(32)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    # 32 actions are chosen in float32, then one batch is learned from.
    assert seen == [torch.float32] * 32 + [kind]
    assert all(p.dtype == torch.float32 for p in model.policy.parameters())
    assert "train" not in vars(model)


def gradients_of(algorithm: type, precision: str, first_scale: float) -> np.ndarray:
    """Those that the first step of each optimizer sees, flat, the entropy coefficient's last."""
    named = {"n_steps": 32, "batch_size": 32, "n_epochs": 1} if algorithm is PPO else {"learning_starts": 16}
    model = algorithm("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs={"net_arch": [16, 16]}, **named)
    seen: list[torch.Tensor] = []

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.extend(
            p.grad.flatten().clone() for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        )

    parts = [model.policy] if algorithm is PPO else [model.actor, model.critic]
    with training_in(model, precision) as scale:  # type: ignore[arg-type]
        if scale is not None:
            scale.value = first_scale
        for optimizer in [*(part.optimizer for part in parts), getattr(model, "ent_coef_optimizer", None)]:
            if optimizer is not None:
                optimizer.register_step_pre_hook(keep)
        model.learn(32 if algorithm is PPO else 17)
    return torch.cat(seen).numpy()


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_gradients_are_those_of_float32_but_for_half_precision(algorithm: type) -> None:
    plain = gradients_of(algorithm, "float32", 1.0)
    length = np.linalg.norm(plain)
    for scale in (2.0**3, 2.0**6):
        narrow = gradients_of(algorithm, "fp16", scale)
        assert 0 < np.linalg.norm(narrow - plain) < 0.02 * length


def test_an_overflow_moves_nothing_and_halves_the_scale() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], 0.1)
    scale = LossScale()
    optimizer.register_step_pre_hook(scale.check)
    parameter.grad = torch.ones(3)
    optimizer.step()
    moved = parameter.detach().clone()
    parameter.grad = torch.tensor([1.0, float("inf"), 1.0])
    optimizer.step()
    assert torch.equal(parameter, moved) and scale.value == FIRST_SCALE / 2 and scale.skipped == 1


def test_the_scale_doubles_after_enough_clean_steps() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], 0.0)
    scale = LossScale()
    optimizer.register_step_pre_hook(scale.check)
    for _ in range(GROWTH_STEPS):
        parameter.grad = torch.ones(1)
        optimizer.step()
    assert scale.value == 2 * FIRST_SCALE and scale.skipped == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_repeats_and_an_interrupted_one_goes_on(precision: str, tmp_path: Path) -> None:
    config = config_of(precision, 400)
    whole = learn(config, tmp_path / "whole", "key")
    again = learn(config, tmp_path / "again", "key")
    assert np.array_equal(weights(whole.model), weights(again.model))
    plain = learn(config_of("float32", 400), tmp_path / "plain", "key")
    assert not np.array_equal(weights(whole.model), weights(plain.model))
    halted = learn(config_of(precision, 200), tmp_path / "halted", "key")
    resumed = learn(config, tmp_path / "halted", "key")
    assert halted.model.num_timesteps < resumed.model.num_timesteps >= 400
    assert np.isfinite(weights(resumed.model)).all() and len(resumed.curve) == len(whole.curve)


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA"):
        learn(TrainConfig(device="cuda"), tmp_path / "partial", "key")
