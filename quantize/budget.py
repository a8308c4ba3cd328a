"""How much of flash, RAM and time a network may take."""

from __future__ import annotations

from dataclasses import dataclass

from policyport.core.amounts import parse_amount

WHERE = "[quantize]"
"""Of the keys, in errors."""


@dataclass(frozen=True)
class Budget:
    """How much a network may take; None where that is left open."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    instructions: int | None = None

    @classmethod
    def parse(cls, flash: str, ram: str, instructions: str) -> Budget:
        """From text as a user types it: ``16384``, ``16K`` (bytes), ``7K`` (7,000 instructions); empty for none.

        :raises ConfigError: no such number
        """
        return cls(
            parse_amount("flash_budget", flash, 1024, WHERE),
            parse_amount("ram_budget", ram, 1024, WHERE),
            parse_amount("instructions_budget", instructions, 1000, WHERE),
        )

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return self == Budget()
