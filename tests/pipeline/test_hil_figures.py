"""Tables of docs/hil.md: from what the commands wrote, and from emulated boards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from policyport.core.errors import ToolError
from policyport.deploy import DeployConfig, deploy
from policyport.deploy.toolchain import find_toolchain
from policyport.hil.session import open_board
from policyport.pipeline import hil_figures
from policyport.pipeline.bench_networks import NETWORKS, write_network
from policyport.pipeline.cli import main as policyport
from policyport.quantize import QuantizeConfig, quantize

PAGE = "# Page\n\n" + "".join(
    f"<!-- figures:{name} -->\nold {name}\n<!-- /figures:{name} -->\n\n"
    for name in ("faults", "kills", "link", "scaling")
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small policy's deploy folder."""
    folder = tmp_path_factory.mktemp("hil-figures")
    try:
        find_toolchain()
    except ToolError as error:
        pytest.skip(f"no ARM compiler: {error.what}")
    model = write_network(next(network for network in NETWORKS if network.id == "cartpole-relu"), folder / "float")
    quantized = quantize(model, QuantizeConfig(method="nearest"), folder / "quantize")
    return deploy(quantized.path, DeployConfig(), folder / "deploy").path


def test_a_campaigns_result_becomes_a_table(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for seed in (11, 12):
        assert policyport(["hil", "faults", str(image), "--frames", "150", "--seed", str(seed), "--json"]) == 0
        files.append(tmp_path / f"{seed}.json")
        files[-1].write_text(capsys.readouterr().out)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    hil_figures.main([str(page), "--faults", *map(str, files)])
    text = page.read_text()
    one, other = (json.loads(file.read_text()) for file in files)
    total = one["frames"] + other["frames"]
    assert "| | seed 11 | seed 12 | all |" in text
    assert f"| frames, either way | {one['frames']:,} | {other['frames']:,} | {total:,} |" in text
    assert "| **with a wrong answer** | 0 | 0 | 0 |" in text and "mps2-an386" in text
    assert "old faults" not in text and "old kills" in text and "old link" in text


def test_kills_become_a_table(tmp_path: Path) -> None:
    page, kills = tmp_path / "page.md", tmp_path / "kills.json"
    page.write_text(PAGE)
    kills.write_text(json.dumps({"killed": {"train": 30, "hil": 20}, "completed": 12}))
    hil_figures.main([str(page), "--kills", str(kills)])
    assert "| hil | 20 |\n| all | 50 |\n\n12 runs completed" in page.read_text()


def test_the_link_and_the_loop_are_measured(image: Path) -> None:
    with open_board(image) as board:
        before = board.bridge.round_trips
        speed = hil_figures.link_speed(board, rounds=2, round_trips=20)
        assert board.bridge.round_trips - before == 80
        table = hil_figures.link_table(speed, board.rig.emulator, 0.5)
    assert speed.bare > 0 and speed.loop > 0
    assert f"{100 * speed.loop / speed.bare:.0f} % of the bare link" in table


def test_the_scaling_table() -> None:
    table = hil_figures.scaling_table({1: 8.0, 2: 4.0}, 0.25)
    assert "| 2 | 4.0 | 2.00 |" in table and "load average of 0.2" in table
