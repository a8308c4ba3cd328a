"""``python -m policyport.quantize``."""

from policyport.pipeline.cli import stage_main

stage_main("quantize")
