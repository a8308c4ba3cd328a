"""``result.json``: everything that was measured on a board, as one tree of dataclasses.

The field docstrings here are the documentation of the file; :data:`RESULT_SCHEMA` changes with them.
A figure from an emulated board is a count of instructions; seconds are never derived from it.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policyport.core.errors import ArtifactError
from policyport.hil.coding_figures import CodingFigures
from policyport.hil.statistics import Equivalence, Summary

RESULT_SCHEMA = 7

Unit = Literal["instructions", "cycles", "nanoseconds"]
GateState = Literal["none", "passed", "failed"]


@dataclass(frozen=True)
class BoardFigures:
    """Where the figures come from."""

    name: str
    """Name of the board, as in ``policyport/deploy/boards``."""

    core: str
    clock_hz: int
    emulated: bool
    emulator: str
    """``qemu`` or ``unicorn`` with its version; empty for a real board."""

    counter: str
    """``dwt`` or ``systick``: what the firmware counted with."""

    unit: Unit
    """``instructions`` on an emulated board, ``cycles`` on a real one."""


@dataclass(frozen=True)
class FirmwareFigures:
    """What the board said it runs."""

    build_id: str
    model_sha256: str
    compiler: str
    protocol: int


@dataclass(frozen=True)
class Distribution:
    """Counts of one inference over many observations, the counter's own overhead subtracted, in the board's unit."""

    observations: int
    min: int
    p50: int
    p95: int
    p99: int
    max: int
    mean: float


@dataclass(frozen=True)
class LayerShare:
    """One row of the profile."""

    name: str
    """Name of the layer's output in the model; ``other`` for what belongs to no layer (call, copies)."""

    count: int
    """Median over the traced observations, in the board's unit. ``other`` can be negative: a layer that is
    traced alone is called through a switch which the whole network does not need."""

    share: float
    """Of the whole inference."""


@dataclass(frozen=True)
class LatencyFigures:
    """How long an inference takes."""

    inference: Distribution
    layers: tuple[LayerShare, ...]
    overhead: int
    """What an empty measurement counts, already subtracted, in the counter's ticks."""

    repeats: bool
    """Whether a second run over the same observations counted exactly the same."""


@dataclass(frozen=True)
class LayerEstimate:
    """One layer in the cycle estimate."""

    name: str
    """Name of the layer; ``other`` for what belongs to none. Its row is the rest of the inference, and can be
    negative: see :attr:`LayerShare.count`."""

    macs: int
    weights: int
    """How many, biases not counted."""

    instructions: int
    cycles: int
    share: float
    """Of the whole inference's cycles."""


@dataclass(frozen=True)
class FunctionEstimate:
    """One function of the firmware in the cycle estimate."""

    name: str
    instructions: int
    cycles: int


@dataclass(frozen=True)
class EstimateFigures:
    """Cycles by a table of what each executed instruction takes on the core: see ``docs/cycle-model.md``.

    An estimate, of the first held-out observation; never a time.
    """

    rules: str
    """Where the table comes from."""

    instructions: int
    """Executed in the profiled inference: what the firmware's own counter says, exactly."""

    cycles: int
    """With memory that never makes the core wait."""

    wait_factor_low: float
    """What the board's flash is expected to multiply them by, at least, and at most."""

    wait_factor_high: float
    wait_source: str
    """Where the factors come from."""

    layers: tuple[LayerEstimate, ...]
    functions: tuple[FunctionEstimate, ...]
    """Every function that ran, the call included, most instructions first."""


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes on the board."""

    stack_bytes: int
    """Reserved for the stack."""

    stack_used_bytes: int
    """Deepest use, by painting, after all inferences and protocol traffic."""

    ram_static_bytes: int
    """``.data`` and ``.bss``."""

    arena_bytes: int
    """Activations of the network, part of the static RAM."""


@dataclass(frozen=True)
class Mismatch:
    """The first integer that differs from the reference."""

    observation: int
    layer: int
    layer_name: str
    index: int
    expected: int
    got: int


@dataclass(frozen=True)
class LayerParity:
    """One layer compared with the reference."""

    name: str
    size: int
    bits: int
    compared: int
    """Integers compared: observations times size."""

    equal: int


@dataclass(frozen=True)
class ParityFigures:
    """The board's integers against the reference's, every layer."""

    observations: int
    equal: bool
    layers: tuple[LayerParity, ...]
    first_mismatch: Mismatch | None


@dataclass(frozen=True)
class Deadline:
    """The closed loop against the control period; only a real board has seconds to compare with."""

    period_s: float
    inferences: int
    """Of this session: an interrupted one's are not here."""

    missed: int
    """Inferences that took longer than the period."""

    worst_s: float
    jitter_s: float = 0.0
    """Longest inference less the shortest."""

    late: int = 0
    """Actions that came back later than the period: inference and serial line, as the host saw them."""

    round_trip_p50_s: float = 0.0
    round_trip_p99_s: float = 0.0
    round_trip_worst_s: float = 0.0


@dataclass(frozen=True)
class DelayFigures:
    """The closed loop with late actions: at each step the action for the observation some steps ago is applied."""

    delay_steps: int
    """Until the first action has come it is the action for the first observation."""

    returns: tuple[float, ...]
    """On the seeds of the closed loop."""

    board: Summary
    loss: Summary
    """The closed loop's return less this one, on the same seed; low and high are of its mean."""

    success: float | None
    """Share of episodes that succeeded; None where the environment does not say."""


@dataclass(frozen=True)
class LoopFigures:
    """Closed-loop episodes, every action chosen by the board."""

    environment: str
    episodes: int
    first_seed: int
    """Episode i was reset with ``first_seed + i``, on the board and with float32 alike."""

    steps: int
    board_returns: tuple[float, ...]
    float_returns: tuple[float, ...]
    """The float32 policy on the same seeds."""

    board: Summary
    float32: Summary
    margin_basis: str
    """Where the margin of the equivalence test comes from; it was stated before the board's first episode."""

    equivalence: Equivalence
    agreement: float
    """Share of the board's actions that equal float32's on the same observation; for continuous actions,
    that differ by at most 1 % of the action's range in every dimension."""

    action_error: float
    """Mean absolute difference of the actions: as a share of the range; of discrete ones, the share that differs."""

    output_error: float
    """Largest absolute difference of the network's dequantized outputs."""

    board_success: float | None = None
    """Share of episodes that succeeded, by ``info["is_success"]`` or ``info["success"]`` at their end; None where the
    environment does not say."""

    float_success: float | None = None
    fewest: int = 0
    """Of one inference of the loop, in the board's unit; the most less the fewest is its jitter."""

    most: int = 0
    delays: tuple[DelayFigures, ...] = ()
    """One for each ``delay_steps``, fewest first."""


@dataclass(frozen=True)
class LabelFigures:
    """How one label of a classifier is recognized; None where the pictures' labels cannot say."""

    name: str
    positives: int
    """Held-out pictures that have it."""

    board_f1: float | None
    float_f1: float | None
    board_auc: float | None
    """Area under the receiver operating curve."""

    float_auc: float | None


@dataclass(frozen=True)
class RecognitionFigures:
    """A classifier's held-out pictures, every one recognized by the board, and by float32."""

    pictures: int
    board_f1: float
    """Mean over the labels, each at its own threshold."""

    float_f1: float
    board_auc: float
    float_auc: float
    agreement: float
    """Share of the calls, present or not, that equal float32's."""

    probability_error: float
    """Largest absolute difference of a probability."""

    labels: tuple[LabelFigures, ...]


@dataclass(frozen=True)
class EnergyFigures:
    """What inferences take from the board's supply, by a power meter; the whole board, its serial line included."""

    meter: str
    """The driver, and what it was told."""

    seconds: float
    """From the first inference to the last reply, on this machine's clock."""

    inferences: int
    busy_s: float
    """Of these seconds the processor ran inferences, by its own counter; the rest is the line and waiting for it."""

    joules: float
    """In these seconds."""

    idle_watts: float
    """Mean before them, while the board waited for a request."""

    per_inference_j: float
    """``joules`` over ``inferences``."""

    above_idle_j: float
    """The same without what the board would have taken idle."""

    samples: int
    """Of the meter in these seconds."""

    largest_gap_s: float
    """Between two of them."""


@dataclass(frozen=True)
class LinkFigures:
    """The serial line."""

    resends: int
    """Requests that were sent again because no good reply came."""

    round_trips: int
    baud: int


@dataclass(frozen=True)
class Gate:
    """A requirement that was stated beforehand."""

    name: str
    """The option that states it."""

    required: str
    got: str
    passed: bool


@dataclass(frozen=True)
class Result:
    """The whole file."""

    model: str
    """Name of the task or program."""

    algorithm: str
    board: BoardFigures
    firmware: FirmwareFigures
    latency: LatencyFigures
    memory: MemoryFigures
    footprint: dict[str, Any]
    """``footprint.json`` of the deploy artifact."""

    parity: ParityFigures
    loop: LoopFigures | None
    """None where no episode was asked for, or the model is no policy."""

    deadline: Deadline | None
    """None without a period, or on an emulated board."""

    link: LinkFigures
    gates: tuple[Gate, ...]
    gate: GateState
    """``failed`` where any gate did."""

    estimate: EstimateFigures | None = None
    no_estimate: str = ""
    """Why there is no estimate; empty where there is one."""

    recognition: RecognitionFigures | None = None
    """None where the model is no classifier, or no picture was asked for."""

    energy: EnergyFigures | None = None
    """None without a power meter."""

    coding: CodingFigures | None = None
    """None where the model is no image encoder, or no picture was asked for."""

    def write(self, path: Path) -> None:
        """Write ``result.json``."""
        path.write_text(json.dumps({"schema": RESULT_SCHEMA, **dataclasses.asdict(self)}, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read ``result.json``.

        :raises ArtifactError: no JSON object, another schema version, or a missing field
        """
        try:
            table = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ArtifactError("result that does not read as one", where=path, got=error) from error
        if table.pop("schema", None) != RESULT_SCHEMA:
            raise ArtifactError(
                "result of another schema version",
                where=path,
                expected=RESULT_SCHEMA,
                cure="measure again: policyport hil",
            )
        try:
            result: Result = _from_json(cls, table)
        except (KeyError, TypeError) as error:
            raise ArtifactError("result that does not read as one", where=path, got=error) from error
        return result


def _from_json(hint: Any, value: Any) -> Any:
    """A value of the type ``hint`` (dataclass, tuple, optional or plain) from its JSON form."""
    if isinstance(hint, types.UnionType):
        inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        return None if value is None else _from_json(inner, value)
    if typing.get_origin(hint) is tuple:
        return tuple(_from_json(typing.get_args(hint)[0], element) for element in value)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return typing.cast(Any, hint)(**{field: _from_json(hints[field], item) for field, item in value.items()})
    return value
