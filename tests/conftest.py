"""What every test shares: examples of property tests are the same each time, at any speed; no test changes the next."""

from __future__ import annotations

import logging

import pytest
from hypothesis import settings

settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("repeat")


@pytest.fixture(autouse=True)
def _what_is_told() -> None:
    """The command line sets what loggers tell, for the whole process: each test begins with what Python begins with."""
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("policyport", "policyport.progress"):
        logging.getLogger(name).setLevel(logging.NOTSET)
