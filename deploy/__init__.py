"""Compile a quantized network to integer C, build the firmware of a board, flash it."""

from policyport.deploy.config import DeployConfig, FlashConfig
from policyport.deploy.flash import flash
from policyport.deploy.stage import deploy

__all__ = ["DeployConfig", "FlashConfig", "deploy", "flash"]
