"""The hil stage with real firmware on emulated boards: figures, repeats, errors, resuming."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from policyport.core.artifact import Artifact, open_artifact, write_artifact
from policyport.core.errors import (
    BoardBusyError,
    BoardError,
    BoardFaultError,
    BoardTimeoutError,
    ConfigError,
    GateError,
    IdentityError,
    ObservationError,
    ParityError,
    ToolError,
)
from policyport.core.task import Environment, Task
from policyport.deploy import DeployConfig, FlashConfig, deploy, flash
from policyport.deploy.board import load_board
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.host import HostLibrary
from policyport.deploy.program import quantize_input, read_program
from policyport.deploy.toolchain import find_toolchain
from policyport.firmware_bridge.client import Bridge
from policyport.hil import HilConfig, campaign, hil, parity, provenance, qemu_board, qemu_user_board, rig
from policyport.hil.margin import FRESH_SEEDS, RANDOM_EPISODES, random_returns
from policyport.hil.policy import BoardPolicy, FloatPolicy, HostPolicy, ReferencePolicy
from policyport.hil.result import Result
from policyport.hil.rig import EmulatedRig
from policyport.hil.stage import machine_inputs
from policyport.quantize import QuantizeConfig, quantize
from tiny import SHORT, Built


def with_emulator(emulator: str, **changes: Any) -> HilConfig:
    values = {"episodes": 2, "parity_observations": 5, "latency_observations": 12, "emulator": emulator}
    return HilConfig(**(values | changes))


def test_everything_is_measured_and_written(built: Built, emulator: str, tmp_path: Path) -> None:
    artifact = built.run(tmp_path / "hil", with_emulator(emulator))
    result = Result.read(artifact.file("result.json"))
    assert result.board.emulated and result.board.unit == "instructions"
    assert result.board.emulator.startswith(emulator)
    assert result.board.counter == {"unicorn": "dwt", "qemu": "systick"}[emulator]
    assert result.firmware.build_id == built.image.manifest.figures["build_id"]
    assert result.parity.equal and result.parity.observations == 5
    layers = read_program(built.image.path).layers
    assert [row.compared for row in result.parity.layers] == [5 * layer.output.size for layer in layers]
    inference = result.latency.inference
    assert 100 < inference.min <= inference.p50 <= inference.p99 <= inference.max < 5000
    assert sum(row.count for row in result.latency.layers) == inference.p50
    assert result.latency.layers[-1].name == "other" and abs(result.latency.layers[-1].share) < 0.15
    assert 64 < result.memory.stack_used_bytes < result.memory.stack_bytes
    assert result.memory.arena_bytes == result.footprint["arena_bytes"] > 0
    assert result.loop is not None and result.loop.episodes == 2
    assert result.loop.agreement > 0.6 and result.loop.board.mean > 50
    assert (result.loop.fewest, result.loop.most) == (inference.min, inference.max)
    assert result.loop.board_success is None and result.loop.delays == ()
    assert result.deadline is None and result.link.resends == 0 and result.gate == "none"
    for name in ("episodes.jsonl", "latency.csv", "parity.json", "env.json", "junit.xml", "serial.log", "task.json"):
        artifact.file(name)
    assert len(artifact.file("latency.csv").read_text().splitlines()) == 13
    assert ET.parse(artifact.file("junit.xml")).getroot().get("failures") == "0"
    assert json.loads(artifact.file("env.json").read_text())["emulated"] is True
    assert artifact.file("serial.log").read_text().count(" > ") >= result.link.round_trips
    assert not (tmp_path / "hil.partial").exists()


def test_the_margin_is_that_of_training_where_its_returns_were_carried(built: Built, tmp_path: Path) -> None:
    model = shutil.copytree(built.quantized.path.parent / "model", tmp_path / "model")
    (model / "returns.json").write_text(json.dumps({"returns": [20.0, 60.0]}))
    quantized = quantize(model / "policy.onnx", QuantizeConfig(), tmp_path / "quantize")
    image = deploy(quantized.path, DeployConfig(), tmp_path / "deploy")
    flashed = flash(image.path, FlashConfig(), tmp_path / "flash")
    loop = Result.read(hil(image.path, flashed.path, SHORT, tmp_path / "hil").file("result.json")).loop
    assert loop is not None
    by_chance = random_returns(Task.read(model / "task.json").environment, SHORT.seed + FRESH_SEEDS, RANDOM_EPISODES)
    assert loop.equivalence.margin == pytest.approx(0.05 * (40.0 - by_chance.mean()))
    assert "in the 2 of training's own evaluation" in loop.margin_basis


def counts(built: Built, emulator: str, out: Path) -> tuple[list[str], list[int]]:
    artifact = built.run(out, with_emulator(emulator, episodes=0))
    result = Result.read(artifact.file("result.json"))
    return artifact.file("latency.csv").read_text().splitlines(), [row.count for row in result.latency.layers]


def test_counts_repeat_exactly_from_start_to_start(built: Built, emulator: str, tmp_path: Path) -> None:
    assert counts(built, emulator, tmp_path / "first") == counts(built, emulator, tmp_path / "second")


@pytest.mark.parametrize("board", ["mps2-an386", "stm32f405"])
def test_one_image_counts_the_same_in_both_emulators(built: Built, board: str, tmp_path: Path) -> None:
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    if load_board(board).qemu_machine not in qemu_board.machines():
        pytest.skip("qemu-system-arm is not installed, or does not know the machine")
    image = deploy(built.quantized.path, DeployConfig(board=board), tmp_path / "deploy")
    flashed = flash(image.path, FlashConfig(board=board), tmp_path / "flash")
    here = SimpleNamespace(run=lambda out, config: hil(image.path, flashed.path, config, out))
    in_qemu, in_unicorn = (counts(here, name, tmp_path / name) for name in ("qemu", "unicorn"))  # type: ignore[arg-type]
    assert in_qemu == in_unicorn


SPIN = """
#include "pp_bridge.h"
#include "pp_counter.h"
#include "pp_frame.h"

/* 0x40: the ticks of as many rounds of 102 instructions as the payload says. */
pp_status_t pp_user_request(uint8_t type, const uint8_t *payload, size_t payload_bytes, uint8_t *reply,
                            size_t *reply_bytes) {
    (void)type;
    (void)payload_bytes;
    uint32_t rounds = pp_get32(payload);
    const uint32_t begin = pp_counter_begin();
    __asm volatile("1:\\n .rept 100\\n nop\\n .endr\\n subs %0, #1\\n bne 1b" : "+l"(rounds) : : "cc");
    pp_put32(reply, pp_counter_now() - begin);
    *reply_bytes = 4u;
    return PP_OK;
}
"""


@pytest.mark.parametrize("board", ["mps2-an386", "stm32f405"])
def test_a_measurement_of_many_wraps_counts_no_wrap(built: Built, board: str, emulator: str, tmp_path: Path) -> None:
    described = load_board(board)
    source = shutil.copytree(built.image.path / "src", tmp_path / "src")
    (source / "cmsdk_uart.c").unlink()
    add_device_sources(source, described)
    (source / "pp_zz_spin.c").write_text(SPIN)
    firmware = build_firmware(source, described, find_toolchain(), tmp_path)
    rounds = (0, 1, 130_000)
    with EmulatedRig(described, firmware.bin, emulator) as rig, Bridge.open(rig.url, timeout_s=60) as bridge:
        overhead = bridge.hello().counter_overhead_ticks
        ticks = [int.from_bytes(bridge.user(0x40, (1 + more).to_bytes(4, "little")), "little") for more in rounds]
        empty, one, many = (rig.instructions(count, overhead) for count in ticks)
    assert one - empty == 102
    assert many - empty == 102 * 130_000 > 13_000_000
    if emulator == "qemu":
        assert ticks[-1] >> 24 > 2, "it wraps too seldom to show anything"


def test_another_firmware_on_the_board_is_refused(built: Built, other: Built, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="flash again") as caught:
        built.run(tmp_path / "hil", board=other.flashed.path)
    assert built.image.manifest.figures["build_id"] in str(caught.value.expected)
    assert other.image.manifest.figures["build_id"] in str(caught.value.got)
    assert caught.value.exit_code == 4 and not (tmp_path / "hil").exists()


def test_a_failed_gate_leaves_a_complete_artifact(built: Built, tmp_path: Path) -> None:
    config = with_emulator("auto", episodes=1, min_return=1e6)
    with pytest.raises(GateError, match="min_return") as caught:
        built.run(tmp_path / "hil", config)
    assert caught.value.exit_code == 1
    artifact = open_artifact(tmp_path / "hil", "hil")
    assert Result.read(artifact.file("result.json")).gate == "failed"
    assert ET.parse(artifact.file("junit.xml")).getroot().get("failures") == "1"


def test_a_difference_stops_the_stage_and_is_kept(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = parity.reference.run

    def wrong(*arguments: Any) -> Any:
        outputs = right(*arguments)
        outputs[0][2, 3] += 1
        return outputs

    monkeypatch.setattr(parity.reference, "run", wrong)
    with pytest.raises(ParityError, match=r"observation 2, layer 0 .*, index 3"):
        built.run(tmp_path / "hil")
    kept = json.loads((tmp_path / "hil.partial" / "parity.json").read_text())
    assert kept["first_mismatch"]["index"] == 3 and not (tmp_path / "hil").exists()


def test_an_interrupted_run_resumes(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built.run(tmp_path / "whole", with_emulator("auto", episodes=3))
    played: list[int] = []
    play = campaign.run_episodes

    def interrupted(board: Any, float32: Any, episodes: int, *rest: Any) -> Any:
        play(board, float32, 1, *rest)
        raise KeyboardInterrupt

    def counted(board: Any, *rest: Any) -> Any:
        episodes = play(board, *rest)
        played.append(len(board.ticks))
        return episodes

    monkeypatch.setattr(campaign, "run_episodes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        built.run(tmp_path / "hil", with_emulator("auto", episodes=3))
    monkeypatch.setattr(campaign, "run_episodes", counted)
    resumed = built.run(tmp_path / "hil", with_emulator("auto", episodes=3))
    steps = [json.loads(line)["steps"] for line in resumed.file("episodes.jsonl").read_text().splitlines()]
    assert played == [steps[1] + steps[2]]
    assert resumed.file("episodes.jsonl").read_text() == whole.file("episodes.jsonl").read_text()


def erased(folder: Path, flashed: Artifact) -> Path:
    """The flash artifact of a board whose flash is empty."""
    with write_artifact(folder, "flash", inputs=flashed.manifest.inputs, config={}, code="") as writer:
        writer.copy(flashed.file("board.json"))
        (writer.path / "flash.bin").write_bytes(b"\xff" * 4096)
    return folder


def test_a_board_that_dies_says_why(built: Built, emulator: str, tmp_path: Path) -> None:
    config = with_emulator(emulator, timeout_s=0.3, retries=1)
    with pytest.raises(BoardFaultError, match=f"mps2-an386 in {emulator}") as caught:
        built.run(tmp_path / "hil", config, erased(tmp_path / "erased", built.flashed))
    assert caught.value.got and caught.value.exit_code == 3


def test_no_emulator_is_a_missing_tool(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_board, "machines", frozenset)
    with pytest.raises(ToolError, match="qemu-system-arm"):
        built.run(tmp_path / "hil", with_emulator("qemu"))


def test_an_unknown_environment_is_a_configuration_error(built: Built, tmp_path: Path) -> None:
    task = Task.read(built.image.file("task.json"))
    changed = Task(**{**task.__dict__, "environment": Environment("NoSuchThing-v0")})
    image = built.image
    with write_artifact(tmp_path / "image", "deploy", inputs={}, config={}, code="") as writer:
        writer.figures.update(image.manifest.figures)
        for name in image.manifest.files:
            writer.copy(image.file(name), name)
        changed.write(writer.path / "task.json")
    with pytest.raises(ConfigError, match="NoSuchThing-v0"):
        hil(tmp_path / "image", built.flashed.path, SHORT, tmp_path / "hil")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo terminals")
class TestPort:
    """A board that somebody else runs, at a port."""

    def test_a_port_that_nobody_serves_times_out(self, built: Built, tmp_path: Path) -> None:
        master, slave = os.openpty()
        try:
            config = HilConfig(port=os.ttyname(slave), timeout_s=0.05, retries=2)
            with pytest.raises(BoardTimeoutError, match="3 attempts") as caught:
                built.run(tmp_path / "hil", config)
        finally:
            os.close(master)
            os.close(slave)
        assert caught.value.exit_code == 3
        assert (tmp_path / "hil.partial" / "serial.log").read_text().count(" > ") == 3

    def test_a_port_that_another_process_holds_names_it(self, built: Built, tmp_path: Path) -> None:
        hold = "import sys, time; from policyport.core.port_lock import PortLock\n"
        hold += "lock = PortLock(sys.argv[1]); lock.acquire(0); print('held', flush=True); time.sleep(60)"
        master, slave = os.openpty()
        port = os.ttyname(slave)
        try:
            with subprocess.Popen([sys.executable, "-c", hold, port], stdout=subprocess.PIPE) as holder:
                assert holder.stdout is not None and holder.stdout.readline()
                try:
                    with pytest.raises(BoardBusyError, match=f"pid {holder.pid}"):
                        built.run(tmp_path / "hil", HilConfig(port=port, timeout_s=0.05))
                finally:
                    holder.kill()
        finally:
            os.close(master)
            os.close(slave)

    def test_a_real_board_has_cycles_and_deadlines(self, built: Built, emulator: str, tmp_path: Path) -> None:
        flash_bin = built.flashed.file("flash.bin")
        with EmulatedRig(load_board("mps2-an386"), flash_bin, emulator) as rig:
            config = HilConfig(**{**SHORT.__dict__, "port": rig.url, "period_s": 1e-9, "episodes": 1})
            if emulator == "qemu":
                config = HilConfig(**{**config.__dict__, "period_s": 10.0})
            result = Result.read(built.run(tmp_path / "hil", config).file("result.json"))
        assert not result.board.emulated and result.board.unit == "cycles" and result.board.emulator == ""
        assert result.loop is not None and result.deadline is not None
        assert result.deadline.inferences == result.loop.steps
        assert result.deadline.missed == (0 if emulator == "qemu" else result.loop.steps)
        assert result.deadline.late == result.deadline.missed
        assert 0 < result.deadline.round_trip_p50_s <= result.deadline.round_trip_p99_s
        assert result.deadline.round_trip_p99_s <= result.deadline.round_trip_worst_s
        assert 0 <= result.deadline.jitter_s < result.deadline.worst_s


def test_late_actions_are_played_and_kept(built: Built, tmp_path: Path) -> None:
    artifact = built.run(tmp_path / "hil", with_emulator("auto", episodes=2, delay_steps=(0, 12)))
    loop = Result.read(artifact.file("result.json")).loop
    assert loop is not None
    (late,) = loop.delays
    assert late.delay_steps == 12 and late.board.mean < loop.board.mean and late.loss.count == 2
    rows = [json.loads(line) for line in artifact.file("delays.jsonl").read_text().splitlines()]
    assert tuple(row["board_return"] for row in rows) == late.returns


@pytest.fixture(scope="module")
def policies(built: Built) -> Any:
    """The same policy on a board, on the host, by the reference and in float32."""
    program, task = read_program(built.image.path), Task.read(built.image.file("task.json"))
    rig = EmulatedRig(load_board("mps2-an386"), built.flashed.file("flash.bin"))
    with rig, Bridge.open(rig.url) as bridge, HostLibrary(built.image.path / "src") as library:
        yield SimpleNamespace(
            bridge=bridge,
            program=program,
            board=BoardPolicy(bridge, program, task),
            host=HostPolicy(library, program, task),
            reference=ReferencePolicy(program, task),
            float32=FloatPolicy(built.image.file("float.onnx"), task),
        )


def test_board_host_and_reference_give_equal_outputs(policies: Any) -> None:
    observations = np.random.default_rng(9).uniform(-0.15, 0.15, (70, 4)).astype(np.float32)
    expected = policies.reference.outputs(observations)
    assert np.array_equal(policies.board.outputs(observations), expected)
    assert np.array_equal(policies.host.outputs(observations), expected)
    assert np.abs(policies.float32.outputs(observations) - expected).max() < 0.05
    one = np.concatenate([policies.board.outputs(row[None]) for row in observations[:5]])
    assert np.array_equal(one, expected[:5])
    q = quantize_input(policies.program, observations)
    assert np.array_equal(policies.board.integers(q), policies.reference.integers(q))


@pytest.mark.parametrize(
    "observation", [np.full(4, np.nan), np.array([0, 0, np.inf, 0]), np.zeros(3), np.zeros((2, 5))]
)
def test_a_bad_observation_is_not_sent_to_the_board(policies: Any, observation: np.ndarray) -> None:
    before = policies.bridge.round_trips
    with pytest.raises(ObservationError):
        policies.board.predict(observation)
    assert policies.bridge.round_trips == before


def test_evaluate_policy_runs_unchanged_on_the_board(policies: Any) -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation", reason="stable-baselines3 is not installed")
    import gymnasium
    from stable_baselines3.common.monitor import Monitor

    def lengths(policy: Any) -> list[int]:
        environment = Monitor(gymnasium.make("CartPole-v1", max_episode_steps=60))
        environment.reset(seed=11)
        played: list[int] = evaluation.evaluate_policy(policy, environment, 2, return_episode_rewards=True)[1]
        return played

    assert lengths(policies.board) == lengths(policies.reference)


def test_the_port_of_a_real_board(tmp_path: Path) -> None:
    """As stated, as the map says, as flash left it; a real board is never taken for an emulated one."""
    path = tmp_path / "map.toml"
    path.write_text('[[boards]]\nboard = "stm32f405"\nserial = "socket://rig:1"\n')
    record = {"board": "stm32f405", "runner": "openocd", "port": "/dev/ttyACM7", "board_id": None}
    assert campaign._port(HilConfig(port="/dev/ttyACM0", hardware_map=path), record) == "/dev/ttyACM0"
    assert campaign._port(HilConfig(hardware_map=path), record) == "socket://rig:1"
    assert campaign._port(HilConfig(), record) == "/dev/ttyACM7"
    assert campaign._port(HilConfig(), record | {"runner": "emulator", "port": None}) == ""
    with pytest.raises(ConfigError, match="its serial port is not known"):
        campaign._port(HilConfig(), record | {"port": None})
    with pytest.raises(BoardError, match="not plugged in"):
        campaign._port(HilConfig(), record | {"board_id": "no such serial number"})


def flashed(folder: Path, board: str, runner: str = "emulator") -> Path:
    """As the flash stage writes it, of a firmware that is none."""
    with write_artifact(folder / f"{board}-{runner}", "flash", inputs={}, config={}, code="") as writer:
        writer.figures.update({"board": board, "runner": runner})
    return folder / f"{board}-{runner}"


def test_the_key_knows_the_emulator_that_runs_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_board, "machines", lambda: frozenset({"mps2-an386"}))
    monkeypatch.setattr(qemu_user_board, "is_installed", lambda: True)
    monkeypatch.setattr(rig.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(provenance, "emulator_version", lambda emulator: f"{emulator} 1.0")
    modelled, unmodelled = flashed(tmp_path, "mps2-an386"), flashed(tmp_path, "stm32f103")
    assert machine_inputs(HilConfig(), modelled) == {"emulator": "qemu 1.0"}
    assert machine_inputs(HilConfig(emulator="unicorn"), modelled) == {"emulator": "unicorn 1.0"}
    assert machine_inputs(HilConfig(), unmodelled) == {"emulator": "unicorn 1.0"}
    assert machine_inputs(HilConfig(emulator="qemu"), unmodelled) == {"emulator": "none"}
    assert machine_inputs(HilConfig(), flashed(tmp_path, "raspberrypi3")) == {"emulator": "qemu-user 1.0"}
    assert machine_inputs(HilConfig(), tmp_path / "not yet") == {"emulator": "none"}


def test_the_key_of_a_real_board_knows_no_emulator(tmp_path: Path) -> None:
    assert machine_inputs(HilConfig(), flashed(tmp_path, "stm32f405", "openocd")) == {}
    assert machine_inputs(HilConfig(port="/dev/ttyACM0"), flashed(tmp_path, "stm32f405")) == {}
