"""Estimated processor cycles of a profiled region: its executed instructions times what the core takes for each.

An estimate is a count of cycles at zero wait states by a table; it is not a measurement, and never a time.
See ``docs/cycle-model.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from policyport.hil.cycle_rules import Rules
from policyport.hil.execution_profile import Code
from policyport.hil.profiler import Trace
from policyport.hil.thumb import Instruction, Kind, decode

MEMORY = (Kind.LOAD, Kind.STORE, Kind.LOAD_PAIR, Kind.STORE_PAIR, Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE)
MULTIPLIES = (Kind.MULTIPLY, Kind.MULTIPLY_ACCUMULATE, Kind.LONG_MULTIPLY, Kind.LONG_MULTIPLY_ACCUMULATE)
ALONE = (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE, Kind.DIVIDE, Kind.FLOAT_DIVIDE, Kind.SYSTEM)
"""Kinds that never begin together with another instruction."""


def estimate_cycles(trace: Trace, code: Code, rules: Rules) -> dict[int, int]:
    """Cycles by address.

    :raises ToolError: no disassembler, or an instruction that the model does not know
    """
    decoded = {address: decode(code.read(address, code.size(address)), address) for address in trace.counts}
    cycles = _dual_issue(trace, decoded, rules) if rules.dual_issue else _single_issue(trace, decoded, rules)
    for (source, _), count in trace.region.jumps.items():
        cycles[source] += count * branch_cycles(decoded[source], rules)
    return cycles


def instruction_cycles(instruction: Instruction, before: Instruction | None, rules: Rules) -> int:
    """Cycles of one instruction that is issued alone, a branch as if it were not taken.

    :param before: the instruction executed before it; None where nobody knows
    """
    kind = instruction.kind
    cycles = rules.cycles.get(kind, 1) + instruction.registers
    if kind is Kind.STORE and instruction.register_offset:
        cycles = rules.indexed_store
    if before is None:
        return cycles
    is_address = not before.writes.isdisjoint(instruction.address_registers)
    if rules.pipelined and before.is_load and kind in (Kind.LOAD, Kind.STORE) and not is_address:
        return max(1, cycles - 1)
    computes = before.kind is Kind.ALU or before.kind in MULTIPLIES
    return cycles + (rules.address_stall if computes and is_address else 0)


def branch_cycles(instruction: Instruction, rules: Rules) -> int:
    """Cycles that are added when an instruction sends execution elsewhere."""
    cycles = rules.refill
    if instruction.writes_pc and instruction.kind in (Kind.LOAD, Kind.LOAD_MULTIPLE):
        cycles += rules.return_by_load
    return cycles + (rules.call if instruction.name == "bl" else 0)


def _single_issue(trace: Trace, decoded: dict[int, Instruction], rules: Rules) -> dict[int, int]:
    behind = {instruction.address + instruction.size: instruction for instruction in decoded.values()}
    sources: defaultdict[int, list[tuple[Instruction, int]]] = defaultdict(list)
    for (source, target), count in trace.region.jumps.items():
        sources[target].append((decoded[source], count))
    cycles: Counter[int] = Counter()
    for address, count in trace.counts.items():
        instruction, straight = decoded[address], count
        for before, jumps in sources[address]:
            cycles[address] += jumps * instruction_cycles(instruction, before, rules)
            straight -= jumps
        if address == trace.region.first:
            cycles[address] += instruction_cycles(instruction, None, rules)
            straight -= 1
        cycles[address] += straight * instruction_cycles(instruction, behind.get(address), rules)
    return cycles


def _dual_issue(trace: Trace, decoded: dict[int, Instruction], rules: Rules) -> dict[int, int]:
    return Counter(
        {
            block[0].address: trace.counts[block[0].address] * block_cycles(block, rules)
            for block in _blocks(trace, decoded)
        }
    )


def _blocks(trace: Trace, decoded: dict[int, Instruction]) -> Iterator[list[Instruction]]:
    """Stretches of instructions that are only ever entered at their beginning and left at their end."""
    targets = {target for _, target in trace.region.jumps} | {trace.region.first}
    sources = {source for source, _ in trace.region.jumps} | {trace.region.last}
    block: list[Instruction] = []
    for address in trace.counts:
        if block and (
            address in targets or block[-1].address in sources or block[-1].address + block[-1].size != address
        ):
            yield block
            block = []
        block.append(decoded[address])
    if block:
        yield block


def block_cycles(block: Sequence[Instruction], rules: Rules) -> int:
    """Cycles in which a straight block is issued, in order, two instructions at a time where they can go together."""
    ready: dict[str, int] = {}
    produced_by: dict[str, Kind] = {}
    cycle, before = 0, None
    for instruction in block:
        start = max([cycle, *(_ready(register, instruction, ready, produced_by) for register in instruction.reads)])
        if before is not None and not (start == cycle and _go_together(before, instruction)):
            start, before = max(start, cycle + _issue_cycles(before)), None
        latency = rules.cycles.get(instruction.kind, 1)
        for register in instruction.writes:
            ready[register], produced_by[register] = start + latency, instruction.kind
        cycle, before = start, instruction if before is None else _PAIR
    return cycle + (_issue_cycles(before) if before is not None else 0)


_PAIR = Instruction(0, 4, "", Kind.SYSTEM, 0, frozenset(), frozenset(), frozenset(), False)
"""Stands for two instructions that began together: nothing joins them."""


def _issue_cycles(instruction: Instruction) -> int:
    """Cycles until another can begin: several registers go over a 64-bit bus."""
    return max(1, (instruction.registers + 1) // 2)


def _ready(register: str, instruction: Instruction, ready: dict[str, int], produced_by: dict[str, Kind]) -> int:
    """When a register can be read; a sum that a multiplication adds to comes one cycle earlier."""
    at = ready.get(register, 0)
    chained = register in instruction.writes and instruction.kind in MULTIPLIES
    return at - 1 if chained and produced_by.get(register) in MULTIPLIES else at


def _go_together(first: Instruction, second: Instruction) -> bool:
    """Whether two instructions can begin in one cycle."""
    kinds = (first.kind, second.kind)
    if any(kind in ALONE for kind in kinds) or first.kind in (Kind.BRANCH, Kind.CALL, Kind.TABLE_BRANCH):
        return False
    if all(kind in MEMORY for kind in kinds) or all(kind in MULTIPLIES for kind in kinds):
        return False
    return first.writes.isdisjoint(second.reads | second.writes)
