"""Pictures to a board: a little codec is trained and compiled, and the same bytes come from numpy, C and the board."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from policyport.core.artifact import open_artifact
from policyport.core.codec_file import pack_picture
from policyport.core.codec_picture import blocks_of, shown, whole_blocks
from policyport.core.errors import ObservationError, UnsupportedModelError
from policyport.deploy.board import load_board
from policyport.deploy.codec_host import HostCodec
from policyport.deploy.codec_sources import check_encoder
from policyport.deploy.program import read_program
from policyport.firmware_bridge.client import Bridge
from policyport.hil.codec import PictureDecoder, PictureEncoder
from policyport.hil.rig import EmulatedRig
from policyport.pipeline.cli import main
from policyport.pipeline.codec_rates import Point, bd_rate, measure, measure_peers

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
        Image.fromarray(picture(seed, 96, 96)).save(folder / f"images/{seed}.png")
    (folder / "codec.toml").write_text(RECIPE.replace("IMAGES", str(folder / "images")))
    assert main(["run", str(folder / "codec.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def encoder(run: Path) -> PictureEncoder:
    return PictureEncoder.open(open_artifact(run / "deploy", "deploy"))


def test_the_run_measures_a_block(run: Path) -> None:
    result = json.loads((run / "hil/result.json").read_text())
    assert result["parity"]["equal"] and result["loop"] is None and result["recognition"] is None
    program = read_program(run / "deploy")
    assert (program.input.scale, program.input.zero_point, program.output.bits) == (1 / 64, 0, 16)


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
