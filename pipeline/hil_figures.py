"""Measured tables of the page on rigs: `python -m policyport.pipeline.hil_figures docs/hil.md --image DEPLOY`.

The fault campaigns and the kills are files that their own commands wrote; the link and the scaling are measured here,
on emulated boards, in a few minutes. A table whose figures are not given stays as it is:

    policyport hil faults runs/cartpole/deploy --frames 1000000 --json > faults.json
    POLICYPORT_KILLS_OUT=kills.json pytest -m slow -n 0 tests/end_to_end/test_kills.py
    python -m policyport.pipeline.hil_figures docs/hil.md --faults faults.json --kills kills.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from policyport.core.artifact import open_artifact
from policyport.core.errors import BoardError, ConfigError
from policyport.hil.config import HilConfig
from policyport.hil.loop import make_environment
from policyport.hil.rack.places import choose
from policyport.hil.session import OpenBoard, open_board
from policyport.pipeline.figures import write_blocks
from policyport.pipeline.fleet import Job, cores, measure_all

ROUNDS, ROUND_TRIPS = 7, 300
"""The bare link and the loop take turns, so that what else the machine does falls on both."""

BOARDS = 4
EPISODES = 4
"""Of each board of the scaling."""


def faults_table(campaigns: Sequence[dict[str, Any]]) -> str:
    """Fault campaigns as Markdown, from what ``policyport hil faults --json`` printed, and their sum."""
    harmed = [sum(campaign["harmed"].values()) for campaign in campaigns]

    def row(what: str, counts: Sequence[int]) -> str:
        cells = counts if len(counts) == 1 else [*counts, sum(counts)]
        return f"| {what} | {' | '.join(f'{count:,}' for count in cells)} |"

    def counts_of(key: str) -> list[int]:
        return [campaign[key] for campaign in campaigns]

    heads = [f"seed {campaign['seed']}" for campaign in campaigns] + (["all"] if len(campaigns) > 1 else [])
    kinds = sorted({kind for campaign in campaigns for kind in campaign["harmed"]})
    rows = {
        "frames, either way": counts_of("frames"),
        "of these harmed": harmed,
        **{f"by {kind}": [campaign["harmed"].get(kind, 0) for campaign in campaigns] for kind in kinds},
        "exchanges": counts_of("exchanges"),
        "that ended with the right answer": counts_of("answered"),
        "resends that took": counts_of("resends"),
        "that ended with a time-out": counts_of("timed_out"),
        "with the news of a restart": counts_of("restarts_told"),
        "with a refusal": counts_of("refused"),
        "**with a wrong answer**": counts_of("wrong"),
        "**that hung**": counts_of("hung"),
    }
    longest, limit = max(counts_of("longest_s")), max(counts_of("limit_s"))
    first = campaigns[0]
    made = f"`{first['board']}`, {first['emulator'] or 'a real board'}, {100 * first['share']:g} % of the frames harmed"
    note = f"{made}; the longest exchange took {longest:.2f} s of at most {limit:.2f} s."
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    return "\n".join([*lines, *(row(what, counts) for what, counts in rows.items()), "", note])


@dataclass(frozen=True)
class LinkSpeed:
    """Round trips each second, medians over the rounds."""

    bare: float
    """Of an echo of as many bytes as an observation has."""

    loop: float
    """Of closed-loop steps: environment, policy, inference."""


def link_speed(board: OpenBoard, rounds: int = ROUNDS, round_trips: int = ROUND_TRIPS) -> LinkSpeed:
    """Measure both, by turns.

    :raises ConfigError: the image's network is no policy
    """
    described = board.task.environment
    if described is None:
        raise ConfigError("a network without an environment has no loop", where=board.image.path)
    payload = bytes(board.program.input.size * board.program.input.bits // 8)
    bare, loop = [], []
    with make_environment(described) as environment:
        observation, _ = environment.reset(seed=0)
        for number in range(rounds):
            began_s = time.perf_counter()
            for _ in range(round_trips):
                board.bridge.echo(payload)
            turned_s = time.perf_counter()
            for _ in range(round_trips):
                action, _ = board.policy.predict(observation, deterministic=True)
                observation, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:
                    observation, _ = environment.reset(seed=number)
            bare.append(round_trips / (turned_s - began_s))
            loop.append(round_trips / (time.perf_counter() - turned_s))
    return LinkSpeed(median(bare), median(loop))


def link_table(speed: LinkSpeed, emulator: str, load: float) -> str:
    """The closed loop against the bare link, as Markdown."""
    rows = (
        ("echo of an observation's bytes", f"{speed.bare:,.0f}"),
        ("closed-loop steps, environment and policy included", f"{speed.loop:,.0f}"),
    )
    lines = ["| | round trips each second |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)]
    made = f"emulated by {emulator}, medians of {ROUNDS} turns"
    note = f"{100 * speed.loop / speed.bare:.0f} % of the bare link; {made}; {_busy(load)}."
    return "\n".join([*lines, "", note])


def _busy(load: float) -> str:
    """What else the machine did."""
    return f"the machine of {cores()} cores had a load average of {load:.1f} before"


def scaling_s(image: Path) -> dict[int, float]:
    """Seconds that the boards' loops take, by how many are measured at a time.

    :raises BoardError: a board failed
    """
    name = open_artifact(image, "deploy").manifest.figures["board"]
    config = HilConfig(episodes=EPISODES, parity_observations=1, latency_observations=1)
    took = {}
    for at_once in (1, *(count for count in (2, BOARDS) if count <= cores())):
        with tempfile.TemporaryDirectory(prefix="policyport-scaling-") as folder:
            places = choose([name] * BOARDS)
            jobs = [Job(place, image, config, Path(folder) / place.name) for place in places]
            began_s = time.monotonic()
            for outcome in measure_all(jobs, at_once, lambda _: None):
                if outcome.error is not None:
                    raise BoardError("a board of the scaling failed", where=outcome.name, got=outcome.error)
            took[at_once] = time.monotonic() - began_s
    return took


def scaling_table(took: dict[int, float], load: float) -> str:
    """How many boards scale with the cores, as Markdown."""
    lines = ["| boards at a time | seconds for four | as fast as one at a time |", "|---:|---:|---:|"]
    lines += [f"| {count} | {seconds:.1f} | {took[1] / seconds:.2f} |" for count, seconds in took.items()]
    note = f"{EPISODES} episodes each; {_busy(load)}."
    return "\n".join([*lines, "", note])


def kills_table(kills: dict[str, Any]) -> str:
    """Kills by stage, as Markdown, from what ``tests/end_to_end/test_kills.py`` wrote."""
    rows = [*kills["killed"].items(), ("all", sum(kills["killed"].values()))]
    lines = ["| stage under way | kills |", "|---|---:|", *(f"| {stage} | {count} |" for stage, count in rows)]
    note = f"{kills['completed']} runs completed after them, each with the same artifacts and figures."
    return "\n".join([*lines, "", note])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables of Markdown files."""
    parser = argparse.ArgumentParser(
        prog="python -m policyport.pipeline.hil_figures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with <!-- figures:NAME --> markers")
    parser.add_argument("--image", type=Path, help="deploy folder of a policy [default: none, and no link and scaling]")
    parser.add_argument("--faults", type=Path, nargs="+", default=[], help="results of policyport hil faults --json")
    parser.add_argument("--kills", type=Path, help="what tests/end_to_end/test_kills.py wrote")
    given = parser.parse_args(arguments)
    blocks = {}
    if given.faults:
        blocks["faults"] = faults_table([json.loads(path.read_text()) for path in given.faults])
    if given.kills:
        blocks["kills"] = kills_table(json.loads(given.kills.read_text()))
    if given.image:
        load = os.getloadavg()[0]
        with open_board(given.image) as board:
            blocks["link"] = link_table(link_speed(board), board.rig.emulator, load)
        blocks["scaling"] = scaling_table(scaling_s(given.image), load)
    write_blocks(given.pages, blocks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
