"""``python -m policyport.status``; what it does is in :mod:`policyport.pipeline.status`."""

from policyport.pipeline.cli import stage_main

if __name__ == "__main__":
    stage_main("status")
