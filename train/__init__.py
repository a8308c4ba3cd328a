"""Train a policy with Stable-Baselines3 and export its deterministic actor to float32 ONNX."""

from policyport.train.config import TrainConfig
from policyport.train.stage import train

__all__ = ["TrainConfig", "train"]
