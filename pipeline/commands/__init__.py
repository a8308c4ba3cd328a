"""policyport: put a trained network on an ARM board and prove that it still works there."""

from importlib.metadata import version

__version__ = version("policyport")
