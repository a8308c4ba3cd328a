"""Pictures to a board: a little codec is trained and compiled, and the same bytes come from numpy, C and the board."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from policyport.core.artifact import open_artifact
from policyport.core.codec_file import pack_picture
from policyport.core.codec_model import CODES_FILE, CoderModel
from policyport.core.codec_picture import blocks_of, shown, whole_blocks
from policyport.core.errors import ConfigError, ObservationError, ParityError, UnsupportedModelError
from policyport.deploy.board import load_board
from policyport.deploy.codec_host import HostCodec
from policyport.deploy.codec_sources import check_encoder
from policyport.deploy.lower import lower
from policyport.deploy.program import read_program
from policyport.firmware_bridge.client import Bridge
from policyport.hil import HilConfig, hil
from policyport.hil.codec import PictureDecoder, PictureEncoder, decibels, squared_error
from policyport.hil.held_out import middle
from policyport.hil.result import Result
from policyport.hil.rig import EmulatedRig
from policyport.hil.stage import machine_inputs
from policyport.pipeline import codec_figures, codec_rates
from policyport.pipeline.cli import main
from policyport.pipeline.codec_rates import Point, bd_rate, measure, measure_peers
from policyport.pipeline.compare_metric import QUALITY

pytest.importorskip("torch")
pytest.importorskip("skimage")

WIDTH = 48

RECIPE = f"""
name = "pictures"
[train]
task = "codec"
packages_root = "nowhere"
images = "IMAGES"
channels = 12
decoder_width = 9
loss = "mse"
steps = 6
batch = 2
crop = 48
evaluate_every = 3
calibration_blocks = 64
held_out_blocks = 16
[quantize]
activations = "int8"
method = "nearest"
[deploy]
picture_width = {WIDTH}
[hil]
parity_observations = 2
latency_observations = 2
pictures = 3
qualities = [3, 9]
coded_files = 4
"""


def picture(seed: int, height: int, width: int, grey: bool = False) -> NDArray[np.uint8]:
    """Waves and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = 128 + 90 * np.sin(y[..., None] * random.uniform(0, 1, 3) + x[..., None] * random.uniform(0, 1, 3))
    noisy = np.clip(waves + random.normal(0, random.uniform(0, 60), (height, width, 3)), 0, 255).astype(np.uint8)
    return noisy[..., 0] if grey else noisy


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codec")
    (folder / "images").mkdir()
    for seed in range(3):
        Image.fromarray(picture(seed, 168, 168)).save(folder / f"images/{seed}.png")
    (folder / "codec.toml").write_text(RECIPE.replace("IMAGES", str(folder / "images")))
    assert main(["run", str(folder / "codec.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def encoder(run: Path) -> PictureEncoder:
    return PictureEncoder.open(open_artifact(run / "deploy", "deploy"))


def test_the_run_measures_a_block(run: Path) -> None:
    result = json.loads((run / "hil/result.json").read_text())
    assert result["parity"]["equal"] and result["loop"] is None and result["recognition"] is None
    assert not (run / "hil.partial").exists()
    program = read_program(run / "deploy")
    assert (program.input.scale, program.input.zero_point, program.output.bits) == (1 / 64, 0, 16)


def test_the_run_codes_whole_pictures(run: Path, encoder: PictureEncoder) -> None:
    coding = Result.read(run / "hil/result.json").coding
    assert coding is not None and coding.pictures == 3 and [row.quality for row in coding.qualities] == [3, 9]
    with np.load(run / "deploy/pictures.npz") as stored:
        middles = {name: middle(picture, 36, WIDTH) for name, picture in stored.items()}
    assert len({file.picture for file in coding.files}) == 3 and len(coding.files) == 4
    for file in coding.files:
        data = (run / f"hil/coded/{file.picture}-{file.quality}.ppc").read_bytes()
        assert data == encoder.encode(middles[file.picture], file.quality) and len(data) == file.file_bytes
        assert (file.width, file.height) == (WIDTH, 36) and 100 < file.per_pixel < 1000
    coarse, fine = coding.qualities
    assert coarse.board.bits_per_pixel < fine.board.bits_per_pixel and coarse.board.psnr_db < fine.board.psnr_db
    assert abs(coarse.float32.psnr_db - coarse.board.psnr_db) < 0.5 and coarse.board.ms_ssim is None
    shown = np.array(Image.open(run / "hil/coded/quality-9.png"))
    first = next(iter(middles.values()))
    np.testing.assert_array_equal(
        shown, PictureDecoder(run / "deploy").decode(encoder.encode(first, 9), "a picture")[0]
    )
    page = (run / "report/report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "bytes as the reference" in page


def test_a_board_at_a_port_codes_pictures_too(run: Path, tmp_path: Path) -> None:
    with EmulatedRig(load_board("mps2-an386"), run / "flash/flash.bin") as rig:
        config = HilConfig(
            parity_observations=1, latency_observations=1, qualities=(5,), coded_files=1, pictures=1, port=rig.url
        )
        artifact = hil(run / "deploy", run / "flash", config, tmp_path / "hil")
    result = Result.read(artifact.file("result.json"))
    assert result.coding is not None and not result.board.emulated and result.board.unit == "cycles"
    assert len(result.coding.files) == 1 and result.coding.files[0].count > 0


def test_a_byte_that_differs_stops_the_stage_and_is_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = PictureEncoder.encode_on_board

    def altered(*arguments: Any) -> tuple[bytes, int]:
        data, ticks = right(*arguments)
        return data[:40] + bytes([data[40] ^ 1]) + data[41:], ticks

    monkeypatch.setattr(PictureEncoder, "encode_on_board", altered)
    config = HilConfig(parity_observations=1, latency_observations=1, qualities=(9,), pictures=1)
    with pytest.raises(ParityError, match=r"-9\.ppc, byte 40") as caught:
        hil(run / "deploy", run / "flash", config, tmp_path / "hil")
    assert caught.value.exit_code == 4 and not (tmp_path / "hil").exists()
    (kept,) = (tmp_path / "hil.partial").rglob("*-9.ppc")
    reference = kept.with_name(f"{kept.stem}.reference.ppc").read_bytes()
    assert [at for at, pair in enumerate(zip(kept.read_bytes(), reference, strict=True)) if pair[0] != pair[1]] == [40]


def test_photographs_of_a_folder_are_judged(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(picture(50, 170, 200)).save(folder / "one.png")
    Image.fromarray(picture(51, 180, 170, grey=True)).save(folder / "more/two.png")
    few = HilConfig(parity_observations=1, latency_observations=1, qualities=(5,), coded_files=1, test_images=folder)
    artifact = hil(run / "deploy", run / "flash", few, tmp_path / "hil")
    coding = Result.read(artifact.file("result.json")).coding
    assert coding is not None and coding.pictures == 2 and coding.source == f"photographs of {folder}"
    assert coding.files[0].picture == "more/two" and artifact.file("coded/more/two-5.ppc").is_file()
    Image.fromarray(picture(9, 200, 200)).save(folder / "further.png")
    assert machine_inputs(few, run / "flash")["test_images"] != artifact.manifest.inputs["test_images"]
    Image.open(run.parent / "images/0.png").save(folder / "again.bmp")
    with pytest.raises(ConfigError, match="a test photograph that the codec was trained on"):
        hil(run / "deploy", run / "flash", few, tmp_path / "other")
    Image.fromarray(picture(52, 160, 200)).save(folder / "low.png")
    with pytest.raises(ConfigError, match="too small to be judged"):
        hil(run / "deploy", run / "flash", few, tmp_path / "other")


def test_training_on_a_held_out_photograph_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from policyport.train.codec.photographs import test_paths

    (tmp_path / "images").mkdir()
    Image.open(test_paths()[0]).save(tmp_path / "images/renamed.bmp")  # the same pixels in another file
    line = ["train", "codec", "--images", str(tmp_path / "images"), "--steps", "1", "--out", str(tmp_path / "train")]
    assert main(line) == 2
    assert "a test photograph that the codec was trained on" in capsys.readouterr().err


def test_c_codes_as_numpy_does(run: Path, encoder: PictureEncoder) -> None:
    compiler = shutil.which("gcc")
    flags = ("-O1", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error") if compiler else ()
    with HostCodec(run / "deploy/src", (compiler,) if compiler else None, flags) as host:

        @settings(max_examples=25)
        @given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, WIDTH), st.integers(0, 15), st.booleans())
        def equal(seed: int, height: int, width: int, quality: int, grey: bool) -> None:
            given_picture = picture(seed, height, width, grey)
            parts = host.encode(given_picture, quality)
            header = encoder.header(given_picture, quality)
            assert pack_picture(header, parts) == encoder.encode(given_picture, quality)

        equal()
        with pytest.raises(ObservationError, match="too wide"):
            host.encode(picture(0, 8, WIDTH + 1), 3)


def test_the_board_codes_as_numpy_does(run: Path, encoder: PictureEncoder) -> None:
    with (
        EmulatedRig(load_board("mps2-an386"), run / "flash/flash.bin") as rig,
        Bridge.open(rig.url) as bridge,
    ):
        for seed, (height, width) in enumerate(((24, 48), (13, 21), (1, 1), (40, 33))):
            given_picture = picture(seed, height, width, grey=seed == 3)
            for quality in (0, 15):
                data, ticks = encoder.encode_on_board(bridge, given_picture, quality)
                assert data == encoder.encode(given_picture, quality) and ticks > 0
        with pytest.raises(ObservationError, match="does not take"):
            encoder.encode_on_board(bridge, picture(0, 8, WIDTH + 1), 3)


def test_methods_are_compared_by_decoded_pictures(run: Path, tmp_path: Path) -> None:
    line = [
        "quantize",
        str(run / "train"),
        "--compare",
        "--compare-methods",
        "nearest",
        "--compare-bits",
        "8",
        "2",
        "-q",
    ]
    assert main([*line, "--activations", "int8", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["metric_name"] == f"PSNR in dB at quality {QUALITY}"
    half, eight, two = found["cells"]
    assert (half["method"], half["bits"]) == ("fp16", 16)
    assert half["metric"] == pytest.approx(found["float_metric"], abs=0.01)
    assert eight["metric"] == pytest.approx(found["float_metric"], abs=0.01)
    assert eight["bits_per_pixel"] == pytest.approx(found["float_bits_per_pixel"], rel=0.01)
    assert two["metric"] < eight["metric"] - 0.1 and two["bits_per_pixel"] > 1.03 * eight["bits_per_pixel"]
    artifact = open_artifact(tmp_path / "nearest-8", "quantize")
    encoder = PictureEncoder(lower(artifact.file("model.onnx")), CoderModel.read(artifact.file(CODES_FILE)))
    decoder, rows = PictureDecoder(artifact.path), []
    with np.load(artifact.file("pictures.npz")) as pictures:
        for each in pictures.values():
            data = encoder.encode(each, QUALITY)
            quality = decibels(squared_error(decoder.decode(data, "memory")[0], each))
            rows.append((quality, 8 * len(data) / each[..., 0].size))
    assert (eight["metric"], eight["bits_per_pixel"]) == pytest.approx(np.mean(rows, axis=0), rel=1e-4)


def test_commands_code_and_decode(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown_picture = picture(7, 30, 45)
    Image.fromarray(shown_picture).save(tmp_path / "in.png")
    model = ["--model", str(run)]
    for more in ([], ["--on-board"]):
        assert main(["encode", str(tmp_path / "in.png"), str(tmp_path / f"{len(more)}.ppc"), *model, *more]) == 0
    coded = (tmp_path / "0.ppc").read_bytes()
    assert coded == (tmp_path / "1.ppc").read_bytes()
    assert main(["decode", str(tmp_path / "0.ppc"), str(tmp_path / "out.png"), *model]) == 0
    assert np.array(Image.open(tmp_path / "out.png")).shape == shown_picture.shape
    (tmp_path / "cut.ppc").write_bytes(coded[:-5])
    capsys.readouterr()
    assert main(["decode", str(tmp_path / "cut.ppc"), str(tmp_path / "cut.png"), *model]) == 0
    assert "less detail" in capsys.readouterr().err and (tmp_path / "cut.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "nowhere.png", "out.ppc"], "no picture that reads"),
        (["encode", "in.png", "out.ppc", "--quality", "16"], "no such quality"),
        (["encode", "in.png", "out.ppc", "--model", "nowhere"], "no image encoder here"),
        (["decode", "nowhere.ppc", "out.png"], "no such file"),
        (["decode", "in.png", "out.png"], "no coded picture"),
    ],
)
def test_what_is_no_picture_is_refused(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(7, 30, 45)).save("in.png")
    model = [] if "--model" in arguments else ["--model", str(run)]
    assert main([*arguments, *model]) != 0
    assert words in capsys.readouterr().err


def test_another_network_is_no_encoder(run: Path, encoder: PictureEncoder) -> None:
    import dataclasses

    program = read_program(run / "deploy")
    other = dataclasses.replace(program, input=dataclasses.replace(program.input, zero_point=1))
    with pytest.raises(UnsupportedModelError, match="no encoder"):
        check_encoder(other, encoder.coder)


def test_rates_of_codecs(run: Path, encoder: PictureEncoder) -> None:
    pictures = {"one": picture(3, 170, 176)}
    ours = measure(encoder, PictureDecoder(run / "deploy"), pictures)
    assert ours[0].bits_per_pixel < ours[-1].bits_per_pixel and ours[0].psnr_db < ours[-1].psnr_db
    peers = measure_peers(pictures)
    assert {"JPEG", "JPEG, optimised", "WebP"} <= {point.codec for point in peers}


def test_half_the_bits_are_half_the_rate() -> None:
    def curve(share: float) -> list[Point]:
        return [Point("x", i, share * 0.1 * 2**i, 25.0 + 2 * i, 0.9, 50.0) for i in range(5)]

    def psnr(point: Point) -> float:
        return point.psnr_db

    whole = bd_rate(curve(0.5), curve(1.0), psnr, (26, 32))
    assert whole is not None and (whole.percent, whole.low, whole.high) == (pytest.approx(-50), 26, 32)
    part = bd_rate(curve(0.5), curve(1.0), psnr, (20, 32))
    assert part is not None and (part.percent, part.low, part.high) == (pytest.approx(-50), 25, 32)
    assert bd_rate(curve(0.5), curve(1.0), psnr, (10, 32)) is None


@given(st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_blocks_hold_the_whole_picture(height: int, width: int, grey: bool) -> None:
    given_picture = picture(height * 31 + width, height, width, grey)
    whole = whole_blocks(given_picture)
    assert whole.shape[0] % 8 == 0 and whole.shape[1] % 8 == 0 and len(blocks_of(whole)) == whole[..., 0].size // 64
    planes = whole.transpose(2, 0, 1).astype(np.float32)
    np.testing.assert_array_equal(shown(planes, height, width, grey), given_picture)


def test_the_tables_are_of_the_photographs_that_are_given(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ssimulacra2")
    monkeypatch.setattr(codec_figures, "VARIANTS", {"8 bits": "."})
    monkeypatch.setattr(codec_rates, "PEER_QUALITIES", (5, 60))
    (tmp_path / "clic").mkdir()
    Image.fromarray(picture(60, 170, 180)).save(tmp_path / "clic/lake.png")
    page = tmp_path / "page.md"
    page.write_text("<!-- figures:codec -->\n<!-- /figures:codec -->\n")
    line = [str(page), "--run", str(run), "--test-images", str(tmp_path / "clic"), "--study", str(tmp_path / "none")]
    assert codec_figures.main(line) == 0
    assert "1 photograph that nothing was trained on (lake)" in page.read_text()
    assert len(list(run.glob("rates-*.html"))) == 1 and not (run / "rates.html").exists()
    Image.open(run.parent / "images/1.png").save(tmp_path / "clic/pond.bmp")
    with pytest.raises(ConfigError, match=r"trained on .*pond\.bmp"):
        codec_figures.main(line)
