"""What every test shares: examples of property tests are the same each time, at any speed; no test changes the next."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("repeat")


@pytest.fixture(autouse=True)
def _what_is_told() -> Iterator[None]:
    """The command line sets what its loggers tell, for the whole process."""
    loggers = [logging.getLogger(name) for name in ("", "policyport", "policyport.progress")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
