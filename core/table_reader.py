"""Reads a table that somebody wrote by hand: every key is asked for, and a key that nobody asked for is an error."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policyport.core.errors import ConfigError

_REQUIRED = object()


def read_toml(path: Path, what: str, cure: str | None = None) -> dict[str, Any]:
    """The tables of a TOML file.

    :param what: what the file is, for the error: ``board file``
    :param cure: what makes one where it cannot be read
    :raises ConfigError: it cannot be read, or does not parse
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{what} cannot be read", where=path, got=error, cure=cure) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} does not parse", where=path, got=error) from error


class TableReader:
    """Values of a nested table by dotted key, with errors that name the key.

    :param kind: what the keys belong to, in errors: ``board``
    :param table_name: what comes before the keys in errors
    """

    def __init__(self, table: Mapping[str, Any], path: Path, kind: str, table_name: str = "") -> None:
        self._table = table
        self._path = path
        self._kind = kind
        self._table_name = table_name
        self._known: list[str] = []

    def __call__(self, key: str, kind: type[Any], default: Any = _REQUIRED) -> Any:
        """The value of a key.

        :param default: what a key that is not there means; without it the key is required
        :raises ConfigError: it is missing or of another type
        """
        self._known.append(key)
        value: Any = self._table
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None and default is not _REQUIRED:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(
                f"{self._kind} key {self._table_name}{key} is missing or of a wrong type",
                where=self._path,
                expected=kind.__name__,
                got=f"{value!r}",
            )
        return value

    def refuse_others(self) -> None:
        """Refuse keys that nobody asked for: a misspelt one would otherwise do nothing, silently.

        :raises ConfigError: names the first, and the keys that there are
        """
        for key in _dotted_keys(self._table):
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                raise ConfigError(
                    f"unknown {self._kind} key {self._table_name}{key}",
                    where=self._path,
                    expected=", ".join(self._table_name + known for known in self._known),
                    cure=f"did you mean {self._table_name}{near[0]}?" if near else None,
                )


def _dotted_keys(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in _dotted_keys(value))
        else:
            yield key
