"""C text: constant arrays, comments, and the pool that gives equal tables one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.layers import Tensor

LINE_LENGTH = 112

BYTES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4}
"""Size of the element types that generated arrays have."""


@dataclass(frozen=True)
class LayerCode:
    """What one layer adds to the generated file."""

    definitions: str
    """Its constants, in C."""

    call: str
    """The statements that run it, indented by four."""

    kernels: tuple[str, ...]
    """Names of the kernel files it needs."""


@dataclass
class Constants:
    """The constant arrays of a generated file, counted; equal tables are written once."""

    flash_bytes: int = 0
    """Bytes of all arrays so far."""

    _names: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def array(self, ctype: str, name: str, values: Integers | Sequence[int], comment: str, size: str = "") -> str:
        """A named constant array.

        :param size: its size as C text that says where it comes from, ``64 * 4`` say; default the number
        """
        flat = np.asarray(values).reshape(-1).tolist()
        self.flash_bytes += len(flat) * BYTES[ctype]
        digits = 2 * BYTES[ctype]
        show: Callable[[int], str] = f"0x{{:0{digits}X}}".format if ctype.startswith("u") else str
        rows = "\n".join(f"    {line}" for line in _wrapped(list(map(show, flat))))
        return f"/* {comment} */\nstatic const {ctype} {name}[{size or len(flat)}] = {{\n{rows}\n}};\n"

    def table(self, values: Integers, bits: int, comment: str) -> tuple[str, str]:
        """A pointwise table: (definition, name); the definition is empty where an equal one is there already."""
        ctype = f"int{bits}_t"
        key = (ctype, np.asarray(values, "<i4").tobytes())
        if key in self._names:
            return "", self._names[key]
        name = self._names[key] = f"pp_table_{len(self._names) + 1}"
        return self.array(ctype, name, values, comment), name


def _wrapped(words: Sequence[str]) -> list[str]:
    width = max(map(len, words))
    per_line = max(1, (LINE_LENGTH - 4) // (width + 2))
    per_line = 2 ** (per_line.bit_length() - 1)
    if min(map(len, words)) < width:
        words = [word.rjust(width) for word in words]
    return [", ".join(words[i : i + per_line]) + "," for i in range(0, len(words), per_line)]


def initializer(ctype: str, name: str, fields: Mapping[str, object]) -> str:
    """A constant struct, field by field; a field that is a mapping is a struct of its own."""
    lines = "".join(f"    .{key} = {_value(value)},\n" for key, value in fields.items())
    return f"static const {ctype} {name} = {{\n{lines}}};\n"


def struct_array(ctype: str, name: str, rows: Sequence[Mapping[str, object]]) -> str:
    """A constant array of structs, each on a line."""
    lines = "".join(f"    {_value(row)},\n" for row in rows)
    return f"static const {ctype} {name}[{len(rows)}] = {{\n{lines}}};\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{key} = {_value(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def describe(tensor: Tensor) -> str:
    """An activation in a comment: ``int8[64] s=0.0221 zp=-128``, an image ``int8[8x8x3] ...``."""
    shape = "x".join(map(str, tensor.shape))
    return f"int{tensor.bits}[{shape}] s={tensor.scale:.6g} zp={tensor.zero_point}"


def comment_text(text: str) -> str:
    """Text that may come from a model, made safe for a C comment."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *")
