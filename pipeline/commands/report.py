"""``python -m policyport.report``; the stage itself is :mod:`policyport.hil.report`."""

from policyport.pipeline.cli import stage_main

if __name__ == "__main__":
    stage_main("report")
