"""A board that this process does not own: an emulated one behind a network port stands in its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from policyport.core.errors import ToolError
from policyport.deploy import runners
from policyport.deploy.board import load_board
from policyport.hil.rig import EmulatedRig, choose_emulator
from policyport.pipeline.bench_networks import NETWORKS, write_network
from policyport.pipeline.cli import main


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of integers."""
    folder = tmp_path_factory.mktemp("real")
    network = next(network for network in NETWORKS if network.id == "cartpole-relu")
    model = write_network(network, folder / "float")
    assert main(["quantize", str(model), "--method", "nearest", "--out", str(folder / "quantize"), "-q"]) == 0
    return folder / "quantize"


@pytest.fixture(scope="module")
def built(quantized: Path) -> Path:
    """A firmware with it for the STM32F405."""
    return deploy(quantized, quantized.with_name("deploy"))


def deploy(quantized: Path, out: Path, *more: str) -> Path:
    assert main(["deploy", str(quantized), "--board", "stm32f405", "--out", str(out), "-q", *more]) == 0
    return out


@pytest.fixture
def hardware_map(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A map with the one board that runs that firmware; openocd is a stand-in that finds the right chip."""
    board = load_board("stm32f405")
    try:
        choose_emulator(board, "auto")
    except ToolError as error:
        pytest.skip(error.what)
    openocd = tmp_path / "tools" / "openocd"
    openocd.parent.mkdir()
    openocd.write_text(f"#!{sys.executable}\nprint('0xe0042000: 10076413')\n")
    openocd.chmod(0o755)
    monkeypatch.setattr(runners, "attached_probes", lambda board: [])
    path = tmp_path / "map.toml"
    with EmulatedRig(board, built / "firmware.bin", link="socket") as rig:
        path.write_text(f'[[boards]]\nboard = "stm32f405"\nserial = "{rig.url}"\nprobe_id = "0670FF"\n')
        monkeypatch.setenv("PATH", str(openocd.parent), prepend=":")
        yield path


def test_flash_and_hil_find_the_board_by_the_map(built: Path, hardware_map: Path, tmp_path: Path) -> None:
    flashed, measured = tmp_path / "flash", tmp_path / "hil"
    assert main(["flash", str(built), "--hardware-map", str(hardware_map), "--out", str(flashed), "-q"]) == 0
    record = json.loads((flashed / "board.json").read_text())
    assert record["runner"] == "openocd" and record["port"].startswith("socket://")
    flags = ("--episodes", "0", "--parity-observations", "2", "--latency-observations", "4", "-q")
    assert main(["hil", str(built), str(flashed), "--out", str(measured), *flags]) == 0
    result = json.loads((measured / "result.json").read_text())
    assert result["parity"]["equal"] and not result["board"]["emulated"]
    stated = ("--hardware-map", str(hardware_map), "--out", str(tmp_path / "again"))
    assert main(["hil", str(built), str(flashed), *stated, *flags]) == 0


def test_another_firmware_answers(
    quantized: Path, hardware_map: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = deploy(quantized, tmp_path / "deploy", "--variant", "c"), tmp_path / "flash"
    assert main(["flash", str(other), "--hardware-map", str(hardware_map), "--out", str(out), "-q"]) == 4
    assert "the board runs another firmware than the one that was flashed" in capsys.readouterr().err
    assert not out.exists()


def test_a_dry_run_prints_and_runs_nothing(
    built: Path, hardware_map: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "flash"
    arguments = ["flash", str(built), "--hardware-map", str(hardware_map), "--out", str(out)]
    assert main([*arguments, "--dry-run"]) == 0
    check, write = capsys.readouterr().out.splitlines()
    assert check.startswith("openocd ") and "'adapter serial 0670FF'" in check
    assert write.endswith(f"-c 'program {built.resolve()}/firmware.elf verify reset exit'")
    assert not out.exists()
    assert main(["flash", str(built), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("# stm32f405 is emulated")


def test_a_board_that_got_an_update_is_measured(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image that runs is another build than the deploy artifact's, of the same integers."""
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    pytest.importorskip("cryptography", reason="signing needs policyport[update]")
    key, update, factory = tmp_path / "key", tmp_path / "update.ppu", tmp_path / "factory.bin"
    assert main(["keys", "new", str(key)]) == 0
    sign = ["sign", str(built), "--key", str(key), "--version-number", "3"]
    assert main([*sign, "--out", str(update), "--factory", str(factory)]) == 0
    with EmulatedRig(load_board("stm32f405"), factory, "unicorn", link="socket", keep=True) as rig:
        flash = ["flash", str(built), "--port", rig.url, "--runner", "none", "--out", str(tmp_path / "flash")]
        assert main(flash) == 4
        assert "--installed" in capsys.readouterr().err
        assert main([*flash, "--installed", str(update)]) == 0
        hil = ["hil", str(built), str(tmp_path / "flash"), "--port", rig.url]
        few = ["--episodes", "1", "--latency-observations", "4", "--parity-observations", "2", "-q"]
        assert main([*hil, *few, "--out", str(tmp_path / "hil")]) == 0
        bench = ["hil", "bench", str(built), "--board", f"left={rig.url}", "--installed", str(update)]
        assert main([*bench, "--latency-observations", "4", "--out", str(tmp_path / "bench"), "-q"]) == 0
    result = json.loads((tmp_path / "hil" / "result.json").read_text())
    assert result["parity"]["equal"]
    assert result["firmware"]["build_id"] != json.loads((built / "manifest.json").read_text())["figures"]["build_id"]
