"""A program as the compiler sees it, level by level: the file, its layers, the arena, the kernel of each and why."""

from __future__ import annotations

from collections.abc import Sequence

from policyport.core.errors import ConfigError
from policyport.deploy import passes
from policyport.deploy.called import CALL
from policyport.deploy.candidates import GENERAL, PLAIN, ROWS, Candidate, candidates
from policyport.deploy.codegen import layer_code, operator_text
from policyport.deploy.codegen_memory import Memory, Variant, plan_memory
from policyport.deploy.codegen_text import Constants, LayerCode, describe
from policyport.deploy.fusing import extra_instructions, fit
from policyport.deploy.layers import Affine, FullyConnected, Layer, Strips, Tensor
from policyport.deploy.planner import lives_of
from policyport.deploy.program import Program
from policyport.deploy.strips import row_bytes, schedule, sums_bytes


def explain(written: Program, variant: Variant, optimize: str, only: str = "", ram_bytes: int | None = None) -> str:
    """Every lowering level of every layer, or of one, as text; the same for the same program.

    :param written: as :func:`policyport.deploy.lower.lower_as_written` yields it
    :param variant: ``c``, ``thumb``, ``dsp`` or ``mve``
    :param optimize: ``size`` or ``speed``
    :param only: number, counted from 1, or name of the one layer to explain; empty for all
    :param ram_bytes: what activations may take; None for any size
    :raises ConfigError: no such layer, or no plan that fits
    """
    program = fit(passes.optimize(written), variant, optimize, ram_bytes)
    numbers = _wanted(program, only)
    memory, constants = plan_memory(program, variant, optimize), Constants()
    parts = [
        f"as written: {len(written.layers)} layers, {written.macs:,} MACs\n"
        + "\n".join(f"  {operator_text(layer)}  {layer.name}{_gone(layer, program)}" for layer in written.layers),
        f"{program.name}: {len(program.layers)} layers, {program.macs:,} MACs, {program.weight_count:,} weights, "
        f"arena {memory.plan.arena_bytes:,} B; variant {variant}, optimized for {optimize}",
    ]
    for number, layer in enumerate(program.layers, start=1):
        before = constants.flash_bytes
        code = layer_code(number, layer, memory, constants, variant, optimize)
        if number in numbers:
            size = constants.flash_bytes - before
            parts.append(_layer(program, number, memory, code, size, _weighed(layer, variant, optimize)))
    return "\n\n".join(parts) + "\n"


def _gone(layer: Layer, program: Program) -> str:
    """What became of a layer, where it is not there any more or has other sizes."""
    kept = {other.name: other for other in program.operators}
    if layer.name not in kept:
        return ": fused with a neighbour, or dead"
    before, after = layer.output.size, kept[layer.name].output.size
    return f": {before - after} of {before} outputs dead" if after < before else ""


def _wanted(program: Program, only: str) -> Sequence[int]:
    names = [layer.name for layer in program.layers]
    if not only:
        return range(1, len(names) + 1)
    if only in names:
        return (names.index(only) + 1,)
    if only.isdecimal() and 1 <= int(only) <= len(names):
        return (int(only),)
    raise ConfigError(
        "no such layer",
        where=f"--explain-layer {only}",
        expected=f"1 to {len(names)}, or one of {', '.join(names)}",
        cure="policyport deploy MODEL --explain names them all",
    )


def _weighed(layer: Layer, variant: Variant, optimize: str) -> list[str]:
    """The candidates and by what the marked one won; nothing where there is no choice."""
    if variant == "c" or not isinstance(layer, Affine):
        return []
    weighed = candidates(layer, optimize, variant)
    reason = _reason(layer, weighed, optimize)
    return [*(f"  weighed   {_candidate(candidate)}" for candidate in weighed), f"  because   {reason}"]


def _layer(
    program: Program, number: int, memory: Memory, code: LayerCode, constant_bytes: int, weighed: Sequence[str]
) -> str:
    layer = program.layers[number - 1]
    operands = " and ".join(describe(tensor) for tensor in layer.inputs)
    lines = [
        f"layer {number}  {layer.name}",
        f"  integers  {operator_text(layer)}: {operands}  ->  {describe(layer.output)}; {layer.macs:,} MACs"
        + (f", {layer.weight_bits}-bit weights" if isinstance(layer, Affine) else ""),
        *_fused(layer),
        *(f"  memory    {_place(program, tensor, memory)}" for tensor in (*layer.inputs, layer.output)),
        *_over(layer, memory),
        *(f"  memory    scratch at {offset:,}" for offset in memory.plan.scratch[number - 1]),
        *_parts(layer),
        *weighed,
        f"  calls     {', '.join(_calls(layer, code)) or 'nothing'}; {constant_bytes:,} B of constants",
    ]
    return "\n".join(lines)


def _calls(layer: Layer, code: LayerCode) -> list[str]:
    """The kernels that a layer calls, each once where it is called in steps."""
    found = CALL.findall(code.call)
    if not isinstance(layer, Strips):
        return found
    inside = [name for name in CALL.findall(code.definitions) if not name.startswith("pp_layer_")]
    return list(dict.fromkeys(inside + [name for name in found if not name.startswith("pp_layer_")]))


def _reason(layer: Affine, weighed: Sequence[Candidate], optimize: str) -> str:
    chosen = next(candidate for candidate in weighed if candidate.chosen)
    able = [candidate for candidate in weighed if not candidate.refused and candidate.name != PLAIN]
    if len(able) < 2:
        return "it alone can" if able else "no other kernel takes it"
    if chosen.name.startswith(ROWS):
        return "the kernel of whole rows takes what has 8-bit activations, no groups and no dilation"
    if chosen.name in GENERAL:
        return "no special kernel takes it, fewest instructions of those that take any"
    if " and " in chosen.name:
        return "each block of four rows takes the narrowest that is exact for it"
    if isinstance(layer, FullyConnected) and chosen.name in ("crumbs", "octals", "nibbles"):
        return "narrow weights take their own layout, the narrowest that is exact"
    by_size = optimize == "size" or chosen.name == "nibbles"
    return "fewest bytes of those that are exact" if by_size else "fewest instructions of those that are exact"


def _fused(layer: Layer) -> list[str]:
    """What of other operators the layer does on its way out."""
    if isinstance(layer, Affine) and layer.function:
        return [f"  fused     {layer.function}, as a table of {0 if layer.table is None else len(layer.table)}"]
    return []


def _place(program: Program, tensor: Tensor, memory: Memory) -> str:
    first, last = lives_of(program)[tensor.name]
    place, storage = memory.bytes_of(tensor), memory.storages[tensor.name]
    return f"{tensor.name}: bytes {place.start:,} to {place.stop:,}, {storage}, from step {first} to {last}"


def _parts(layer: Layer) -> list[str]:
    """The layers that run together, the rows that lie between them, and what that costs."""
    if not isinstance(layer, Strips):
        return []
    held = (*schedule(layer).buffer_rows, 0)
    lines = []
    for rows, part in zip(held, layer.layers, strict=True):
        behind = f"{rows} of {part.output.shape[0]} rows, {rows * row_bytes(part.output):,} B" if rows else "the output"
        if part is layer.layers[-1] and sums_bytes(layer):
            behind += f", its sums {sums_bytes(layer):,} B"
        lines.append(f"  strips    {operator_text(part)}  {part.name}: {part.macs:,} MACs; {behind}")
    return [*lines, f"  because   --ram; about {extra_instructions(layer):,} instructions more than whole layers"]


def _over(layer: Layer, memory: Memory) -> list[str]:
    """The operands over which a layer's output is written."""
    target = memory.bytes_of(layer.output)
    lines = []
    for tensor in layer.inputs:
        source = memory.bytes_of(tensor)
        if source.start < target.stop and target.start < source.stop:
            below = source.start - target.start
            where = f"{below:,} bytes below {tensor.name}" if below else f"in the place of {tensor.name}"
            lines.append(f"  memory    {layer.output.name}: {where}, over what is read")
    return lines


def _candidate(candidate: Candidate) -> str:
    figures = [
        "" if candidate.instructions is None else f"about {candidate.instructions:,} instructions",
        "" if candidate.block_bytes is None or candidate.refused else f"{candidate.block_bytes:,} B",
        f"not taken: {candidate.refused}" if candidate.refused else "",
    ]
    said = "; ".join(part for part in figures if part)
    return f"{'*' if candidate.chosen else ' '} {candidate.name}{': ' + said if said else ''}"
