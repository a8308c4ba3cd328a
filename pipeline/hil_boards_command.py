"""What ``policyport hil bench|parity|loop|trace|all IMAGE... --board A,B`` takes and prints."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.errors import ConfigError

if TYPE_CHECKING:
    from policyport.hil.rack.places import Place
    from policyport.pipeline.fleet import Job, Outcome

SUMMARIES = {
    "bench": "latency and memory, on several boards at once",
    "parity": "every integer of every layer, on several boards at once",
    "loop": "closed-loop episodes, on several boards at once",
    "trace": "what each layer takes, on several boards at once",
    "all": "everything, on several boards at once",
}
"""Verb to what it does."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "bench": {"episodes": 0, "pictures": 0, "parity_observations": 1},
    "parity": {"episodes": 0, "pictures": 0, "latency_observations": 1},
    "loop": {"parity_observations": 1, "latency_observations": 1},
    "trace": {"episodes": 0, "pictures": 0, "parity_observations": 1},
    "all": {},
}
"""Verb to the options of hil that it sets, where the command line does not; one observation is compared by each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    from policyport.core.options import add_arguments as add_options
    from policyport.hil.config import HilConfig

    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="deploy folder; several for boards of several kinds")
    add(
        "--board",
        action="append",
        default=[],
        metavar="NAME[=URL],...",
        help="boards: of the map, kinds (emulated; one named twice is two), or names and where they are "
        "[default: all of the map, else one emulated board for each image]",
    )
    add("--installed", type=Path, metavar="FILE", help="update file that the boards were given [default: none]")
    add("--jobs", type=int, metavar="N", help="boards measured at the same time [default: one for each core]")
    add("--out", type=Path, metavar="DIR", help="folder to write [default: hil-VERB beside the first image]")
    add("--force", action="store_true", help="measure from scratch, though it be done [default: no]")
    add("--json", action="store_true", help="print every board's figures as JSON, nothing else [default: no]")
    add_options(parser.add_argument_group("options of hil"), HilConfig)  # type: ignore[arg-type]


def execute(arguments: argparse.Namespace) -> int:
    """Measure on all boards, print one table of them.

    :returns: 0, or the highest exit code of a board that failed
    :raises ConfigError: no such board, or no image for one
    """
    from policyport.pipeline.fleet import cores, measure_all
    from policyport.pipeline.hil_boards_tables import as_rows, print_table

    jobs = find_jobs(arguments)
    real = sum(not job.place.emulated for job in jobs)
    at_once = max(cores(), real) if arguments.jobs is None else arguments.jobs
    if at_once < 1:
        raise ConfigError("no board can be measured", where="--jobs", expected="1 or more", got=at_once)
    quiet = arguments.json or arguments.quiet > arguments.verbose
    begin = time.monotonic()
    outcomes = measure_all(jobs, at_once, _silent if quiet else say)
    rows = as_rows(outcomes, jobs)
    text = json.dumps(rows, indent=2) + "\n"
    folder = jobs[0].out.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "boards.json").write_text(text)
    if arguments.json:
        print(text, end="")
    elif not quiet:
        print_table(arguments.verb, outcomes)
        print(_wall(len(jobs), min(at_once, len(jobs)), time.monotonic() - begin, outcomes))
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"policyport: {outcome.name}: {outcome.error}", file=sys.stderr)
    return max((outcome.error.exit_code for outcome in outcomes if outcome.error is not None), default=0)


def find_jobs(arguments: argparse.Namespace) -> list[Job]:
    """One for each board that is asked for.

    :raises ConfigError: no such board, no image for one, or a port for several
    """
    from policyport.core.artifact import open_artifact
    from policyport.core.options import from_arguments
    from policyport.hil.config import HilConfig
    from policyport.hil.rack.places import choose, image_of, places_of
    from policyport.pipeline.fleet import Job

    config = from_arguments(HilConfig, arguments, PRESETS[arguments.verb])
    images = [open_artifact(path, "deploy") for path in arguments.images]
    known = places_of(config.hardware_map) if config.hardware_map else ()
    places = choose(arguments.board, known) or choose([image.manifest.figures["board"] for image in images])
    places = _with_port(places, config.port)
    out = arguments.out or images[0].path.resolve().parent / f"hil-{arguments.verb}"
    return [
        Job(place, image_of(place, images).path, config, out / place.name, arguments.force, arguments.installed)
        for place in places
    ]


def _with_port(places: Sequence[Place], port: str) -> tuple[Place, ...]:
    """The boards, the one there is at ``--port`` where that is given."""
    if port and len(places) != 1:
        raise ConfigError("one port for several boards", where="--port", cure="--board NAME=URL,NAME=URL")
    return tuple(place.at(port) for place in places)


def say(outcome: Outcome) -> None:
    """One line on a board."""
    state = "failed" if outcome.error is not None else "done"
    print(f"{outcome.name:<20} {state:<7} {outcome.seconds:.1f} s", flush=True)


def _silent(_: Outcome) -> None:
    """Say nothing."""


def _wall(boards: int, at_once: int, seconds: float, outcomes: Sequence[Outcome]) -> str:
    """How long it took, and how long the boards took one by one, so that scaling can be seen."""
    from policyport.hil.report.text import several

    return (
        f"{several(boards, 'board')}, {at_once} at a time: {seconds:.1f} s; "
        f"the boards themselves {sum(outcome.seconds for outcome in outcomes):.1f} s"
    )
