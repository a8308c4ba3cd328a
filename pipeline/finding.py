"""One thing that a doctor looked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "optional", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    what: str
    state: State
    """``ok``; ``optional``: not there, and the main job runs without; ``missing``: the main job needs it."""

    found: str
    """What is there, with its version and place, or what is not."""

    cures: tuple[str, ...] = ()
    """Commands that make it ok; one of them is enough."""

    code: int = 2
    """Exit code where it is missing: 2 for software, 3 for a board."""

    def as_table(self) -> dict[str, Any]:
        """JSON form."""
        return dataclasses.asdict(self)
