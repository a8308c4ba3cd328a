"""``python -m policyport.hil``."""

from policyport.pipeline.cli import stage_main

stage_main("hil")
