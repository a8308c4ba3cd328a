"""Options: one frozen dataclass per stage gives its recipe keys, its command-line flags and their help.

A field is declared once, with :func:`option`; recipe tables and command lines are read into the same
dataclass by the same checks, so an error names the key and what it may hold whichever way it came.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from policyport.core.errors import ConfigError

Config = TypeVar("Config")


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    low: float | None = None,
    high: float | None = None,
    alias: str = "",
) -> Any:
    """A dataclass field with its help text and allowed values.

    :param help: one line, without a final full stop, that names the unit
    :param choices: the values allowed, all of them
    :param low: smallest value allowed
    :param high: largest value allowed
    :param alias: a second name, of the flag and of the recipe's key
    """
    metadata = {"help": help, "choices": choices, "low": low, "high": high, "alias": alias}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def from_table(cls: type[Config], table: Mapping[str, Any], where: str) -> Config:
    """A config dataclass from a recipe table.

    :param where: name of the table in errors, e.g. ``[train] of recipes/cartpole.toml``
    :raises ConfigError: unknown key (the nearest is proposed), wrong type, value not allowed
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    names = {alias: name for name, field in fields.items() if (alias := field.metadata.get("alias"))}
    values: dict[str, Any] = {}
    for given, value in table.items():
        key = names.get(given, given)
        if key in values:
            raise ConfigError(f"{given} stands there under both its names", where=where, expected=f"{key} alone")
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            raise ConfigError(
                f"unknown key {key!r}",
                where=where,
                expected=", ".join(fields),
                cure=f"did you mean {near[0]!r}?" if near else None,
            )
        values[key] = _checked(cls, fields[key], value, where)
    return cls(**values)


def to_table(config: Any) -> dict[str, Any]:
    """A config dataclass as a plain table: JSON types, paths as text."""
    return {
        key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
    }


def add_arguments(parser: argparse.ArgumentParser, cls: type[Any]) -> None:
    """One flag per field, ``--like-this``, two where it has an alias; every help text ends with the default."""
    for field in dataclasses.fields(cls):
        meta = field.metadata
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        shown = "none" if default in ("", None, (), {}) else shown
        allowed = f" ({', '.join(str(c) for c in meta['choices'])})" if meta["choices"] else ""
        kind = _plain_type(cls, field)
        flags = ["--" + name.replace("_", "-") for name in (field.name, meta["alias"]) if name]
        text = f"{meta['help']}{allowed} [default: {shown}]".replace("%", "%%")
        if kind is bool:
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        elif kind is tuple:
            parser.add_argument(*flags, nargs="*", default=argparse.SUPPRESS, help=text)
        elif kind is not dict:
            parser.add_argument(*flags, default=argparse.SUPPRESS, help=text, metavar=field.name.upper())


def from_arguments(cls: type[Config], arguments: argparse.Namespace, base: Mapping[str, Any] | None = None) -> Config:
    """A config dataclass from parsed flags, over the keys of ``base``.

    :raises ConfigError: as :func:`from_table`
    """
    table = dict(base or {})
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if hasattr(arguments, field.name):
            table.pop(field.metadata["alias"], None)
            table[field.name] = _parsed(cls, field, getattr(arguments, field.name))
    return from_table(cls, table, "command line")


def _plain_type(cls: type[Any], field: dataclasses.Field[Any]) -> type[Any]:
    """The field's type without ``| None`` and without parameters."""
    hint = typing.get_type_hints(cls)[field.name]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return type(typing.get_args(hint)[0])
    plain: type[Any] = origin or hint
    return plain


def _item_type(cls: type[Any], field: dataclasses.Field[Any]) -> type[Any]:
    """The element type of a ``tuple[X, ...]`` field."""
    hint = typing.get_type_hints(cls)[field.name]
    item: type[Any] = typing.get_args(hint)[0]
    return item


def _parsed(cls: type[Any], field: dataclasses.Field[Any], value: Any) -> Any:
    """A flag's text as the field's type; text that does not parse is left for :func:`_checked` to refuse."""
    kind = _plain_type(cls, field)
    if kind is tuple:
        item = _item_type(cls, field)
        return [_number(text, item) for text in value]
    return _number(value, kind) if isinstance(value, str) else value


def _number(text: str, kind: type[Any]) -> Any:
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def _checked(cls: type[Any], field: dataclasses.Field[Any], value: Any, where: str) -> Any:
    kind = _plain_type(cls, field)
    if kind is tuple and isinstance(value, (list, tuple)):
        item = _item_type(cls, field)
        return tuple(_checked_scalar(field, item, element, where) for element in value)
    return _checked_scalar(field, kind, value, where)


def _checked_scalar(field: dataclasses.Field[Any], kind: type[Any], value: Any, where: str) -> Any:
    meta = field.metadata
    if value is None and field.default is None:
        return None
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{field.name} is of a wrong type", where=where, expected=kind.__name__, got=f"{value!r}")
    if meta["choices"] and value not in meta["choices"]:
        raise ConfigError(
            f"{field.name} does not take this value",
            where=where,
            expected=", ".join(str(c) for c in meta["choices"]),
            got=f"{value!r}",
        )
    low, high = meta["low"], meta["high"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):  # NaN is in no range
        limits = f"from {'any' if low is None else low} to {'any' if high is None else high}"
        raise ConfigError(f"{field.name} is out of range", where=where, expected=limits, got=value)
    return value
