"""Measures somebody else's runtime on a board as ``policyport hil`` measures our program: same inputs, same seeds.

    python -m policyport.hil.peer DEPLOY --port socket://pi:3334 --beside runs/pi/hil --out peer.json

At the port ``python -m policyport.hil.agent`` serves the network of the same deploy artifact. Its integers need not be
the reference's: how many are is measured, not demanded.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from policyport.core.artifact import Artifact, open_artifact
from policyport.core.errors import IdentityError, PolicyportError
from policyport.core.progress import progress
from policyport.core.task import Task
from policyport.deploy import reference
from policyport.deploy.board import load_board
from policyport.deploy.program import program_sha256, quantize_input, read_program
from policyport.firmware_bridge.client import Bridge
from policyport.hil import measure
from policyport.hil.config import HilConfig
from policyport.hil.loop import run_episodes
from policyport.hil.policy import BoardPolicy, FloatPolicy
from policyport.hil.result import Distribution, Result, Unit
from policyport.hil.rig import SerialRig


@dataclass(frozen=True)
class PeerResult:
    """A runtime on a board."""

    board: str
    runtime: str
    unit: Unit
    inference: Distribution
    values: int
    """Outputs compared."""

    equal: int
    """Those that are the reference's."""

    largest: int
    """Difference of one, in integers."""

    returns: tuple[float, ...]
    """Of each episode, every action its own; empty where none was asked for, or there is nothing to play."""

    agreement: float | None
    """Share of its actions that equal float32's."""

    peak_ram_bytes: int
    """Of its process, interpreter included."""


def measure_peer(built: Artifact, port: str, config: HilConfig) -> PeerResult:
    """Measure what an agent serves at a port.

    :param built: the deploy artifact that it serves
    :raises IdentityError: it serves another network
    :raises BoardError: nobody answers, or the port is busy
    """
    board, task = load_board(built.manifest.figures["board"]), Task.read(built.file("task.json"))
    program = read_program(built.path)
    with np.load(built.file("observations.npz")) as arrays:
        held_out = arrays["held_out"][: config.latency_observations]
    q = quantize_input(program, task.check_input(held_out))
    rig = SerialRig(board, port)
    with Bridge.open(
        port,
        baud=config.baud or board.uart.baud,
        timeout_s=config.timeout_s,
        retries=config.retries,
        wait_s=config.wait_s,
    ) as bridge:
        identity = bridge.hello()
        if identity.model_sha256 != program_sha256(program):
            raise IdentityError(
                "the agent serves another network than this artifact's",
                where=port,
                expected=program_sha256(program),
                got=identity.model_sha256,
                cure="start it with this deploy folder",
            )
        rig.learn_counter(identity.counter)
        counts, _ = measure.inference_counts(bridge, rig, identity, q)
        difference = np.abs(bridge.run_many(q)[0] - reference.run(program, q)[-1])
        returns, agreement = _play(BoardPolicy(bridge, program, task), built, task, config)
        memory = bridge.memory()
    return PeerResult(
        board=identity.board,
        runtime=identity.compiler,
        unit=rig.unit,
        inference=measure.distribution(counts),
        values=int(difference.size),
        equal=int((difference == 0).sum()),
        largest=int(difference.max()),
        returns=returns,
        agreement=agreement,
        peak_ram_bytes=memory.ram_static_bytes,
    )


def _play(
    policy: BoardPolicy, built: Artifact, task: Task, config: HilConfig
) -> tuple[tuple[float, ...], float | None]:
    """Returns, and the share of actions that float32 would have taken too."""
    if not task.plays or config.episodes == 0:
        return (), None
    float32 = FloatPolicy(built.file("float.onnx"), task)
    with (
        tempfile.TemporaryDirectory(prefix="policyport-peer-") as scratch,
        progress("closed loop", config.episodes) as advance,
    ):
        journal = Path(scratch) / "episodes.jsonl"
        played = run_episodes(policy, float32, config.episodes, config.seed, journal, advance)
    steps = sum(episode.steps for episode in played)
    return tuple(e.board_return for e in played), sum(e.agreed for e in played) / steps


def to_markdown(peer: PeerResult, ours: Result | None) -> str:
    """A table of a runtime, and of our own program beside it."""
    rows = [(peer.runtime, peer.inference, peer.unit, f"{peer.equal} of {peer.values}", peer.returns, peer.agreement)]
    if ours is not None:
        output = ours.parity.layers[-1]
        returns, agreement = (ours.loop.board_returns, ours.loop.agreement) if ours.loop is not None else ((), None)
        equal = f"{output.equal} of {output.compared}"
        rows.append(("policyport", ours.latency.inference, ours.board.unit, equal, returns, agreement))
    lines = [
        f"| on {peer.board} | unit | p50 | p99 | most | equal outputs | mean return | agreement |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, inference, unit, equal, returns, agreement in rows:
        mean = f"{np.mean(returns):.2f}" if returns else ""
        share = "" if agreement is None else f"{agreement:.4f}"
        found = f"{inference.p50:,} | {inference.p99:,} | {inference.max:,}"
        lines.append(f"| {name} | {unit} | {found} | {equal} | {mean} | {share} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m policyport.hil.peer", description=summary)
    parser.add_argument("deploy", type=Path, help="folder of the deploy artifact that the agent serves")
    parser.add_argument("--port", required=True, help="pyserial URL of the agent")
    parser.add_argument("--beside", type=Path, help="hil artifact of our own program on that board")
    parser.add_argument("--out", type=Path, help="JSON file to write [default: none]")
    for name in ("episodes", "seed", "latency_observations", "baud"):
        default = getattr(HilConfig(), name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"[default: {default}]")
    chosen = parser.parse_args(arguments)
    config = HilConfig(
        episodes=chosen.episodes,
        seed=chosen.seed,
        latency_observations=chosen.latency_observations,
        baud=chosen.baud,
    )
    try:
        ours = None
        if chosen.beside is not None:
            ours = Result.read(open_artifact(chosen.beside, "hil").file("result.json"))
        peer = measure_peer(open_artifact(chosen.deploy, "deploy"), chosen.port, config)
    except PolicyportError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if chosen.out is not None:
        chosen.out.write_text(json.dumps({"schema": 1, **dataclasses.asdict(peer)}, indent=2) + "\n")
    print(to_markdown(peer, ours), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
