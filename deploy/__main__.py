"""``python -m policyport.deploy``."""

from policyport.pipeline.cli import stage_main

stage_main("deploy")
