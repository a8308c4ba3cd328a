"""Figures as text."""

from __future__ import annotations

from collections.abc import Callable

from policyport.hil.statistics import Summary

NOT_RECORDED = "not recorded"


def percent(share: float) -> str:
    """``99.8 %``; 100 only where it is exactly all."""
    text = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    return f"{text} %" if share == 1 or text != "100" else "99.99 %"


def number(value: float) -> str:
    """Thousands apart by commas; as many decimals as the size deserves."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def size(count_bytes: float) -> str:
    """Bytes, exact."""
    return f"{int(count_bytes):,} B"


def recorded(count_bytes: int) -> str:
    """Bytes; 0 is what an artifact that does not say has."""
    return size(count_bytes) if count_bytes else NOT_RECORDED


def joules(energy: float) -> str:
    """``1.234 mJ``: four digits, of the unit that suits the size."""
    for unit, size_of_unit in (("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6)):
        if abs(energy) >= size_of_unit:
            return f"{energy / size_of_unit:.4g} {unit}"
    return f"{energy / 1e-9:.4g} nJ"


def spread(summary: Summary) -> str:
    """``497.3 ± 4.1``: mean and standard deviation over the episodes."""
    return f"{summary.mean:.1f} ± {summary.std:.1f}"


def several(count: int, noun: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


FILTERS: dict[str, Callable[..., str]] = {"percent": percent, "number": number, "size": size}
"""For the template."""
