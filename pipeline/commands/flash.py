"""``python -m policyport.flash``; the stage itself is :mod:`policyport.deploy.flash`."""

from policyport.pipeline.cli import stage_main

if __name__ == "__main__":
    stage_main("flash")
