"""Train a policy with Stable-Baselines3, or take one from a zip, and export its deterministic actor to float32 ONNX."""

from policyport.train.config import ImportConfig, TrainConfig
from policyport.train.stage import import_agent, train

__all__ = ["ImportConfig", "TrainConfig", "import_agent", "train"]
