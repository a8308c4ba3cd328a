"""A zip of Stable-Baselines3 as it lies there: its texts, its pickles as inert data, its weights."""

from __future__ import annotations

import ast
import base64
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyport.core.errors import ArtifactError
from policyport.train.inert import Inert, read_pickle


class ClassName(str):
    """``module.attribute`` of a class that a zip names."""

    __slots__ = ()


class SavedAgent:
    """A zip, opened.

    :param pickle: whether pickled parts may be read, as inert data; else the texts beside them have to do
    :raises ArtifactError: it does not read as an agent
    """

    def __init__(self, path: Path, *, pickle: bool) -> None:
        self.path = path
        self._pickle = pickle
        self.unpickled: list[str] = []
        """Names of the parts that were read out of pickles."""

        try:
            with zipfile.ZipFile(path) as archive:
                self._data: dict[str, Any] = json.loads(archive.read("data"))
                self._weights = archive.read("policy.pth")
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ArtifactError(
                "this does not read as an agent of Stable-Baselines3",
                where=path,
                expected="a zip with data and policy.pth in it",
                got=f"{type(error).__name__}: {error}",
            ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def value(self, key: str, default: Any = None) -> Any:
        """A part of the agent: plain JSON as it is, else out of its pickle or, without pickles, a table of texts."""
        value = self._data.get(key, default)
        if not isinstance(value, Mapping) or ":serialized:" not in value:
            return value
        if not self._pickle:
            return value
        if key not in self.unpickled:
            self.unpickled.append(key)
        return read_pickle(base64.b64decode(value[":serialized:"]), f"{self.path}, {key}")

    def table(self, key: str) -> dict[str, Any]:
        """A part that is a dictionary; classes in it are :class:`ClassName`."""
        value = self.value(key, {})
        if not isinstance(value, Mapping):
            raise ArtifactError("this part of the agent is no dictionary", where=f"{self.path}, {key}", got=value)
        plain = ":serialized:" not in value
        return {name: _named(item) if plain else _parsed(str(item)) for name, item in value.items() if name[:1] != ":"}

    @property
    def policy_class(self) -> ClassName:
        """The class of its policy, by the texts that stand beside the pickle."""
        texts = self._data.get("policy_class")
        if not isinstance(texts, Mapping) or "__module__" not in texts:
            raise ArtifactError(
                "the zip does not say what its policy is", where=f"{self.path}, policy_class", got=texts
            )
        name = re.match(r"<function (\w+)\.", str(texts.get("__init__", "")))
        return ClassName(f"{texts['__module__']}.{name[1] if name else '?'}")

    def weights(self) -> dict[str, Any]:
        """The parameters of its policy, name to tensor.

        :raises ArtifactError: they do not read as weights alone
        """
        import io
        import pickle

        import torch

        try:
            found = torch.load(io.BytesIO(self._weights), map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
            raise ArtifactError(
                "policy.pth does not read as weights alone", where=self.path, got=str(error).splitlines()[0]
            ) from error
        return dict(found)


def _named(value: Any) -> Any:
    return ClassName(value.name) if isinstance(value, type) and issubclass(value, Inert) else value


def _parsed(text: str) -> Any:
    """What a text says that Python made of a value."""
    of_class = re.fullmatch(r"<class '([\w.]+)'>", text)
    if of_class:
        return ClassName(of_class[1])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
