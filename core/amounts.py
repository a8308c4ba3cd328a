"""Amounts as a user types them."""

from __future__ import annotations

import re

from policyport.core.errors import ConfigError


def parse_amount(key: str, text: str, kilo: int, where: str) -> int | None:
    """A whole number above zero, ``16384`` or ``16K``; None for an empty text.

    :param kilo: what K stands for; M is its square
    :raises ConfigError: no such number
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KM]?)", text.strip(), re.IGNORECASE)
    count = int(float(found[1]) * kilo ** ("", "K", "M").index(found[2].upper())) if found else 0
    if count <= 0:
        raise ConfigError(f"{key} is not a number above zero", where=where, expected="such as 16K", got=text)
    return count
