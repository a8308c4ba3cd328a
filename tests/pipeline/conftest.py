"""Small stages that write real artifacts at once, and a run folder with a made-up measurement in it."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from policyport.core.artifact import Artifact, code_version, open_artifact, stage_key, write_artifact
from policyport.core.errors import GateError
from policyport.core.options import option, to_table
from policyport.hil.result import (
    BoardFigures,
    Distribution,
    FirmwareFigures,
    Gate,
    LatencyFigures,
    LayerParity,
    LayerShare,
    LinkFigures,
    LoopFigures,
    MemoryFigures,
    ParityFigures,
    Result,
)
from policyport.hil.statistics import Equivalence, Summary
from policyport.pipeline.stages import Stage


@dataclass(frozen=True)
class TrainConfig:
    seed: int = option(0, "a seed", low=0)
    agent: Path | None = option(None, "a file")


@dataclass(frozen=True)
class DeployConfig:
    board: str = option("mps2-an386", "a board")
    optimize: str = option("size", "what for", choices=("size", "speed"))


@dataclass(frozen=True)
class FlashConfig:
    board: str = option("mps2-an386", "a board")


@dataclass(frozen=True)
class HilConfig:
    episodes: int = option(20, "episodes", low=0)


@dataclass
class Stubs:
    """The stages, and what they did."""

    stages: tuple[Stage, ...]
    source: Path
    """The folder that is their code."""

    calls: list[str] = field(default_factory=list)
    fail: dict[str, BaseException] = field(default_factory=dict)
    """Stage to what it raises before it writes."""

    fail_gate: bool = False
    """Whether hil raises a GateError after it has written."""

    stale: str = ""
    """What the flash stage's checker says of a finished artifact."""


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    """Four stages: train, deploy (of train), flash (of deploy), hil (of deploy and flash)."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    (source / "code.py").write_text("version = 1")
    module: Any = types.ModuleType("stub_stages")
    module.CODE = (source,)
    module.TrainConfig, module.DeployConfig = TrainConfig, DeployConfig
    module.FlashConfig, module.HilConfig = FlashConfig, HilConfig
    inputs = {"train": {}, "deploy": {"model": "train"}, "flash": {"image": "deploy"}}
    inputs["hil"] = {"image": "deploy", "board": "flash"}
    stages = tuple(
        Stage(
            name,
            f"do {name}",
            f"stub_stages:{name}",
            f"stub_stages:{name.capitalize()}Config",
            "stub_stages:CODE",
            inputs=wanted,
            takes=dict.fromkeys(wanted, "a folder"),
            checker="stub_stages:check" if name == "flash" else "",
        )
        for name, wanted in inputs.items()
    )
    made = Stubs(stages, source)
    for name, wanted in inputs.items():
        setattr(module, name, _function(made, name, tuple(wanted)))
    module.check = lambda config, out: made.stale
    monkeypatch.setitem(sys.modules, "stub_stages", module)
    return made


def _function(made: Stubs, name: str, names: tuple[str, ...]) -> Callable[..., Artifact]:
    def run(*arguments: Any) -> Artifact:
        *paths, config, out = arguments
        made.calls.append(name)
        keys = {key: open_artifact(path).key for key, path in zip(names, paths, strict=True)}
        if isinstance(config, TrainConfig) and config.agent is not None:
            from policyport.core.artifact import sha256_file

            keys["agent"] = sha256_file(config.agent)
        code, partial = code_version(made.source), out.with_name(out.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        (partial / "key").write_text(stage_key(name, keys, to_table(config), code))
        if name in made.fail:
            raise made.fail[name]
        with write_artifact(out, name, inputs=keys, config=to_table(config), code=code) as writer:
            (writer.path / f"{name}.txt").write_text(name)
            writer.figures["mean_return"] = 500.0
        (partial / "key").unlink()
        partial.rmdir()
        if name == "hil" and made.fail_gate:
            raise GateError("1 of 1 gates failed; first: min_return")
        return open_artifact(out, name)

    return run


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe of the given text."""

    def write(text: str, name: str = "job") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return path

    return write


RESULT = Result(
    model="PPO-CartPole-v1",
    algorithm="PPO",
    board=BoardFigures("mps2-an386", "cortex-m4f", 25_000_000, True, "qemu 7.2.22", "systick", "instructions"),
    firmware=FirmwareFigures("0123456789abcdef" * 2, "ab" * 32, "gcc <12>", 1),
    latency=LatencyFigures(
        Distribution(4, 11020, 11022, 11028, 11028, 11028, 11023.0),
        (LayerShare("layer1.tanh", 11000, 0.99), LayerShare("other", 22, 0.01)),
        12,
        True,
    ),
    memory=MemoryFigures(4096, 712, 3000, 400),
    footprint={},
    parity=ParityFigures(64, True, (LayerParity("layer1.tanh", 64, 16, 4096, 4096),), None),
    loop=LoopFigures(
        environment="CartPole-v1",
        episodes=2,
        first_seed=1000,
        steps=998,
        board_returns=(500.0, 498.0),
        float_returns=(500.0, 500.0),
        board=Summary(2, 499.0, 1.4, 498.0, 500.0),
        float32=Summary(2, 500.0, 0.0, 500.0, 500.0),
        margin_basis="given by the margin option",
        equivalence=Equivalence(5.0, -1.0, -3.0, 1.0, 0.01, True),
        agreement=0.9985,
        action_error=0.0015,
        output_error=0.01,
    ),
    deadline=None,
    link=LinkFigures(0, 1100, 115200),
    gates=(Gate("min_agreement", "at least 0.9900", "0.9985", True),),
    gate="passed",
)
"""A measurement of nothing."""


@pytest.fixture
def measurement() -> Result:
    """A measurement of nothing."""
    return RESULT


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """:func:`write_measurement`"""
    return write_measurement


def write_measurement(folder: Path, result: Result = RESULT, files: dict[str, str] | None = None) -> Path:
    """A train, a quantize, a deploy and a hil artifact in ``folder``, each the ancestor of the next.

    :param files: further files of the hil artifact
    :returns: the hil artifact's folder
    """
    keys: dict[str, str] = {}
    chain = {"train": {}, "quantize": {"model": "train"}, "deploy": {"model": "quantize"}, "hil": {"image": "deploy"}}
    for kind, sources in chain.items():
        inputs = {name: keys[source] for name, source in sources.items()}
        with write_artifact(folder / kind, kind, inputs=inputs, config={"seed": 7, "kind": kind}, code="c") as writer:
            if kind == "train":
                (writer.path / "curve.csv").write_text("steps,mean_return\n5000,109.5\n10000,500.0\n")
                writer.tools["torch"] = "2.13.0"
            if kind == "quantize":
                writer.figures.update(weight_bytes=5000, float_bytes=18440)
            if kind == "hil":
                result.write(writer.path / "result.json")
                counts = "".join(f"{number},{count}\n" for number, count in enumerate([11020, 11022, 11022, 11028]))
                (writer.path / "latency.csv").write_text(f"observation,instructions\n{counts}")
                for name, content in (files or {}).items():
                    (writer.path / name).write_text(content)
        keys[kind] = json.loads((folder / kind / "manifest.json").read_text())["key"]
    return folder / "hil"
