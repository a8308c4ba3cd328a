"""Profiles of real firmware: the sum is the firmware's own count, and both emulators agree on every jump."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from policyport.core.artifact import Artifact
from policyport.core.errors import ProtocolError, ToolError
from policyport.core.task import Environment, Task
from policyport.deploy import DeployConfig, deploy
from policyport.deploy.board import load_board
from policyport.deploy.program import read_program
from policyport.hil import profiler, qemu_board, tcg_plugin
from policyport.hil.estimate import OTHER, estimate
from policyport.hil.execution_profile import Markers, Region, read_regions, sum_by_function
from policyport.hil.profiler import profile_firmware
from policyport.hil.rig import EmulatedRig
from policyport.quantize import QuantizeConfig, quantize

MODEL = """<ir_version: 10, opset_import: ["" : 18]>
profiled (float[N,3] observation) => (float[N,2] output)
<float[4,3] w1 = {0.5, -1, 0.25, 1, 0.1, -0.3, 0.7, 0.2, -0.6, -0.9, 0.4, 0.8}, float[4] b1 = {0.1, 0, -0.1, 0.2},
 float[2,4] w2 = {1, -0.5, 0.3, 0.2, -0.7, 0.6, 0.1, -1}, float[2] b2 = {0, 0.1}>
{
  hidden = Gemm<transB = 1>(observation, w1, b1)
  activated = Relu(hidden)
  output = Gemm<transB = 1>(activated, w2, b2)
}"""
INPUT = np.array([17, -5, 99])
BOARDS = {"mps2-an386": "dsp kernels", "microbit": "C kernels, Armv6-M"}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized network 3-4-2."""
    folder = tmp_path_factory.mktemp("model")
    onnx.save(onnx.parser.parse_model(MODEL), folder / "policy.onnx")
    rows = np.random.default_rng(0).uniform(-1, 1, (64, 3)).astype(np.float32)
    np.savez(folder / "observations.npz", observations=rows[:32], held_out=rows[32:])
    Task("policy", "profiled", Environment("CartPole-v1"), 3, (-2.0,) * 3, (2.0,) * 3, 2, "argmax").write(
        folder / "task.json"
    )
    return quantize(folder / "policy.onnx", QuantizeConfig(activations="int8"), folder / "quantize").path


@pytest.fixture(scope="module", params=BOARDS)
def firmware(quantized: Path, request: pytest.FixtureRequest) -> Artifact:
    """Its firmware for a board."""
    out = quantized.with_name(f"deploy-{request.param}")
    return deploy(quantized, DeployConfig(board=request.param), out)


def profile(firmware: Artifact, emulator: str) -> profiler.Profile:
    board = load_board(firmware.manifest.figures["board"])
    return profile_firmware(board, firmware.file("firmware.elf"), firmware.file("firmware.bin"), INPUT, 2, emulator)


def test_the_profile_adds_up_to_what_the_firmware_counts(firmware: Artifact, emulator: str) -> None:
    """profile_firmware itself compares with the firmware's counter; here: with the rig's, and by function."""
    found = profile(firmware, emulator)
    total = found.instructions(found.inference)
    assert total > sum(found.instructions(layer) for layer in found.layers) // 2 > 0
    by_function = sum_by_function(found.inference.counts, found.code)
    assert sum(by_function.values()) == found.inference.region.executed
    assert "" not in by_function and "pp_infer" in by_function


def test_both_emulators_record_the_same(firmware: Artifact) -> None:
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    if not qemu_board.machines():
        pytest.skip("qemu-system-arm is not installed")
    one, other = profile(firmware, "unicorn"), profile(firmware, "qemu")
    assert one.inference.region == other.inference.region
    assert [layer.region for layer in one.layers] == [layer.region for layer in other.layers]
    assert one.overhead.region == other.overhead.region


def test_a_profile_that_contradicts_the_counter_is_refused(
    firmware: Artifact, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmulatedRig, "instructions", lambda rig, ticks, overhead: 4711)
    with pytest.raises(ProtocolError, match="4711"):
        profile(firmware, emulator)


def test_a_firmware_without_a_counter_is_refused(firmware: Artifact, tmp_path: Path) -> None:
    stripped = tmp_path / "other.elf"
    content = firmware.file("firmware.elf").read_bytes().replace(b"pp_counter_now", b"pp_counter_off")
    stripped.write_bytes(content)
    with pytest.raises(ToolError, match="no function pp_counter_now"):
        Markers.of_firmware(stripped)


class TestPlugin:
    """How the plugin is built and offered to QEMU."""

    @pytest.fixture(autouse=True)
    def _qemu(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        if not qemu_board.machines():
            pytest.skip("qemu-system-arm is not installed")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache, with a comma"))
        tcg_plugin.build_plugin.cache_clear()

    def test_it_is_built_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = tcg_plugin.build_plugin(qemu_board.QEMU)
        assert library.is_relative_to(tmp_path)
        assert list(library.parent.iterdir()) == [library]
        tcg_plugin.build_plugin.cache_clear()
        built = library.stat().st_mtime_ns
        assert tcg_plugin.build_plugin(qemu_board.QEMU).stat().st_mtime_ns == built
        assert tcg_plugin.takes_plugins(qemu_board.QEMU)

    def test_it_takes_the_least_interface_that_qemu_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []
        library = tcg_plugin._library

        def note(compiler: tuple[str, ...], interface: int, plugin: tcg_plugin.Plugin) -> Path:
            asked.append(interface)
            return library(compiler, interface, plugin)

        def newer(qemu: str, path: Path, plugin: tcg_plugin.Plugin) -> str:
            too_old = "plugin requires API version 1, but this QEMU supports only a minimum version of 4"
            return too_old if len(asked) == 1 else "tcg_plugin: no markers"

        monkeypatch.setattr(tcg_plugin, "_library", note)
        monkeypatch.setattr(tcg_plugin, "_probe", newer)
        tcg_plugin.build_plugin(qemu_board.QEMU)
        assert asked == [1, 4]

    def test_a_qemu_that_takes_no_plugin_is_said_to_be_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcg_plugin, "_probe", lambda *arguments: "-plugin: invalid option")
        assert not tcg_plugin.takes_plugins(qemu_board.QEMU)
        with pytest.raises(ToolError, match="invalid option") as caught:
            tcg_plugin.build_plugin(qemu_board.QEMU)
        assert "--emulator unicorn" in str(caught.value)

    def test_an_interface_from_the_future_is_refused_by_qemu(self) -> None:
        library = tcg_plugin._library(("cc",), 99, tcg_plugin.PROFILER)
        assert "requires API version 99" in tcg_plugin._probe(qemu_board.QEMU, library, tcg_plugin.PROFILER)

    @pytest.mark.parametrize("source", [tcg_plugin.SOURCE, tcg_plugin.COUNTER.source], ids=lambda path: path.stem)
    def test_it_compiles_without_a_warning(self, tmp_path: Path, source: Path) -> None:
        flags = [*tcg_plugin.FLAGS, "-Wshadow", "-Wpedantic", "-Wstrict-prototypes"]
        subprocess.run(["cc", *flags, str(source), "-o", str(tmp_path / "plugin.so")], check=True)


def test_a_torn_file_of_regions_is_no_region(tmp_path: Path) -> None:
    Region(3, 0x10, 0x14, {}).write(tmp_path)
    with (tmp_path / "regions.txt").open("a") as stream:
        stream.write("region 5 10 14\n14 10 1\n")
    assert len(read_regions(tmp_path)) == 1


def test_the_estimate_splits_the_inference(firmware: Artifact, emulator: str) -> None:
    pytest.importorskip("capstone", reason="the package capstone is not installed")
    board, program = load_board(firmware.manifest.figures["board"]), read_program(firmware.path)
    files = firmware.file("firmware.elf"), firmware.file("firmware.bin")
    found = estimate(board, *files, program, INPUT, emulator)
    assert found.instructions <= found.cycles <= 4 * found.instructions
    assert [row.name for row in found.layers] == [*(layer.name for layer in program.layers), OTHER]
    assert [(row.macs, row.weights) for row in found.layers] == [(12, 12), (8, 8), (0, 0)]
    assert sum(row.instructions for row in found.layers) == found.instructions
    assert sum(row.cycles for row in found.layers) == found.cycles
    assert sum(row.share for row in found.layers) == pytest.approx(1, abs=1e-3)
    assert sum(row.instructions for row in found.functions) > found.instructions
    assert found.functions[0].name.startswith("pp_") and found.functions[0].cycles > 0


def test_a_core_without_rules_has_no_estimate(firmware: Artifact) -> None:
    board, program = load_board("mps3-an547"), read_program(firmware.path)
    files = firmware.file("firmware.elf"), firmware.file("firmware.bin")
    with pytest.raises(ToolError, match="no timing rules"):
        estimate(board, *files, program, INPUT, "auto")
