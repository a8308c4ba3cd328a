"""``python -m policyport.doctor``; what it does is in :mod:`policyport.pipeline.doctor`."""

from policyport.pipeline.cli import stage_main

if __name__ == "__main__":
    stage_main("doctor")
