"""``python -m policyport.train``."""

from policyport.pipeline.cli import stage_main

stage_main("train")
