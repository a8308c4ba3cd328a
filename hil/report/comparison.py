"""float32 against the board: the verdict, and the rows of the table on the page and on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policyport.hil.coding_figures import CodingFigures, QualityFigures
from policyport.hil.report.data import Evidence
from policyport.hil.report.text import joules, number, percent, recorded, several, size, spread
from policyport.hil.result import DelayFigures, EnergyFigures, LoopFigures, RecognitionFigures, Result
from policyport.hil.statistics import Equivalence


@dataclass(frozen=True)
class Row:
    """One line: a quantity, its figures, and what they are to be read with."""

    label: str
    float32: str
    board: str
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Lines that belong together."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Verdict:
    """What it all comes to."""

    state: Literal["held", "failed", "measured"]
    """``measured``: no gate was stated that could hold or fail."""

    sentence: str


def verdict(result: Result) -> Verdict:
    """Whether the gates held, and in one sentence what became of the policy on the board."""
    failed = [gate.name for gate in result.gates if not gate.passed]
    values, layers = sum(layer.compared for layer in result.parity.layers), several(len(result.parity.layers), "layer")
    same = f"all {values:,} integers of {layers} equal" if result.parity.equal else "not every integer equals"
    told = (_loop_sentence(result.loop), _recognition_sentence(result.recognition), _coding_sentence(result))
    sentence = f"{''.join(told)}On the board {same} the reference."
    if failed:
        return Verdict("failed", f"{len(failed)} of {several(len(result.gates), 'gate')} failed. {sentence}")
    return Verdict("held" if result.gates else "measured", sentence)


def _loop_sentence(loop: LoopFigures | None) -> str:
    if loop is None:
        return ""
    return (
        f"Choosing every action of {several(loop.episodes, 'episode')}, the board returns {loop.board.mean:.1f} where "
        f"float32 returns {loop.float32.mean:.1f}: {_judged(loop.equivalence)}. "
    )


def _recognition_sentence(found: RecognitionFigures | None) -> str:
    if found is None:
        return ""
    return (
        f"Recognizing {several(found.pictures, 'picture')}, the board has a mean F1 of {found.board_f1:.3f} where "
        f"float32 has {found.float_f1:.3f}. "
    )


def _coding_sentence(result: Result) -> str:
    coding = result.coding
    if coding is None:
        return ""
    return (
        f"Coding {several(len(coding.files), 'picture')} at {coding.per_pixel:.0f} {result.board.unit} per pixel, the "
        f"board makes the same {number(coding.compared_bytes)} bytes as the reference. "
    )


def _judged(test: Equivalence) -> str:
    return f"{'equivalent' if test.equivalent else 'not shown equivalent'} within ±{number(test.margin)}"


def width_label(evidence: Evidence) -> str:
    """``int8`` where weights and activations have 8 bits, else both widths."""
    activations = max((layer.bits for layer in evidence.result.parity.layers), default=8)
    inner = [layer.bits for layer in evidence.result.parity.layers[:-1]] or [activations]
    return "int8" if max(inner) == activations == 8 else f"int8 weights, int{activations} activations"


def comparison(evidence: Evidence) -> list[Group]:
    """Every group that was measured."""
    result = evidence.result
    observations = several(result.parity.observations, "observation")
    groups = [
        *_task_groups(result),
        Group(f"Integers equal to the reference, {observations}", _parity_rows(result)),
        *_delay_groups(result.loop),
        Group(f"{result.board.unit.capitalize()} per inference", _latency_rows(result)),
        *_energy_groups(result.energy),
        Group("Memory", _memory_rows(evidence)),
    ]
    if result.gates:
        rows = (Row(gate.name, "", "held" if gate.passed else "failed", gate.required) for gate in result.gates)
        groups.append(Group("Gates, stated beforehand", tuple(rows)))
    return groups


def _task_groups(result: Result) -> list[Group]:
    if result.coding is not None:
        return _coding_groups(result, result.coding)
    if result.recognition is not None:
        found = result.recognition
        return [Group(f"Recognition, {several(found.pictures, 'picture')}", _recognition_rows(found))]
    if result.loop is not None:
        return [Group(f"Closed loop, {several(result.loop.episodes, 'episode')}", _loop_rows(result.loop))]
    return [Group("Closed loop", (Row("not recorded", "", ""),))]


def _coding_groups(result: Result, coding: CodingFigures) -> list[Group]:
    """A group for each quality, and one of what the board made."""
    unit, compared = result.board.unit, number(coding.compared_bytes)
    over = f"mean over {several(coding.pictures, 'picture')}"
    made = (
        Row("bytes as the reference's", "", compared, f"of {compared}, {several(len(coding.files), 'file')}"),
        Row(f"{unit} per pixel", "", f"{coding.per_pixel:.1f}", "network and coder"),
    )
    qualities = [Group(f"Quality {row.quality}, {over}", _quality_rows(row, unit)) for row in coding.qualities]
    return [*qualities, Group("Pictures coded by the board", made)]


def _quality_rows(row: QualityFigures, unit: str) -> tuple[Row, ...]:
    def shown(name: str, digits: int) -> tuple[str, str]:
        float32, board = (getattr(rate, name) for rate in (row.float32, row.board))
        return ("", "") if board is None else (f"{float32:.{digits}f}", f"{board:.{digits}f}")

    rows = [Row("bits per pixel", *shown("bits_per_pixel", 3)), Row("PSNR, dB", *shown("psnr_db", 2))]
    if row.board.ms_ssim is not None:
        rows.append(Row("MS-SSIM", *shown("ms_ssim", 4)))
    if row.per_pixel is not None:
        rows.append(Row(f"{unit} per pixel", "", f"{row.per_pixel:.1f}"))
    return tuple(rows)


def _recognition_rows(found: RecognitionFigures) -> tuple[Row, ...]:
    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    calls = found.pictures * len(found.labels)
    return (
        Row("mean F1", shown(found.float_f1), shown(found.board_f1), f"of {several(len(found.labels), 'label')}"),
        Row("mean AUC", shown(found.float_auc), shown(found.board_auc)),
        Row("calls as float32", "", percent(found.agreement), f"of {calls:,}, present or not"),
        Row("largest error of a probability", "", shown(found.probability_error)),
        *(
            Row(f"F1 of {label.name}", shown(label.float_f1), shown(label.board_f1), f"present in {label.positives:,}")
            for label in found.labels
        ),
    )


def _loop_rows(loop: LoopFigures) -> tuple[Row, ...]:
    judged = f"{loop.equivalence.difference:+.2f}, {_judged(loop.equivalence)}"
    rows = [
        Row("mean return", spread(loop.float32), spread(loop.board), judged),
        Row(action_label(loop), "", percent(loop.agreement), f"of {loop.steps:,} steps"),
    ]
    if not is_discrete(loop):
        rows.append(Row("mean action error", "", f"{100 * loop.action_error:.3g} %", "of the range of actions"))
    if loop.board_success is not None and loop.float_success is not None:
        shares = percent(loop.float_success), percent(loop.board_success)
        rows.append(Row("success", *shares, f"of {several(loop.episodes, 'episode')}"))
    return tuple(rows)


def _delay_groups(loop: LoopFigures | None) -> list[Group]:
    """What late actions cost; empty where none were played."""
    if loop is None or not loop.delays:
        return []
    rows = (Row(several(late.delay_steps, "step"), "", spread(late.board), _delay_note(late)) for late in loop.delays)
    return [Group(f"Mean return with late actions, {several(loop.episodes, 'episode')} each", tuple(rows))]


def _delay_note(late: DelayFigures) -> str:
    """The mean's interval and, where the environment says it, how many episodes succeeded."""
    interval = f"mean within {late.board.low:.1f} and {late.board.high:.1f}"
    return interval if late.success is None else f"{interval}, {percent(late.success)} succeed"


def is_discrete(loop: LoopFigures) -> bool:
    """Whether actions are equal or not: their error is then the share that differs."""
    return abs(loop.action_error - (1 - loop.agreement)) < 1e-9


def action_label(loop: LoopFigures) -> str:
    """What counts as the same action."""
    return "actions as float32" if is_discrete(loop) else "actions within 1 % of float32's"


def _parity_rows(result: Result) -> tuple[Row, ...]:
    return tuple(
        Row(f"{layer.name}, int{layer.bits}", "", f"{layer.equal:,}", f"of {layer.compared:,}")
        for layer in result.parity.layers
    )


def _latency_rows(result: Result) -> tuple[Row, ...]:
    counts = result.latency.inference
    over = f"over {several(counts.observations, 'observation')}"
    names = ("min", "p50", "p95", "p99", "max")
    rows = [Row(name, "", f"{getattr(counts, name):,}", over if name == "min" else "") for name in names]
    loop = result.loop
    if loop is not None and loop.most:
        rows.append(Row("closed loop", "", f"{loop.fewest:,} to {loop.most:,}", f"jitter {loop.most - loop.fewest:,}"))
    return tuple(rows)


def _energy_groups(energy: EnergyFigures | None) -> list[Group]:
    """What inferences take from the supply; empty without a meter."""
    if energy is None:
        return []
    rows = (
        Row("per inference", "", joules(energy.per_inference_j), f"{joules(energy.joules)} in {energy.seconds:.3g} s"),
        Row("above idle", "", joules(energy.above_idle_j), f"idle {1000 * energy.idle_watts:.4g} mW"),
        Row("inferences", "", f"{energy.inferences:,}", f"{energy.busy_s:.3g} s of these; the rest is the line"),
    )
    return [Group(f"Energy of the whole board, by {energy.meter}", rows)]


def _memory_rows(evidence: Evidence) -> tuple[Row, ...]:
    result, memory = evidence.result, evidence.result.memory
    rows = [
        Row("flash", "", recorded(flash_bytes(result)), policy_part(result, "flash")),
        Row("RAM, stack included", "", recorded(ram_bytes(result)), policy_part(result, "ram")),
        Row("stack, painted", "", size(memory.stack_used_bytes), f"of {size(memory.stack_bytes)} reserved"),
    ]
    sizes = evidence.figures("quantize")
    if "float_bytes" in sizes:
        rows.append(Row("weights and biases", size(sizes["float_bytes"]), size(sizes["weight_bytes"])))
    return tuple(rows)


def flash_bytes(result: Result) -> int:
    """Flash of the whole firmware; 0 where it was not recorded."""
    return int(result.footprint.get("flash_bytes", 0))


def ram_bytes(result: Result) -> int:
    """RAM of the whole firmware, stack included; 0 where it was not recorded."""
    return int(result.footprint.get("ram_bytes", 0))


def policy_part(result: Result, memory: str) -> str:
    """How much of ``flash`` or ``ram`` is the policy's."""
    part = result.footprint.get(f"policy_{memory}_bytes")
    return "" if part is None else f"of it the policy {size(part)}"
