"""What a budget counts by on a board, beside what that board's firmware takes in an emulator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from policyport.core.artifact import open_artifact
from policyport.core.errors import ConfigError, ToolError
from policyport.deploy.board import Board, load_board
from policyport.deploy.codegen import Optimize, write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.lower import lower
from policyport.deploy.program import Program
from policyport.deploy.toolchain import find_toolchain
from policyport.deploy.vectors import random_inputs
from policyport.firmware_bridge.client import Bridge
from policyport.hil.rig import EmulatedRig, choose_emulator
from policyport.pipeline.bench_networks import Conv, Dense, Network, Pool, Residual, write_network
from policyport.pipeline.board_cost import BoardCost
from policyport.pipeline.cli import main
from policyport.pipeline.recipe import read_recipe
from policyport.quantize.budget import Budget
from policyport.quantize.config import QuantizeConfig
from policyport.quantize.cost_table import CostTable
from policyport.quantize.layer_data import nearest
from policyport.quantize.network import QuantizedNetwork
from policyport.quantize.ptq import quantize_graph
from policyport.quantize.qdq import write_qdq
from policyport.quantize.sensitivity import candidates
from policyport.quantize.source import open_source
from policyport.quantize.stage import quantize
from policyport.quantize.widths import total, within

BOARDS = ("microbit", "mps2-an385", "mps2-an386", "mps2-an505", "mps3-an547", "raspberrypi3", "raspberrypi5")
"""A Cortex-M0, M3, M4, M33 and M55, an A53 and an A76."""

IMAGES = Network(
    "images",
    "every kind of kernel",
    (4, 12, 12),
    (
        Conv(16),
        Conv(0, depthwise=True),
        Conv(16, (1, 1)),
        Residual((Conv(16), Conv(16, function=""))),
        Pool(2),
        Dense(24, "Tanh"),
        Dense(5, ""),
    ),
)
POLICY = Network("policy", "fully connected", (12,), (Dense(64), Dense(64, "Tanh"), Dense(4, "")))

WIDTHS: dict[str, tuple[Network, tuple[int, ...], tuple[int, ...]]] = {
    "images": (IMAGES, (8,), (8,)),
    "images, mixed": (IMAGES, (4, 8, 4, 3, 8, 2, 4), (8, 16, 8)),
    "policy": (POLICY, (8,), (8,)),
    "policy, mixed": (POLICY, (4, 2, 3), (16, 8)),
}
"""Network, and widths of weights and of activations, again and again from the first layer and tensor on."""


def network(case: str, folder: Path) -> QuantizedNetwork:
    given, weights, activations = WIDTHS[case]
    source = open_source(write_network(given, folder))
    layers = [node.name for node in source.graph.weighted]
    tensors = [source.graph.input_name, *(node.name for node in source.graph.nodes)]
    config = QuantizeConfig(
        method="nearest",
        layer_weight_bits=tuple(f"{name}={weights[i % len(weights)]}" for i, name in enumerate(layers)),
        layer_activation_bits=tuple(f"{name}={activations[i % len(activations)]}" for i, name in enumerate(tensors)),
    )
    return quantize_graph(source.graph, source.observations[:64], config, 8)


def taken(program: Program, board: Board, optimize: Optimize, folder: Path) -> tuple[int, dict[str, int]]:
    """Instructions of an inference in an emulator, and what the firmware takes."""
    (folder / "src").mkdir()
    write_sources(program, board.variant, folder / "src", optimize)
    add_device_sources(folder / "src", board)
    try:
        choose_emulator(board, "auto")
        firmware = build_firmware(folder / "src", board, find_toolchain("auto", board.linux), folder)
    except ToolError as error:
        pytest.skip(error.what)
    image = firmware.elf if board.linux else firmware.bin
    q = random_inputs(program, 1, np.random.default_rng(0))[0]
    with EmulatedRig(board, image) as rig, Bridge.open(rig.url, timeout_s=60) as bridge:
        overhead = bridge.hello().counter_overhead_ticks
        return rig.instructions(bridge.infer(q).ticks, overhead), firmware.footprint


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, QuantizedNetwork]:
    return {case: network(case, tmp_path_factory.mktemp("network")) for case in WIDTHS}


def check(network: QuantizedNetwork, name: str, optimize: Optimize, folder: Path, share: float) -> None:
    """Instructions within a share of what is executed, the arena to the byte, constants but for the structs."""
    board, model = load_board(name), BoardCost(name, optimize)
    write_qdq(network, folder / "model.onnx")
    instructions, footprint = taken(lower(folder / "model.onnx"), board, optimize, folder)
    expected = total(model, network)
    assert expected.instructions == pytest.approx(instructions, rel=share)
    assert model.ram_bytes(network) == footprint["arena_bytes"]
    # The structs of each layer and the program's hash are constants beside those that a choice of widths changes.
    rest = footprint["policy_constant_bytes"] - expected.flash_bytes
    assert 0 <= rest <= 64 + 120 * (len(network.nodes) + 1)


@pytest.mark.parametrize("name", BOARDS)
def test_costs_are_near_what_the_firmware_takes(
    networks: dict[str, QuantizedNetwork], name: str, tmp_path: Path
) -> None:
    check(networks["images, mixed"], name, "size", tmp_path, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("optimize", ["size", "speed"])
@pytest.mark.parametrize("case", WIDTHS)
@pytest.mark.parametrize("name", BOARDS)
def test_costs_are_near_whatever_is_deployed(
    networks: dict[str, QuantizedNetwork], name: str, case: str, optimize: Optimize, tmp_path: Path
) -> None:
    check(networks[case], name, optimize, tmp_path, 0.2)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_network(POLICY, tmp_path / "model")


def test_a_budget_is_kept_by_what_the_board_takes(policy: Path) -> None:
    source, config = open_source(policy), QuantizeConfig(method="nearest", activations="int8")

    def whole(chosen: QuantizeConfig) -> QuantizedNetwork:
        return quantize_graph(source.graph, source.observations, chosen, 16)

    for name in ("microbit", "mps2-an386", "raspberrypi5"):
        model = BoardCost(name)
        budget = Budget(flash_bytes=5000, ram_bytes=400)
        found = within(source, config, budget, model, nearest, whole)
        assert total(model, found.network).flash_bytes == found.cost.flash_bytes <= 5000
        assert model.ram_bytes(found.network) == found.ram_bytes <= 400
        assert found.costs == model.version and name in found.costs
        quick = Budget(instructions=found.cost.instructions)
        assert within(source, config, quick, model, nearest, whole).cost.instructions <= quick.instructions


def test_cores_differ_in_what_a_width_takes(policy: Path) -> None:
    """Plain C unpacks three bits on a Cortex-M3, at seven times the instructions of four; a Cortex-M4 has kernels."""
    source, config = open_source(policy), QuantizeConfig()
    choices = candidates(source.graph, config, (4, 3), (8,))
    middle = source.graph.weighted[1].name
    ratios = {}
    for name in ("mps2-an385", "mps2-an386"):
        layers = CostTable(source.graph, source.observations, config, choices, BoardCost(name)).layers
        assert layers[middle, 3, 8].flash_bytes < layers[middle, 4, 8].flash_bytes
        ratios[name] = layers[middle, 3, 8].instructions / layers[middle, 4, 8].instructions
    assert ratios["mps2-an385"] > 5 and ratios["mps2-an386"] == pytest.approx(1, abs=0.2)


def test_the_command_takes_a_board(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quantize"
    line = ["quantize", str(policy), "--flash-budget", "4000", "--method", "nearest", "--activations", "int8"]
    assert main([*line, "--board", "mps2-an386", "--out", str(out)]) == 0
    artifact, costs = open_artifact(out, "quantize"), BoardCost("mps2-an386").version
    assert artifact.manifest.inputs["costs"] == costs
    table = json.loads((out / "widths.json").read_text())
    assert table["costs"] == costs and table["got"]["flash_bytes"] <= 4000
    capsys.readouterr()
    assert main([*line, "--board", "mps2-an386", "--out", str(out)]) == 0
    assert open_artifact(out, "quantize").key == artifact.key and "skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--board", "mps2-an386"], "without a budget"),
        (["--board", "mps2-an387", "--flash-budget", "4K"], "unknown board"),
        (["--board", "microbit", "--flash-budget", "100"], "no choice of widths is within"),
    ],
)
def test_what_no_board_can_hold(
    policy: Path, more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["quantize", str(policy), "--method", "nearest", "--activations", "int8", "--out", str(tmp_path / "out")]
    assert main([*line, *more]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_budgets_for_the_board_that_it_deploys_to(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        '[train]\nenvironment = "CartPole-v1"\n[deploy]\nboard = "microbit"\noptimize = "speed"\n'
        '[variants.small.quantize]\nflash_budget = "4K"\n'
        '[variants.other.quantize]\nflash_budget = "4K"\nboard = "mps2-an386"\n'
    )
    whole = read_recipe(path)
    small, other = whole.variants
    assert whole.configs["quantize"] == QuantizeConfig()
    assert (small.configs["quantize"].board, small.configs["quantize"].optimize) == ("microbit", "speed")
    assert (other.configs["quantize"].board, other.configs["quantize"].optimize) == ("mps2-an386", "size")


def test_the_stage_alone_knows_no_board(policy: Path, tmp_path: Path) -> None:
    config = QuantizeConfig(flash_budget="4K", board="microbit")
    with pytest.raises(ConfigError, match="nobody says what this board takes"):
        quantize(policy, config, tmp_path / "out")
