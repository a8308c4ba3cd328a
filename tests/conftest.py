"""What every property test shares: the examples of the default run are the same each time, at any speed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("repeat")
