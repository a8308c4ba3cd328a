"""Self-contained HTML pages: one file, no network, no script; light, dark and print by the reader's own setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class Figure:
    """A drawing, as of :mod:`policyport.core.drawing`, and what it shows."""

    svg: str
    caption: str


def render(template: Path, values: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """A page as text; the template includes ``style.css.j2`` for the look that all pages have.

    :param template: a jinja2 file; a value that it names and is not given is an error
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template.name).render(values)
