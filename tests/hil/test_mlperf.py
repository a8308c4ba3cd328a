"""MLPerf Tiny's runner on emulated boards: its commands, the right results, times that grow with the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import serial
from mlperf_client import Client
from policyport.core.errors import ConfigError, ToolError, UnsupportedModelError
from policyport.core.semantics import quantize
from policyport.deploy import DeployConfig, FlashConfig, deploy, flash, reference
from policyport.deploy.board import load_board
from policyport.deploy.codegen import write_sources
from policyport.deploy.firmware import add_device_sources, build_firmware
from policyport.deploy.mlperf import add_mlperf, model_header, thousandths
from policyport.deploy.program import Program, dequantize_output
from policyport.deploy.toolchain import Toolchain, find_toolchain
from policyport.deploy.vectors import Spec, random_program
from policyport.hil.rig import open_rig
from policyport.hil.session import open_board
from policyport.pipeline.identify import running_build
from tiny import Built

BUILD = load_board("mps2-an386"), Toolchain("gcc", ("arm-none-eabi-gcc",), "any")
CLASSES, FRAME = Spec((12, 5), (8, 8), ("",)), Spec((12, 12), (8, 8), ("Tanh",))


@dataclass(frozen=True)
class Image:
    """A firmware that the runner drives."""

    program: Program
    bin: Path
    board: str


def build(folder: Path, model: str, spec: Spec, board: str = "mps2-an386", compiler: str = "auto") -> Image:
    program = random_program(spec, np.random.default_rng(3))
    try:
        toolchain = find_toolchain(compiler)
    except ToolError as error:
        pytest.skip(f"no ARM compiler: {error.what}")
    write_sources(program, load_board(board).variant, folder)
    add_device_sources(folder, load_board(board))
    add_mlperf(folder, program, model, load_board(board), toolchain)
    return Image(program, build_firmware(folder, load_board(board), toolchain, folder).bin, board)


@contextmanager
def client(image: Image, emulator: str) -> Iterator[Client]:
    board = load_board(image.board)
    with open_rig(board, image.bin, emulator=emulator) as rig, serial.serial_for_url(rig.url, timeout=20) as port:
        yield Client(port)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    specs = {"ic01": CLASSES, "kws01": CLASSES, "ad01": FRAME}
    return {model: build(tmp_path_factory.mktemp(model), model, spec) for model, spec in specs.items()}


@pytest.mark.parametrize("model", ["ic01", "kws01"])
def test_the_results_are_the_references(images: dict[str, Image], emulator: str, model: str) -> None:
    image = images[model]
    q = np.random.default_rng(1).integers(-128, 128, (3, 12))
    expected = dequantize_output(image.program, reference.run(image.program, q)[-1])
    with client(image, emulator) as runner:
        assert runner.ask("name") == ["m-name-dut-[mps2-an386]"]
        assert f"m-model-[{model}]" in runner.ask("profile")
        for row, wanted in zip(q, expected, strict=True):
            pixels = row + 128 if model == "ic01" else row
            runner.load(pixels.astype(np.uint8 if model == "ic01" else np.int8).tobytes())
            assert np.abs(np.subtract(runner.infer(1, 0).results, wanted)).max() <= 0.0005 + 1e-6


def test_the_anomaly_score_is_the_distance_from_the_input(images: dict[str, Image], emulator: str) -> None:
    program = images["ad01"].program
    generator = np.random.default_rng(2)
    with client(images["ad01"], emulator) as runner:
        for spread in (0.3, 1.0, 40.0):
            features = (generator.normal(0, spread, 12)).astype(np.float32)
            q = quantize(features[None], program.input.scale, program.input.zero_point, 8)
            output = dequantize_output(program, reference.run(program, q)[-1][0])
            runner.load(features.tobytes())
            (score,) = runner.infer(2, 1).results
            assert score == pytest.approx(np.mean((output - features) ** 2), rel=1e-4, abs=0.001)


def test_the_time_is_that_of_the_inferences(images: dict[str, Image], emulator: str) -> None:
    with client(images["kws01"], emulator) as runner:
        runner.load(bytes(12))
        laps = [runner.infer(count, 2) for count in (1000, 2000, 4000)]
    took = [lap.end_us - lap.begin_us for lap in laps]
    assert took[0] > 0 and took[2] - took[1] == pytest.approx(2 * (took[1] - took[0]), rel=0.02)
    assert [lap.end_us for lap in laps] == sorted(lap.end_us for lap in laps)


@pytest.mark.parametrize("board", ["microbit", "stm32f405", "pico"])
@pytest.mark.parametrize(("compiler", "model"), [("gcc", "ad01"), ("gcc", "kws01"), ("zig", "kws01")])
def test_it_runs_on_other_cores(tmp_path: Path, board: str, compiler: str, model: str) -> None:
    """Also on those that neither divide nor know floating point."""
    pytest.importorskip("unicorn", reason="the package unicorn is not installed")
    image = build(tmp_path, model, FRAME, board, compiler)
    with client(image, "unicorn") as runner:
        runner.load(bytes(48 if model == "ad01" else 12))
        assert len(runner.infer(1, 0).results) == (1 if model == "ad01" else 12)


def test_floating_point_without_a_unit_needs_gcc(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="zig has none"):
        build(tmp_path, "ad01", FRAME, "microbit", "zig")


@pytest.fixture(scope="module")
def driven(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy artifact of the tiny policy that the runner drives."""
    out = tmp_path_factory.mktemp("driven") / "deploy"
    deploy(built.quantized.path, DeployConfig(mlperf_tiny="cartpole"), out)
    return out


def test_one_image_answers_the_runner_and_the_bridge(driven: Path, tmp_path: Path) -> None:
    flash(driven, FlashConfig(), tmp_path / "flash", running_build)
    with open_board(driven) as board:
        outputs, _ = board.bridge.run_many(np.arange(8).reshape(2, 4))
        board.bridge.reset()
        assert board.bridge.hello().build_id == board.identity.build_id
        again, _ = board.bridge.run_many(np.arange(8).reshape(2, 4))
    assert np.array_equal(outputs, again)


def test_the_bridges_count_of_an_image_that_the_runner_drives_is_the_same(driven: Path, built: Built) -> None:
    counts = []
    for folder in (driven, built.image.path):
        with open_board(folder) as board:
            board.policy.predict(np.zeros(4, np.float32))
            counts += board.counts
    assert counts[0] == counts[1]


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    program = random_program(Spec((4, 2), (8, 8), ("",)), np.random.default_rng(0))
    with pytest.raises(UnsupportedModelError, match="compared with its input"):
        add_mlperf(tmp_path, program, "ad01", *BUILD)
    wide = random_program(Spec((4, 2), (16, 8), ("",)), np.random.default_rng(0))
    with pytest.raises(UnsupportedModelError, match="8 bits"):
        add_mlperf(tmp_path, wide, "vww01", *BUILD)
    large = replace(program, output=replace(program.output, scale=1e5))
    with pytest.raises(UnsupportedModelError, match="too large"):
        add_mlperf(tmp_path, large, "kws01", *BUILD)
    with pytest.raises(ConfigError, match="no name of a model"):
        add_mlperf(tmp_path, program, "my model", *BUILD)
    assert not list(tmp_path.iterdir())


def test_thousandths_are_the_scale() -> None:
    tensor = random_program(CLASSES, np.random.default_rng(0)).output
    for scale in (1 / 256, 3e-7, 0.36449846625328064, 900.0):
        mantissa, shift = thousandths(replace(tensor, scale=scale))
        assert mantissa < 2**31 and 1 <= shift <= 62
        assert mantissa * 2.0**-shift == pytest.approx(1000 * scale, rel=2**-29)


def test_the_header_names_the_model() -> None:
    assert '#define PP_MLPERF_MODEL "vww01"' in model_header(random_program(CLASSES, np.random.default_rng(0)), "vww01")
