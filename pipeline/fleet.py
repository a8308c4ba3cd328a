"""Several boards at once: a process for each, a result for each; what fails on one is kept beside the others."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyport.core.artifact import Artifact, input_key, open_artifact
from policyport.core.errors import BoardError, GateError, PolicyportError
from policyport.deploy.config import FlashConfig
from policyport.hil.config import HilConfig

if TYPE_CHECKING:
    from policyport.hil.rack.places import Place
    from policyport.hil.result import Result


@dataclass(frozen=True)
class Job:
    """One board to measure on."""

    place: Place
    image: Path
    """The deploy artifact that it runs."""

    config: HilConfig
    out: Path
    """Folder for what comes of it: ``flash`` and ``hil``."""

    force: bool = False
    installed: Path | None = None
    """Update file that the board was given."""


@dataclass(frozen=True)
class Outcome:
    """What came of one board."""

    name: str
    measured: Path | None
    """The hil artifact; None where there is none."""

    error: PolicyportError | None
    """Why there is none, or the gate that failed."""

    seconds: float

    def result(self) -> Result | None:
        """What was measured."""
        from policyport.hil.result import Result

        return None if self.measured is None else Result.read(self.measured / "result.json")


def measure_all(jobs: Sequence[Job], at_once: int, say: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure on every board.

    :param at_once: boards that are measured at the same time
    :param say: is told of each board as it ends
    :returns: the outcomes, in the order of the jobs
    """
    found: dict[str, Outcome] = {}
    with ThreadPoolExecutor(at_once) as threads:
        for future in as_completed([threads.submit(_apart, job) for job in jobs]):
            outcome = future.result()
            found[outcome.name] = outcome
            say(outcome)
    return [found[job.place.name] for job in jobs]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _apart(job: Job) -> Outcome:
    """The outcome of a process of its own, whose death is this board's alone."""
    begin = time.monotonic()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measure_one, job).result()
        except BrokenProcessPool:
            died = BoardError("the process that measured on this board was killed", where=job.place.name)
            return Outcome(job.place.name, None, died, time.monotonic() - begin)


def measure_one(job: Job) -> Outcome:
    """Measure on one board, unless that is done."""
    from policyport.hil.gates import require_passed
    from policyport.hil.result import Result

    begin = time.monotonic()
    hil = job.out / "hil"
    try:
        measured, error = _stages(job), None
        require_passed(Result.read(measured.file("result.json")).gates, measured.path)
    except GateError as failed:
        measured, error = open_artifact(hil, "hil"), failed
    except PolicyportError as failed:
        return Outcome(job.place.name, None, failed, time.monotonic() - begin)
    return Outcome(job.place.name, measured.path, error, time.monotonic() - begin)


def _stages(job: Job) -> Artifact:
    from policyport.hil.rack.places import port_of

    port = port_of(job.place)
    # What a real board runs was flashed before; an emulated one's flash is the image.
    flash = FlashConfig(port=port, runner="none" if port else "auto", verify=bool(port), installed=job.installed)
    flashed = _stage("flash", {"image": job.image}, flash, job)
    return _stage(
        "hil", {"image": job.image, "board": flashed.path}, replace(job.config, port=port, hardware_map=None), job
    )


def _stage(name: str, inputs: dict[str, Path], config: Any, job: Job) -> Artifact:
    from policyport.pipeline.run import run_stage
    from policyport.pipeline.speak import silent
    from policyport.pipeline.stages import stage_named

    stage = stage_named(name)
    keys = {stage.inputs[key]: input_key(path) for key, path in inputs.items()}
    return run_stage(stage, inputs, keys, config, job.out / name, silent, force=job.force)


def results(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, Result]]:
    """Name and result of each board that has one."""
    for outcome in outcomes:
        result = outcome.result()
        if result is not None:
            yield outcome.name, result
