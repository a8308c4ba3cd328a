"""Pickles of other people, read as data.

A pickle is a program that may call any function. Here it may call none but numpy's constructors of arrays:
every other class or function that it names becomes an :class:`Inert` object, which remembers its name and what
it was given. So nothing of the file runs, and packages that it was saved with need not be there: spaces of ``gym``
and of ``gymnasium`` read alike.
"""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import numpy as np
from policyport.core.errors import ArtifactError


class Inert:
    """What a class or a function of a pickle became: its name, its arguments, its attributes."""

    name = ""
    """``module.attribute`` as the pickle has it; a property of the class."""

    arguments: tuple[Any, ...]
    attributes: dict[str, Any]

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        """Remember what it is called with."""
        made = super().__new__(cls)
        made.arguments, made.attributes = arguments, {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything."""

    def __call__(self, *arguments: Any, **_: Any) -> Inert:
        """What a function that a function of the pickle returned would return."""
        return type(self)(*arguments)

    def __repr__(self) -> str:
        """What it was, and the texts that it was given: the name, where it is a class of the file's own."""
        texts = [argument for argument in self.arguments if isinstance(argument, str)]
        return f"{type(self).name}({', '.join(texts)})"

    def __setstate__(self, state: Any) -> None:
        """Take the attributes, of the object's dictionary and of its slots."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.attributes.update({str(key): value for key, value in part.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take an item, where it was a dictionary of its own kind."""
        self.attributes[str(key)] = value

    def append(self, value: Any) -> None:
        """Take an element, where it was a list of its own kind."""
        self.attributes.setdefault("elements", []).append(value)


def inert_class(name: str) -> type[Inert]:
    """A class of inert objects that bears a name."""
    return type(name.rpartition(".")[2], (Inert,), {"name": name})


_ARRAYS = {
    f"{package}.{name}"
    for package in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {"numpy.ndarray", "numpy.dtype", "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}

_BUILTINS: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.tuple": tuple,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.slice": slice,
    "builtins.object": object,
    "builtins.bytearray": bytearray,
    "_codecs.encode": lambda text, _: text.encode("latin1"),
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """numpy's constructors and plain containers as they are, all else inert."""
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in _ARRAYS:
            return super().find_class(module.replace("numpy._core", _CORE).replace("numpy.core", _CORE), name)
        if full in ("copyreg._reconstructor", "copy_reg._reconstructor"):
            return _reconstruct
        return _BUILTINS[full] if full in _BUILTINS else inert_class(full)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse: what lies elsewhere is not looked for."""
        raise pickle.UnpicklingError(f"a reference to something outside of the pickle: {pid}")


_CORE = "numpy._core" if int(np.__version__.partition(".")[0]) >= 2 else "numpy.core"


def _reconstruct(cls: Any, base: Any, state: Any) -> Any:
    return cls.__new__(cls) if isinstance(cls, type) and issubclass(cls, Inert) else base(state)


def read_pickle(data: bytes, where: object) -> Any:
    """A pickle as plain containers, numpy arrays and :class:`Inert` objects.

    :param where: the file and the part of it, for errors
    :raises ArtifactError: it does not read as a pickle
    """
    try:
        return _InertUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a torn pickle raises nearly anything
        raise ArtifactError(
            "this does not read as a pickle", where=where, got=f"{type(error).__name__}: {error}"
        ) from error
