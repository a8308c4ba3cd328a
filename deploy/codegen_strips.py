"""Layers that run together as C: a function for each part and number of rows, called in the order of the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from policyport.core.semantics import Integers
from policyport.deploy.codegen_c import pool_struct
from policyport.deploy.codegen_memory import Memory
from policyport.deploy.codegen_text import Constants, LayerCode, comment_text
from policyport.deploy.layers import Layer, Pool, Strips, Tensor
from policyport.deploy.strips import Call, Move, Shape, part_of, row_bytes, row_elements, schedule, sums_bytes

Write = Callable[[int, Layer, Memory, Constants], LayerCode]
"""Constants and call of one layer by the kernels of a variant."""

LEAST_LOOPED = 3
"""Steps of one kind from which on they are a loop."""


@dataclass(frozen=True)
class _PartMemory(Memory):
    """The arena as one part sees it: each operand ``from`` elements into a place, its result ``to``."""

    number: int
    places: tuple[tuple[str, str], ...]
    """(name of an activation, C expression of its place)."""

    first_scratch: int

    def at(self, tensor: Tensor) -> str:
        return dict(self.places)[tensor.name]

    def halfwords(self, tensor: Tensor) -> bool:
        return False

    def scratch(self, number: int, index: int) -> str:
        return super().scratch(self.number, self.first_scratch + index)

    def scratch_bytes(self, number: int, index: int, signed: bool = True) -> str:
        return super().scratch_bytes(self.number, self.first_scratch + index, signed)

    def scratch_words(self, number: int, index: int) -> str:
        return super().scratch_words(self.number, self.first_scratch + index)


@dataclass
class _Shared(Constants):
    """Constants in which an array that is there already gets a second name instead."""

    given: Constants = field(default_factory=Constants)
    names: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    renamed: tuple[str, str] = ("", "")
    """What names begin with as they are given, and in the text."""

    def array(self, ctype: str, name: str, values: Integers | Sequence[int], comment: str, size: str = "") -> str:
        key = ctype, tuple(int(value) for value in np.asarray(values).reshape(-1))
        if key in self.names:
            return f"#define {name} {self.names[key]}\n"
        self.names[key] = name.replace(*self.renamed, 1)
        return self.given.array(ctype, name, values, comment, size)

    def table(self, values: Integers, bits: int, comment: str) -> tuple[str, str]:
        return self.given.table(values, bits, comment)


def strips_code(number: int, layer: Strips, memory: Memory, constants: Constants, write: Write) -> LayerCode:
    """Functions of the parts, and the steps that call them.

    :param number: the layer's, counted from 1
    :param write: what writes one layer
    """
    found = schedule(layer)
    shared = _Shared(given=constants)
    places = _places(number, layer, memory)
    functions: dict[tuple[int, Shape], str] = {}
    definitions = ""
    kernels: tuple[str, ...] = ("pp_kernels.h", "pp_moves.c")
    for call in (action for step in found.steps for action in step if isinstance(action, Call)):
        if (call.part, call.shape) in functions:
            continue
        letter = _letter(sum(part == call.part for part, _ in functions))
        functions[call.part, call.shape] = name = f"{number}_{call.part + 1}{letter}"
        code = _part(number, layer, call, name, memory, places, shared, write)
        definitions += code.definitions
        kernels += code.kernels
    actions = [[_action(action, layer, places, functions) for action in step] for step in found.steps]
    return LayerCode(definitions, _steps(actions), kernels)


def _letter(count: int) -> str:
    return chr(ord("a") + count) if count < 26 else f"x{count}"


def _places(number: int, layer: Strips, memory: Memory) -> dict[str, str]:
    """The C expressions of the inputs, of each buffer and of the output, by the tensors' names."""
    buffers = {
        part.output.name: memory.scratch(number, i) if part.output.bits == 16 else memory.scratch_bytes(number, i)
        for i, part in enumerate(layer.layers[:-1])
    }
    return {**{tensor.name: memory.at(tensor) for tensor in (*layer.inputs, layer.output)}, **buffers}


def _operands(part: Layer) -> dict[str, tuple[int, Tensor]]:
    """The tensors that a part reads, each once: C name of where it begins in its place, to its first use and itself."""
    first: dict[str, tuple[int, Tensor]] = {}
    for index, tensor in enumerate(part.inputs):
        first.setdefault(tensor.name, (index, tensor))
    return {f"from{i}" if len(first) > 1 else "from": found for i, found in enumerate(first.values(), start=1)}


def _part(
    number: int,
    layer: Strips,
    call: Call,
    name: str,
    memory: Memory,
    places: Mapping[str, str],
    constants: _Shared,
    write: Write,
) -> LayerCode:
    whole, sums = layer.layers[call.part], sums_bytes(layer)
    operands = _operands(whole)
    # A number of its own, so that its constants have names of their own.
    own = 10**8 + number * 10**5 + call.part * 100 + ord(name[-1]) % 100
    constants.renamed = f"pp_l{own}", f"pp_l{name}"
    if _adds(layer, call.part):
        code = _mean(own, whole, call, memory.scratch_words(number, len(layer.layers) - 1), places, constants)
        rows = f"{call.shape.rows} of {whole.input.name} added to the sums of {whole.output.name}"
    else:
        part = part_of(whole, call.shape)
        read = ((tensor.name, f"{places[tensor.name]} + {begin}") for begin, (_, tensor) in operands.items())
        known = ((part.output.name, f"{places[part.output.name]} + to"), *read)
        first_scratch = len(layer.layers) - 1 + (sums > 0)
        code = write(own, part, _PartMemory(memory.plan, memory.storages, number, known, first_scratch), constants)
        rows = f"{call.shape.rows} of {part.output.name} from {call.shape.source_rows}"
    comment = f"/* {type(whole).__name__}, rows: {comment_text(rows)} */\n"
    numbers = ", ".join(f"uint32_t {begin}" for begin in (*operands, "row" if _adds(layer, call.part) else "to"))
    text = f"{comment}{code.definitions}\nstatic void pp_layer_{own}({numbers})\n{{\n{code.call}}}\n\n"
    text = text.replace(*constants.renamed).replace(f"pp_layer_{own}", f"pp_layer_{name}")
    return replace(code, definitions=text)


def _adds(layer: Strips, part: int) -> bool:
    """Whether a part adds rows to sums."""
    return part == len(layer.layers) - 1 and sums_bytes(layer) > 0


def _mean(
    number: int, layer: Layer, call: Call, sums: str, places: Mapping[str, str], constants: Constants
) -> LayerCode:
    assert isinstance(layer, Pool)
    operands = (
        f"{places[layer.input.name]} + from, (int32_t *)({sums}), {places[layer.output.name]}, row, {call.shape.rows}"
    )
    text = f"    pp_mean_rows_s{layer.output.bits}(&pp_l{number}, {operands});\n"
    return LayerCode(pool_struct(number, layer, constants), text, ("pp_finish.h", "pp_intrinsics.h", "pp_mean.c"))


@dataclass(frozen=True)
class _Action:
    """A call as text around its numbers."""

    text: str
    """With ``{0}``, ``{1}`` and so on for them."""

    numbers: tuple[int, ...]


def _action(
    action: Call | Move, layer: Strips, places: Mapping[str, str], functions: Mapping[tuple[int, Shape], str]
) -> _Action:
    part = layer.layers[action.part]
    if isinstance(action, Move):
        place, size = places[part.output.name], row_bytes(part.output)
        text = f"pp_move_down({place}, {place} + {{0}}, {action.rows * size});"
        return _Action(text, (action.row * row_elements(part.output),))
    read = [action.source_rows[index] * row_elements(tensor) for index, tensor in _operands(part).values()]
    step = 1 if _adds(layer, action.part) else row_elements(part.output)
    numbers = (*read, action.target_row * step)
    given = ", ".join(f"{{{i}}}" for i in range(len(numbers)))
    return _Action(f"pp_layer_{functions[action.part, action.shape]}({given});", numbers)


def _steps(steps: Sequence[Sequence[_Action]]) -> str:
    """The calls, runs of steps that differ by equal differences of their numbers as loops."""
    text, at = "", 0
    while at < len(steps):
        count = _alike(steps[at:])
        if count < LEAST_LOOPED:
            text += "".join(f"    {action.text.format(*action.numbers)}\n" for action in steps[at])
            at += 1
            continue
        text += f"    for (uint32_t step = 0; step < {count}; step++) {{\n"
        for action, following in zip(steps[at], steps[at + 1], strict=True):
            pairs = zip(action.numbers, following.numbers, strict=True)
            numbers = [f"{a}" if a == b else f"{a} + {b - a} * step" for a, b in pairs]
            text += f"        {action.text.format(*numbers)}\n"
        text += "    }\n"
        at += count
    return text


def _alike(steps: Sequence[Sequence[_Action]]) -> int:
    """How many steps from the first on differ from the one before by the same never falling numbers."""
    count = 1
    while count < len(steps) and _difference(steps[count - 1], steps[count]) is not None:
        if _difference(steps[count - 1], steps[count]) != _difference(steps[0], steps[1]):
            break
        count += 1
    return count


def _difference(before: Sequence[_Action], after: Sequence[_Action]) -> list[int] | None:
    if [action.text for action in before] != [action.text for action in after]:
        return None
    numbers = [b - a for x, y in zip(before, after, strict=True) for a, b in zip(x.numbers, y.numbers, strict=True)]
    return numbers if min(numbers, default=0) >= 0 else None
