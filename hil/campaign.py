"""One run of the ``hil`` stage: from two artifacts to a result, over one serial connection."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from policyport.core.artifact import Artifact, ArtifactWriter
from policyport.core.errors import ConfigError, ToolError
from policyport.core.progress import progress
from policyport.core.semantics import Integers
from policyport.core.task import LABELS_FILE, Task
from policyport.deploy.board import Board, load_board
from policyport.deploy.flash import EMULATOR
from policyport.deploy.hardware_map import find_entry, port_now
from policyport.deploy.program import quantize_input, read_program
from policyport.firmware_bridge.client import Bridge, Identity, WireLog
from policyport.hil import gates, junit, measure, parity, provenance
from policyport.hil.coding import Coder, code_pictures
from policyport.hil.coding_figures import CodingFigures
from policyport.hil.config import HilConfig
from policyport.hil.delay import play_delayed
from policyport.hil.energy import find_driver, measure_energy
from policyport.hil.held_out import HeldOut, held_out_pictures
from policyport.hil.loop import Episode, run_episodes, summarize_loop
from policyport.hil.margin import state_margin
from policyport.hil.policy import BoardPolicy, FloatPolicy
from policyport.hil.recognize import read_labels, recognize
from policyport.hil.result import (
    BoardFigures,
    Deadline,
    DelayFigures,
    EnergyFigures,
    EstimateFigures,
    FirmwareFigures,
    LatencyFigures,
    LinkFigures,
    LoopFigures,
    MemoryFigures,
    ParityFigures,
    RecognitionFigures,
    Result,
)
from policyport.hil.rig import Rig
from policyport.hil.session import Line, connect, require_identity


class Campaign:
    """What is measured, in this order: identity, parity, latency, closed loop, recognition or coding, memory."""

    def __init__(self, deployed: Artifact, flashed: Artifact, config: HilConfig, partial: Path) -> None:
        self.config = config
        self.partial = partial
        self.flashed = flashed
        self.deployed = deployed
        self.record = json.loads(flashed.file("board.json").read_text())
        self.board: Board = load_board(self.record["board"])
        self.port = _port(config, self.record)
        self.baud = config.baud or self.board.uart.baud
        self.line = Line(config.emulator, self.baud, config.timeout_s, config.retries, config.wait_s)
        self.task = Task.read(deployed.file("task.json"))
        self.program = read_program(deployed.path)
        self.footprint = json.loads(deployed.file("footprint.json").read_text())

    def run(self, writer: ArtifactWriter) -> Result:
        """Measure everything and write every file."""
        self._require_meter()
        self._require_environment()
        held_out = self._held_out()
        flash_bin = self.flashed.path / "flash.bin"
        with (
            (self.partial / "serial.log").open("w") as log,
            connect(self.board, flash_bin, self.port, self.line, WireLog(log)) as (rig, bridge),
        ):
            identity = require_identity(bridge, self.deployed, self.program, self.port, self._build_id())
            rig.learn_counter(identity.counter)
            compared = self._parity(bridge, writer)
            latency = self._latency(rig, bridge, identity, writer)
            policy = BoardPolicy(bridge, self.program, self.task)
            counted = partial(rig.instructions, overhead=identity.counter_overhead_ticks)
            loop = self._loop(policy, counted, writer) if self.task.plays else None
            recognized = self._recognition(policy) if self.task.kind == "classifier" else None
            coded = None if held_out is None else self._coding(rig, bridge, held_out, writer)
            energy = self._energy(bridge, identity, writer)
            memory = measure.measure_memory(bridge, int(self.footprint.get("arena_bytes", 0)))
            link = LinkFigures(bridge.retries_used, bridge.round_trips, self.baud)
            deadline = self._deadline(rig, identity, policy)
        result = self._result(rig, identity, (latency, memory, compared), (loop, recognized), deadline, link)
        result = replace(result, energy=energy, coding=coded)
        writer.copy(self.partial / "serial.log")
        result.write(writer.path / "result.json")
        junit.write(result, writer.path / "junit.xml")
        provenance.write(writer.path / "env.json", rig.emulator, self.port)
        return result

    def _build_id(self) -> str:
        """Of what was found on the board when this image was flashed, which an installed update can be."""
        of_this_image = self.flashed.manifest.inputs.get("image") == self.deployed.key
        return str(self.record["build_id"]) if of_this_image else ""

    def _require_environment(self) -> None:
        """Refuse gates on returns where there is nothing to play.

        :raises ConfigError: this model belongs to no environment
        """
        asked = self.config.min_return is not None or self.config.require_equivalence
        if asked and self.task.kind == "policy" and not self.task.plays:
            raise ConfigError(
                "no returns to judge: this model belongs to no environment",
                where=self.deployed.path,
                cure="leave out min_return and require_equivalence, or deploy what `policyport import` wrote",
            )

    def _require_meter(self) -> None:
        """Refuse what cannot be measured before anything is.

        :raises ConfigError: no such meter, or one at an emulated board
        """
        if not self.config.power_meter:
            return
        find_driver(self.config.power_meter.partition(":")[0])
        if not self.port:
            raise ConfigError(
                "an emulated board has no supply to measure",
                where="power_meter",
                got=self.config.power_meter,
                cure="name a real board's port with --port, or leave --power-meter out",
            )

    def _energy(self, bridge: Bridge, identity: Identity, writer: ArtifactWriter) -> EnergyFigures | None:
        config = self.config
        if not config.power_meter:
            return None
        q = self._inputs(config.latency_observations)
        return measure_energy(config.power_meter, config.energy_s, bridge, identity, q, writer.path / "power.npz")

    def _inputs(self, count: int) -> Integers:
        """[count, inputs]: the first held-out observations as the device gets them, fewer where there are fewer."""
        with np.load(self.deployed.file("observations.npz")) as arrays:
            held_out = arrays["held_out"][:count]
        return quantize_input(self.program, self.task.check_input(held_out))

    def _parity(self, bridge: Bridge, writer: ArtifactWriter) -> ParityFigures:
        q = self._inputs(self.config.parity_observations)
        with progress("parity", len(q)) as advance:
            figures = parity.compare(bridge, self.program, q, advance)
        kept = self.partial / "parity.json"
        parity.write(figures, kept)
        parity.require_equal(figures, kept)
        writer.copy(kept)
        return figures

    def _latency(self, rig: Rig, bridge: Bridge, identity: Identity, writer: ArtifactWriter) -> LatencyFigures:
        q = self._inputs(self.config.latency_observations)
        figures, counts = measure.measure_latency(bridge, rig, identity, self.program, q)
        with (writer.path / "latency.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["observation", rig.unit])
            rows.writerows(enumerate(counts.tolist()))
        return figures

    def _loop(self, policy: BoardPolicy, counted: Callable[[int], int], writer: ArtifactWriter) -> LoopFigures | None:
        config = self.config
        if config.episodes == 0:
            return None
        float32 = FloatPolicy(self.deployed.file("float.onnx"), self.task)
        recorded = "returns.json" in self.deployed.manifest.files
        margin = state_margin(config, float32, self.deployed.file("returns.json") if recorded else None)
        journal = self.partial / "episodes.jsonl"
        with progress("closed loop", config.episodes) as advance:
            episodes = run_episodes(policy, float32, config.episodes, config.seed, journal, advance)
        writer.copy(journal)
        delays = self._delays(policy, episodes, writer)
        return summarize_loop(self.task, episodes, margin.value, margin.basis, counted, delays)

    def _delays(self, policy: BoardPolicy, episodes: list[Episode], writer: ArtifactWriter) -> tuple[DelayFigures, ...]:
        """The loop again, with actions that come late."""
        asked = sorted({*self.config.delay_steps} - {0})
        if not asked:
            return ()
        journal = self.partial / "delays.jsonl"
        with progress("late actions", len(asked) * len(episodes)) as advance:
            delays = play_delayed(policy, asked, episodes, journal, advance)
        writer.copy(journal)
        return delays

    def _recognition(self, policy: BoardPolicy) -> RecognitionFigures | None:
        if self.config.pictures == 0:
            return None
        labels = read_labels(self.deployed.file(LABELS_FILE), self.task)
        with np.load(self.deployed.file("observations.npz")) as arrays:
            pictures = self.task.check_observation(arrays["held_out"])
        float32 = FloatPolicy(self.deployed.file("float.onnx"), self.task)
        count = min(self.config.pictures, len(labels))
        with progress("recognition", count) as advance:
            return recognize(policy, float32, pictures[:count], labels[:count], advance)

    def _held_out(self) -> HeldOut | None:
        """The pictures that an image encoder is judged on; None where the model is none, or none are asked for.

        :raises ConfigError: photographs for another kind of model, or such as it cannot be judged on
        """
        config = self.config
        if self.task.kind != "codec":
            if config.test_images is not None:
                raise ConfigError(
                    "photographs for a model that is no image encoder",
                    where="test_images",
                    expected="a model of policyport train codec",
                    got=f"a {self.task.kind}",
                )
            return None
        if config.pictures == 0 or not config.qualities:
            return None
        return held_out_pictures(self.deployed, config.test_images, config.pictures)

    def _coding(self, rig: Rig, bridge: Bridge, held_out: HeldOut, writer: ArtifactWriter) -> CodingFigures:
        kept = self.partial / "coded"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        coder = Coder(self.deployed, self.task)
        count = min(self.config.coded_files, len(held_out.pictures) * len({*self.config.qualities}))
        with progress("pictures", count) as advance:
            figures = code_pictures(bridge, rig, coder, held_out, self.config, kept, advance)
        shutil.copytree(kept, writer.path / "coded")
        return figures

    def _deadline(self, rig: Rig, identity: Identity, policy: BoardPolicy) -> Deadline | None:
        """Inferences of the closed loop against the control period; an emulated board has no seconds."""
        if rig.emulated or self.config.period_s == 0 or not policy.ticks:
            return None
        cycles = np.array([rig.instructions(ticks, identity.counter_overhead_ticks) for ticks in policy.ticks])
        seconds, there_and_back_s = cycles / identity.tick_hz, np.array(policy.round_trips_s or [0.0])
        p50_s, p99_s = np.percentile(there_and_back_s, [50, 99])
        return Deadline(
            period_s=self.config.period_s,
            inferences=len(seconds),
            missed=int((seconds > self.config.period_s).sum()),
            worst_s=float(seconds.max()),
            jitter_s=float(seconds.max() - seconds.min()),
            late=int((there_and_back_s > self.config.period_s).sum()),
            round_trip_p50_s=float(p50_s),
            round_trip_p99_s=float(p99_s),
            round_trip_worst_s=float(there_and_back_s.max()),
        )

    def _result(
        self,
        rig: Rig,
        identity: Identity,
        measured: tuple[LatencyFigures, MemoryFigures, ParityFigures],
        tasks: tuple[LoopFigures | None, RecognitionFigures | None],
        deadline: Deadline | None,
        link: LinkFigures,
    ) -> Result:
        latency, memory, compared = measured
        loop, recognized = tasks
        emulator = provenance.emulator_version(rig.emulator)
        board = BoardFigures(
            self.board.name,
            self.board.core,
            identity.clock_hz,
            rig.emulated,
            emulator,
            identity.counter,
            rig.unit,
        )
        verdicts = gates.judge(self.config, loop, recognized)
        estimated, why_not = self._estimate(rig)
        return Result(
            model=self.task.name,
            algorithm=self.task.algorithm,
            board=board,
            firmware=FirmwareFigures(identity.build_id, identity.model_sha256, identity.compiler, identity.protocol),
            latency=latency,
            memory=memory,
            footprint=self.footprint,
            parity=compared,
            loop=loop,
            deadline=deadline,
            link=link,
            gates=verdicts,
            gate=gates.verdict(verdicts),
            estimate=estimated,
            no_estimate=why_not,
            recognition=recognized,
        )

    def _estimate(self, rig: Rig) -> tuple[EstimateFigures | None, str]:
        """The cycle estimate, or why there is none: a real board is measured in cycles, and tools can be missing."""
        from policyport.hil.estimate import estimate

        if not rig.emulated:
            return None, f"the board itself counted {rig.unit}"
        files = self.deployed.file("firmware.elf"), self.flashed.path / "flash.bin"
        try:
            return estimate(self.board, *files, self.program, self._inputs(1)[0], rig.emulator), ""
        except ToolError as error:
            return None, error.what


def _port(config: HilConfig, record: dict[str, Any]) -> str:
    """The port of the board that was flashed, as it is plugged in now; empty for an emulated one.

    :param record: ``board.json`` of the flash artifact
    :raises ConfigError: a real board was flashed, and nothing says where its port is
    """
    name, id, port = record["board"], record.get("board_id") or "", record.get("port") or ""
    if config.port:
        return config.port
    if config.hardware_map is not None:
        entry = find_entry(config.hardware_map, name, config.board_id or id)
        id, port = entry.id, entry.serial
    found = port_now(name, id, port)
    if not found and record["runner"] != EMULATOR:
        raise ConfigError(
            "the image is on a real board, and its serial port is not known",
            where=name,
            cure="name it with --port URL, or in a hardware map with --hardware-map FILE",
        )
    return found
