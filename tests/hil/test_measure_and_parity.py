"""Latency and parity over a bridge that is not there: repeats, shares, the first difference."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from policyport.core.errors import ParityError, ProtocolError
from policyport.core.semantics import Integers, requantization
from policyport.deploy import reference
from policyport.deploy.layers import FullyConnected, Tensor
from policyport.deploy.program import HostInput, Program
from policyport.hil import measure, parity

RNG = np.random.default_rng(5)


def layer(name: str, inputs: int, outputs: int, source: str) -> FullyConnected:
    tensor_in, tensor_out = (Tensor(n, (s,), 8, 0.1, 0, -128, 127) for n, s in ((source, inputs), (name, outputs)))
    return FullyConnected(
        name=name,
        inputs=(tensor_in,),
        output=tensor_out,
        weights=RNG.integers(-127, 128, (outputs, inputs)),
        weight_bits=8,
        weight_scale=np.full(outputs, 0.01),
        bias=RNG.integers(-500, 500, outputs),
        requantize=requantization(np.full(outputs, 0.01), 2**20),
        before_table=tensor_out,
        table=None,
        function="",
    )


def program() -> Program:
    first, second = layer("hidden", 4, 8, "input"), layer("logits", 8, 2, "hidden")
    ones = np.ones(4, np.float32)
    return Program("p", HostInput(ones * 0, ones, -np.inf, np.inf), first.input, second.output, (first, second))


PROGRAM = program()
Q = RNG.integers(-128, 128, (20, 4))
IDENTITY: Any = SimpleNamespace(counter_overhead_ticks=10)


@dataclass
class Board:
    """A perfect board, except for what a test asks of it."""

    wrong: tuple[int, int, int] | None = None
    """Observation, layer, index of an integer that is one too large."""

    drift: int = 0
    """Ticks that every later inference takes longer."""

    asked: int = 0
    inferences: int = 0
    memory: Any = field(default_factory=lambda: SimpleNamespace)

    def trace(self, q: Integers) -> list[Any]:
        outputs = [np.array(values[0]) for values in reference.run(PROGRAM, q[None, :])]
        if self.wrong is not None and self.wrong[0] == self.asked:
            outputs[self.wrong[1]][self.wrong[2]] += 1
        self.asked += 1
        return [SimpleNamespace(values=v, ticks=10 + t) for v, t in zip(outputs, (600, 300), strict=True)]

    def run_many(self, q: Integers) -> tuple[Integers, Integers]:
        ticks = []
        for row in q:
            self.inferences += 1
            ticks.append(10 + 1000 + int(row[0]) + self.drift * self.inferences)
        return reference.run(PROGRAM, q)[-1], np.array(ticks)


class Rig:
    """Ticks are counts."""

    url = "none"

    def __init__(self, emulated: bool = True) -> None:
        self.emulated = emulated

    def instructions(self, ticks: int, overhead: int) -> int:
        return ticks - overhead


def bridge(**asked: Any) -> Any:
    return Board(**asked)


def nothing(done: float, note: str = "") -> None:
    """Progress that nobody watches."""


def test_latency_subtracts_the_overhead_and_splits_over_layers() -> None:
    rig: Any = Rig()
    figures, counts = measure.measure_latency(bridge(), rig, IDENTITY, PROGRAM, Q)
    assert counts.tolist() == [1000 + int(row[0]) for row in Q]
    assert figures.inference.min == counts.min() and figures.inference.max == counts.max()
    assert figures.repeats
    assert [(row.name, row.count) for row in figures.layers] == [
        ("hidden", 600),
        ("logits", 300),
        ("other", figures.inference.p50 - 900),
    ]
    assert sum(row.share for row in figures.layers) == pytest.approx(1.0, abs=1e-3)


def test_percentiles_are_counts_that_were_measured() -> None:
    figures = measure.distribution(np.array([1, 2, 3, 1000]))
    assert (figures.min, figures.p50, figures.p95, figures.p99, figures.max) == (1, 3, 1000, 1000, 1000)


def test_an_emulated_board_must_repeat_its_counts() -> None:
    rig: Any = Rig()
    with pytest.raises(ProtocolError, match="did not repeat"):
        measure.measure_latency(bridge(drift=1), rig, IDENTITY, PROGRAM, Q)


def test_a_real_board_may_jitter() -> None:
    rig: Any = Rig(emulated=False)
    figures, _ = measure.measure_latency(bridge(drift=1), rig, IDENTITY, PROGRAM, Q)
    assert not figures.repeats


def test_parity_of_an_equal_board(tmp_path: Path) -> None:
    figures = parity.compare(bridge(), PROGRAM, Q, nothing)
    assert figures.equal and figures.first_mismatch is None
    assert [(row.name, row.compared, row.equal) for row in figures.layers] == [("hidden", 160, 160), ("logits", 40, 40)]
    parity.require_equal(figures, tmp_path / "parity.json")


@pytest.mark.parametrize("wrong", [(0, 0, 0), (3, 0, 7), (19, 1, 1)])
def test_parity_names_the_first_difference(tmp_path: Path, wrong: tuple[int, int, int]) -> None:
    figures = parity.compare(bridge(wrong=wrong), PROGRAM, Q, nothing)
    path = tmp_path / "parity.json"
    parity.write(figures, path)
    with pytest.raises(ParityError) as caught:
        parity.require_equal(figures, path)
    name = ("hidden", "logits")[wrong[1]]
    assert f"observation {wrong[0]}, layer {wrong[1]} ({name}), index {wrong[2]}" in str(caught.value)
    assert caught.value.got == caught.value.expected + 1
    assert caught.value.exit_code == 4
    assert json.loads(path.read_text())["first_mismatch"]["index"] == wrong[2]
    assert sum(row.compared - row.equal for row in figures.layers) == 1
