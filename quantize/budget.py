"""How much of flash, RAM and time a network may take."""

from __future__ import annotations

import re
from dataclasses import dataclass

from policyport.core.errors import ConfigError


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
            _count("flash_budget", flash, 1024),
            _count("ram_budget", ram, 1024),
            _count("instructions_budget", instructions, 1000),
        )

    @property
    def is_open(self) -> bool:
        """Whether nothing is limited."""
        return self == Budget()


def _count(key: str, text: str, kilo: int) -> int | None:
    """A whole number above zero.

    :param kilo: what K stands for; M is its square
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KM]?)", text.strip(), re.IGNORECASE)
    count = int(float(found[1]) * kilo ** ("", "K", "M").index(found[2].upper())) if found else 0
    if count <= 0:
        raise ConfigError(f"{key} is not a number above zero", where="[quantize]", expected="such as 16K", got=text)
    return count
