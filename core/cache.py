"""Where what is made once and used again is kept, outside of any project."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """POLICYPORT_CACHE, or ``policyport`` under the user's cache folder; not made here."""
    named = os.environ.get("POLICYPORT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "policyport"
