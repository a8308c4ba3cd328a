"""``python -m policyport``: the whole command line."""

from policyport.pipeline.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
