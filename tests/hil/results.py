"""Results of made-up measurements."""

from __future__ import annotations

import numpy as np
from policyport.hil import gates
from policyport.hil.coding_figures import BoardFile, CodingFigures, QualityFigures, Rate
from policyport.hil.config import HilConfig
from policyport.hil.result import (
    BoardFigures,
    Distribution,
    FirmwareFigures,
    LatencyFigures,
    LayerParity,
    LayerShare,
    LinkFigures,
    LoopFigures,
    MemoryFigures,
    Mismatch,
    ParityFigures,
    Result,
)
from policyport.hil.statistics import equivalence, summarize


def loop_figures(board: list[float], float32: list[float], agreement: float) -> LoopFigures:
    return LoopFigures(
        environment="CartPole-v1",
        episodes=len(board),
        first_seed=1000,
        steps=1000,
        board_returns=tuple(board),
        float_returns=tuple(float32),
        board=summarize(np.array(board)),
        float32=summarize(np.array(float32)),
        margin_basis="given",
        equivalence=equivalence(np.array(board), np.array(float32), 5.0),
        agreement=agreement,
        action_error=1 - agreement,
        output_error=0.01,
    )


def coding_figures() -> CodingFigures:
    """Two pictures at two qualities, one file of them by the board."""
    rates = {quality: Rate(quality / 10, 20.0 + quality, None if quality == 3 else 0.9) for quality in (3, 6)}
    rows = (QualityFigures(3, rates[3], rates[3], 300.5), QualityFigures(6, rates[6], Rate(0.59, 26.1, 0.91), None))
    return CodingFigures("photographs of a folder", 2, rows, (BoardFile("lake", 320, 240, 3, 2880, 23_078_400),))


def result(loop: LoopFigures | None, config: HilConfig, mismatch: Mismatch | None = None) -> Result:
    verdicts = gates.judge(config, loop)
    return Result(
        model="cartpole",
        algorithm="PPO",
        board=BoardFigures("mps2-an386", "cortex-m4f", 25_000_000, True, "unicorn 2.1.4", "dwt", "instructions"),
        firmware=FirmwareFigures("00" * 16, "11" * 32, "gcc 12.2.1", 1),
        latency=LatencyFigures(
            Distribution(256, 900, 910, 920, 930, 940, 911.5), (LayerShare("fc", 900, 0.99),), 7, True
        ),
        memory=MemoryFigures(2048, 500, 900, 128),
        footprint={"flash_bytes": 9000},
        parity=ParityFigures(64, mismatch is None, (LayerParity("fc", 64, 8, 4096, 4095),), mismatch),
        loop=loop,
        deadline=None,
        link=LinkFigures(2, 1000, 115200),
        gates=verdicts,
        gate=gates.verdict(verdicts),
    )
